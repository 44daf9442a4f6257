"""Family ``cavity``: a skewed box with a straight lid on top and bulged walls."""

from __future__ import annotations

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.options import numbers
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.geometries.family.spline import Curve


def cavity(skew: float = 0.3, bulge: float = 0.2) -> Family:
    """A cavity on the floor from (0, 0) to (1, 0) under a lid from (skew, 1) to (1 + skew, 1).

    Left wall, right wall and floor are clamped cubics of four control points, whose middle two are moved outwards by
    ``left``, ``right`` and ``floor``: the wall itself bulges by three quarters of that.

    Args:
        skew: bound of the lid's shift, length unit.
        bulge: bound of the motions of the control points, length unit.
    """
    numbers("cavity", skew=skew, bulge=bulge)
    if not (0 < skew < 1 and 0 < bulge < 0.4):
        raise FamilyError(f"cavity: skew {skew}, bulge {bulge}; allowed: between 0 and 1, between 0 and 0.4")
    thirds = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0], dtype=torch.float64)
    inner = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)

    def control_points_at(theta: Tensor) -> Tensor:
        shift, left, right, floor = (theta[..., k, None] for k in range(4))
        s, bump = thirds.to(theta), inner.to(theta)
        ones = torch.ones_like(shift)
        below = torch.stack([s * ones, -floor * bump], -1)
        east = torch.stack([1 + shift * s + right * bump, s * ones], -1)
        lid = torch.stack([torch.cat([1 + shift, shift], -1), torch.ones_like(shift).expand(*shift.shape[:-1], 2)], -1)
        west = torch.stack([shift * s.flip(0) - left * bump, s.flip(0) * ones], -1)
        return torch.cat([below, east, lid, west], -2)

    wall = Curve("wall", count=4, degree=3)
    return Family(
        name="cavity",
        description="skewed box with bulged walls; boundary regions: wall, lid",
        parameters=(
            Parameter("skew", 0.0, -skew, skew, description="shift of the lid"),
            Parameter("left", 0.0, -bulge, bulge, description="bulge of the left wall's control points"),
            Parameter("right", 0.0, -bulge, bulge, description="bulge of the right wall's control points"),
            Parameter("floor", 0.0, -bulge, bulge, description="bulge of the floor's control points"),
        ),
        loops=((wall, wall, Curve("lid", count=2, degree=1), wall),),
        control_points=control_points_at,
    )
