"""Family ``star_domain``: the inside of r < radius (1 + c1 cos(k1 t) + c2 cos(k2 t) + ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.options import numbers, whole_numbers
from shapewright.geometries.family.parts import FamilyError, Parameter, Rays
from shapewright.geometries.family.spline import Curve


def star_domain(
    waves: Sequence[int] = (4, 8), amplitude: float = 0.2, radius: float = 1.0, control_points: int = 128
) -> Family:
    """A waved disc, by a periodic cubic B-spline that passes through it at the angles 2 pi j / n.

    In complex numbers the outline is exp(it) (1 + sum c_k cos(k t)), whose harmonics 1, 1 + k and 1 - k a B-spline
    damps at its knots by (2 + cos(2 pi m / n)) / 3: dividing by it gives the control points. Between the knots the
    outline is met to 2e-5 radii by 128 control points for 4 and 8 waves, to fourth order in their number.

    Args:
        waves: numbers of waves around, each 2 or more.
        amplitude: bound of every coefficient; their sum is less than 1.
        radius: of the disc, length unit.
        control_points: n, at least six for the shortest harmonic.
    """
    if not isinstance(waves, list | tuple):
        raise FamilyError(f"star_domain: option waves is {waves!r}; allowed is a list of whole numbers of 2 or more")
    whole_numbers("star_domain", control_points=control_points, **{f"waves[{k}]": w for k, w in enumerate(waves)})
    numbers("star_domain", amplitude=amplitude, radius=radius)
    if not waves or min(waves) < 2:
        raise FamilyError(f"star_domain: waves is {list(waves)}; allowed are whole numbers of 2 or more")
    if not (radius > 0 and 0 < amplitude * len(waves) < 1):
        raise FamilyError(
            f"star_domain: radius {radius}, amplitude {amplitude}; allowed: radius > 0, and amplitudes of all"
            f" {len(waves)} waves that sum to less than 1"
        )
    if control_points < 6 * (max(waves) + 1):
        raise FamilyError(
            f"star_domain: control_points is {control_points}; allowed is a whole number of"
            f" {6 * (max(waves) + 1)} or more for {max(waves)} waves"
        )
    angle = torch.arange(control_points, dtype=torch.float64) * 2 * math.pi / control_points

    def harmonic(order: int) -> Tensor:
        """(n, 2) control points of exp(i order t)."""
        damping = (2 + math.cos(2 * math.pi * order / control_points)) / 3
        return torch.stack([torch.cos(order * angle), torch.sin(order * angle)], -1) / damping

    disc = radius * harmonic(1)
    modes = torch.stack([radius * (harmonic(1 + wave) + harmonic(1 - wave)) / 2 for wave in waves])

    def control_points_at(theta: Tensor) -> Tensor:
        return disc.to(theta) + torch.einsum("...k,knd->...nd", theta, modes.to(theta))

    return Family(
        name="star_domain",
        description="waved disc around the origin, one periodic B-spline; boundary region: wall",
        parameters=tuple(
            Parameter(f"c{i + 1}", 0.0, -amplitude, amplitude, "1", f"amplitude of {wave} waves, in radii")
            for i, wave in enumerate(waves)
        ),
        loops=((Curve("wall", control_points, periodic=True),),),
        control_points=control_points_at,
        rays=(Rays(0, (0.0, 0.0)),),
    )
