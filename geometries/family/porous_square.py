"""Family ``porous_square``: a square with a regular array of waved pores, all of one shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.options import MOST_POINTS, numbers, whole_numbers
from shapewright.geometries.family.parts import FamilyError, Parameter, Rays
from shapewright.geometries.family.spline import Curve


def porous_square(
    pores: int = 2,
    radius: float = 0.12,
    spread: float = 0.02,
    fourfold: float = 0.15,
    eightfold: float = 0.05,
    control_points: int = 48,
) -> Family:
    """The unit square with pores r < r0 (1 + c1 cos 4t + c2 cos 8t) in the middles of its equal square cells.

    Each pore is a periodic cubic B-spline through its outline at the angles 2 pi j / n, as in
    :mod:`family.star_domain`. Shapes after J. T. B. Overvelde, K. Bertoldi, J. Mech. Phys. Solids 64 (2014) 351.

    Args:
        pores: along each side.
        radius: middle of the bounds of r0, length unit.
        spread: half the width of these bounds.
        fourfold, eightfold: bounds of c1 and of c2.
        control_points: of each pore, 24 or more.
    """
    numbers("porous_square", radius=radius, spread=spread, fourfold=fourfold, eightfold=eightfold)
    whole_numbers("porous_square", pores=pores, control_points=control_points)
    if not (pores >= 1 and control_points >= 24 and pores**2 * control_points <= MOST_POINTS):
        raise FamilyError(
            f"porous_square: pores {pores}, control_points {control_points}; allowed are whole numbers,"
            f" 1 or more and 24 or more, in all pores at most {MOST_POINTS} control points"
        )
    reach = (radius + spread) * (1 + fourfold + eightfold)
    if not (0 < spread < radius and fourfold > 0 and eightfold > 0 and reach < 0.5 / pores):
        raise FamilyError(
            f"porous_square: the largest pore reaches {reach:.3g} from its centre; allowed is less than"
            f" {0.5 / pores:.3g}, with 0 < spread < radius and positive bounds of the waves"
        )
    angle = torch.arange(control_points, dtype=torch.float64) * 2 * math.pi / control_points

    def harmonic(order: int) -> Tensor:
        damping = (2 + math.cos(2 * math.pi * order / control_points)) / 3
        return torch.stack([torch.cos(order * angle), torch.sin(order * angle)], -1) / damping

    disc, four, eight = harmonic(1), (harmonic(5) + harmonic(-3)) / 2, (harmonic(9) + harmonic(-7)) / 2
    middles = (torch.arange(pores, dtype=torch.float64) + 0.5) / pores
    centres = torch.cartesian_prod(middles, middles)
    corners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
    square = torch.cat([corners[[k, (k + 1) % 4]] for k in range(4)])

    def control_points_at(theta: Tensor) -> Tensor:
        r0, c1, c2 = (theta[..., k, None, None] for k in range(3))
        outline = r0 * (disc.to(theta) + c1 * four.to(theta) + c2 * eight.to(theta))
        holes = centres.to(theta)[:, None, :] + outline[..., None, :, :]
        fixed = square.to(theta).expand(*theta.shape[:-1], 8, 2)
        return torch.cat([fixed, holes.flatten(-3, -2)], -2)

    sides = tuple(Curve(tag, count=2, degree=1) for tag in ("bottom", "right", "top", "left"))
    return Family(
        name="porous_square",
        description="unit square with equal pores; boundary regions: bottom, right, top, left, pore",
        parameters=(
            Parameter("r0", radius, radius - spread, radius + spread, description="mean radius of the pores"),
            Parameter("c1", 0.0, -fourfold, fourfold, "1", "amplitude of four waves, in mean radii"),
            Parameter("c2", 0.0, -eightfold, eightfold, "1", "amplitude of eight waves, in mean radii"),
        ),
        loops=(sides, *(((Curve("pore", control_points, periodic=True),),) * len(centres))),
        control_points=control_points_at,
        part=1,
        grading=1.5,
        rays=tuple(
            Rays(index + 1, (float(x), float(y)), 0.98 * 0.5 / pores) for index, (x, y) in enumerate(centres.tolist())
        ),
    )
