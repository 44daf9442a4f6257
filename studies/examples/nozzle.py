"""A geometry family of one's own: a planar nozzle between two mirrored B-spline walls.

Named in a study as ``family: examples/nozzle.py:Nozzle`` (the path is relative to the study file); the arguments of
the function are the study's ``geometry.options``.
"""

import torch
from torch import Tensor

from shapewright import Curve, Family, FamilyError, Parameter


def Nozzle(length: float = 3.0, inlet: float = 0.5, control_points: int = 7) -> Family:
    """Channel [0, length] about the axis y = 0, its walls clamped cubic B-splines.

    Args:
        length: from inlet to outlet, length unit.
        inlet: half-height of the inlet, which is fixed.
        control_points: of each wall, 5 or more; the first two are fixed, so that the walls leave the inlet level.
    """
    if control_points < 5:
        raise FamilyError(f"Nozzle: control_points is {control_points}; allowed is a whole number of 5 or more")
    # The design variables: half-heights of the control points that may move, with bounds. The mesh is made at the
    # middle of the bounds, which must be a valid shape.
    parameters = tuple(
        Parameter(f"h{k}", 0.7 * inlet, 0.4 * inlet, 1.2 * inlet, description=f"half-height of control point {k}")
        for k in range(2, control_points)
    )
    along = torch.linspace(0.0, length, control_points, dtype=torch.float64)

    def control_points_at(theta: Tensor) -> Tensor:
        """Control points (..., n, 2) of all curves in order; theta (..., P) may be a batch: index its last axis."""
        x = along.to(theta).expand(*theta.shape[:-1], control_points)  # the design's dtype and device
        height = torch.cat([torch.full_like(theta[..., :2], inlet), theta], -1)
        lower = torch.stack([x, -height], -1)
        upper = torch.stack([x, height], -1).flip(-2)
        # counter-clockwise, each curve beginning where the last one ended
        outlet = torch.stack([lower[..., -1, :], upper[..., 0, :]], -2)
        entrance = torch.stack([upper[..., -1, :], lower[..., 0, :]], -2)
        return torch.cat([lower, outlet, upper, entrance], -2)

    wall = Curve("wall", control_points)  # a cubic; both walls are one boundary region
    return Family(
        name="nozzle",
        description="channel between two mirrored walls; boundary regions: wall, outlet, inlet",
        parameters=parameters,
        loops=((wall, Curve("outlet", 2, degree=1), wall, Curve("inlet", 2, degree=1)),),
        control_points=control_points_at,
    )
