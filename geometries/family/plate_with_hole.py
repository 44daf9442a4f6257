"""Family ``plate_with_hole``: a rectangular plate with a hole bounded by a periodic cubic B-spline in its middle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.options import numbers, whole_numbers
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.mesh.constants import constant


def plate_with_hole(
    width: float = 10.0,
    height: float = 10.0,
    radius: float = 1.0,
    control_points: int = 16,
    slenderness: float = 1.8,
) -> Family:
    """A plate around the origin whose hole starts as a circle of ``radius`` and stays symmetric about both axes.

    ``size`` and ``aspect`` make the hole an affine image of the circle, an ellipse as exact as the circle, with the
    half-lengths size sqrt(aspect) and size / sqrt(aspect) of the control polygon. ``d1 ...`` move the control points
    between up by a share of their height, with their mirror images. A cubic B-spline runs inside its control polygon:
    that is larger, so that the *hole* has the area of the circle.

    Args:
        width, height: of the plate, which is [-width/2, width/2] x [-height/2, height/2]; length unit.
        radius: of the circle at the start.
        control_points: a multiple of 4, 8 or more.
        slenderness: largest half-length along x, in radii.

    Raises:
        FamilyError: options that give no plate with a hole.
    """
    numbers("plate_with_hole", width=width, height=height, radius=radius, slenderness=slenderness)
    whole_numbers("plate_with_hole", control_points=control_points)
    if not (radius > 0 and 1.4 * radius < height / 2 and slenderness * radius < width / 2):
        raise FamilyError(
            f"plate_with_hole: a hole of radius {radius}, stretched to {slenderness} radii along x and 1.4 along y,"
            f" is not inside the plate {width} x {height}"
        )
    if control_points < 8 or control_points % 4:
        raise FamilyError(f"plate_with_hole: control_points is {control_points}; allowed is a multiple of 4, 8 or more")
    if not slenderness > 1.1:
        raise FamilyError(f"plate_with_hole: slenderness is {slenderness}; allowed is more than 1.1")
    step = 2 * math.pi / control_points
    polygon = radius * 3 / (2 + math.cos(step))  # interpolation damps the first harmonic by (2 + cos step) / 3
    quarter = control_points // 4
    angles = torch.arange(1, quarter + 1, dtype=torch.float64) * step  # from above the x-axis up to the y-axis

    parameters = [
        Parameter("size", polygon, 0.9 * polygon, 1.1 * polygon, description="mean half-length of the control polygon"),
        Parameter("aspect", 1.0, 0.8, (slenderness / 1.1) ** 2, "1", "half-length along x by that along y"),
    ]
    for k in range(1, quarter):
        where = f"height of control point {k}, {360 * k / control_points:.0f} degrees from the x-axis on the circle"
        parameters.append(Parameter(f"d{k}", 0.0, -0.15, 0.15, "1", f"relative change of the {where}"))
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    corners = half * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    rim = torch.cat([corners[[k, (k + 1) % 4]] for k in range(4)])

    def control_points_at(theta: Tensor) -> Tensor:
        size, root = theta[..., :1], torch.sqrt(theta[..., 1:2])
        a, b = size * root, size / root
        share = 1 + torch.cat([theta[..., 2:], torch.zeros_like(b)], -1)
        right = torch.stack([a, torch.zeros_like(a)], -1)
        cosine, sine = constant(torch.cos(angles), theta), constant(torch.sin(angles), theta)
        first = torch.stack([a * cosine, b * share * sine], -1)
        upper = torch.cat([right, first, (first * constant([-1.0, 1.0], first)).flip(-2)[..., 1:, :]], -2)
        return torch.cat([constant(rim, theta).expand(*theta.shape[:-1], 8, 2), upper, -upper], -2)

    sides = ("bottom", "right", "top", "left")
    return Family(
        name="plate_with_hole",
        description="plate with a hole, symmetric about both axes; boundary regions: bottom, right, top, left, hole",
        parameters=tuple(parameters),
        loops=(
            tuple(Curve(side, count=2, degree=1) for side in sides),
            (Curve("hole", control_points, periodic=True),),
        ),
        control_points=control_points_at,
        part=1,
        stiffening=2.0,
        grading=max(1.0, 0.6 * min(width, height) / radius),
    )
