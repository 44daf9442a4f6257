"""Family ``closed_bar``: a solid cross-section bounded by one periodic cubic B-spline."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.options import numbers, whole_numbers
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.mesh.constants import constant


def _superellipse(angle: float, exponent: float, aspect: float) -> float:
    x, y = abs(math.cos(angle)) / math.sqrt(aspect), abs(math.sin(angle)) * math.sqrt(aspect)
    return (x**exponent + y**exponent) ** (-1.0 / exponent)


def _l_shape(angle: float) -> float:
    """Distance from the centre of a square of half-width 1 to the outline of the L left by cutting one quadrant in."""
    x, y = math.cos(angle), math.sin(angle)
    reach = min(1.0 / max(abs(x), 1e-12), 1.0 / max(abs(y), 1e-12))
    return 0.55 * reach if x > 1e-12 and y > 1e-12 else reach  # the quadrant that is cut away


STARTS = {
    "disc": lambda k, angle: 1.0,
    "star": lambda k, angle: 1.25 if k % 2 == 0 else 0.8,
    "ellipse": lambda k, angle: _superellipse(angle, 2.0, 1.7),
    "rounded_square": lambda k, angle: _superellipse(angle, 6.0, 1.0),
    "l": lambda k, angle: _l_shape(angle),
}


def closed_bar(
    control_points: int = 8,
    radius: float = 1.0,
    start: str = "star",
    lower: float = 0.6,
    upper: float = 1.5,
) -> Family:
    """A bar's cross-section around the origin; control point k lies at angle 2 pi k / n, its distance is free.

    Args:
        control_points: n, number of control points, 5 or more.
        radius: scale of the start shape, length unit.
        start: shape to begin with: star, disc, ellipse, rounded_square or l.
        lower: least distance of a control point, in radii.
        upper: largest distance of a control point, in radii.
    """
    numbers("closed_bar", radius=radius, lower=lower, upper=upper)
    whole_numbers("closed_bar", control_points=control_points)
    if not isinstance(start, str) or start not in STARTS:
        raise FamilyError(f"closed_bar: start is '{start}'; allowed are {', '.join(STARTS)}")
    if control_points < 5:
        raise FamilyError(f"closed_bar: control_points is {control_points}; allowed is a whole number of 5 or more")
    if not radius > 0 or not 0 < lower < upper:
        raise FamilyError(
            f"closed_bar: radius {radius}, lower {lower}, upper {upper}; allowed: radius > 0, 0 < lower < upper"
        )
    angles = [2 * math.pi * k / control_points for k in range(control_points)]
    directions = torch.tensor([[math.cos(a), math.sin(a)] for a in angles], dtype=torch.float64)

    def control_points_at(theta: Tensor) -> Tensor:
        return theta[..., None] * constant(directions, theta)

    parameters = tuple(
        Parameter(
            f"r{k}",
            radius * min(max(STARTS[start](k, angle), lower), upper),
            radius * lower,
            radius * upper,
            description=f"distance of control point {k} from the axis, at {math.degrees(angle):.0f} degrees",
        )
        for k, angle in enumerate(angles)
    )
    return Family(
        name="closed_bar",
        description="solid cross-section bounded by one periodic B-spline; boundary region: wall",
        parameters=parameters,
        loops=((Curve("wall", control_points, periodic=True),),),
        control_points=control_points_at,
    )
