"""A bracket between two B-spline walls that move independently, held at its root and loaded at its tip."""

import torch
from torch import Tensor

from shapewright import Curve, Family, FamilyError, Parameter


def Bracket(length: float = 2.0, height: float = 1.0, control_points: int = 5) -> Family:
    """Plate [0, length] about the axis y = 0, its lower and upper walls clamped cubic B-splines.

    Args:
        length: from root to tip, length unit.
        height: of the start, length unit.
        control_points: of each wall, 4 or more.
    """
    if control_points < 4:
        raise FamilyError(f"Bracket: control_points is {control_points}; allowed is a whole number of 4 or more")
    half = height / 2
    parameters = tuple(
        Parameter(f"{wall}{k}", half, 0.3 * half, 2.0 * half, description=f"distance of point {k} from the axis")
        for wall in ("lower", "upper")
        for k in range(control_points)
    )
    along = torch.linspace(0.0, length, control_points, dtype=torch.float64)

    def control_points_at(theta: Tensor) -> Tensor:
        x = along.to(theta).expand(*theta.shape[:-1], control_points)
        lower = torch.stack([x, -theta[..., :control_points]], -1)
        upper = torch.stack([x, theta[..., control_points:]], -1).flip(-2)
        tip = torch.stack([lower[..., -1, :], upper[..., 0, :]], -2)
        root = torch.stack([upper[..., -1, :], lower[..., 0, :]], -2)
        return torch.cat([lower, tip, upper, root], -2)

    return Family(
        name="bracket",
        description="plate between two walls; boundary regions: lower, tip, upper, root",
        parameters=parameters,
        loops=(
            (
                Curve("lower", control_points),
                Curve("tip", 2, degree=1),
                Curve("upper", control_points),
                Curve("root", 2, degree=1),
            ),
        ),
        control_points=control_points_at,
    )
