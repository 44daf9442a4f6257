"""Family ``body_in_channel``: a body bounded by a periodic cubic B-spline in a rectangular channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.options import numbers, pair, truth, whole_numbers
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.mesh.constants import constant


def body_in_channel(
    length: float = 2.0,
    height: float = 1.0,
    radius: float = 0.15,
    center: Sequence[float] = (1.0, 0.5),
    control_points: int = 16,
    symmetric: bool = True,
    slenderness: float = 2.2,
    shift: Sequence[float] = (0.0, 0.0),
) -> Family:
    """Flow domain around a body that starts as a circle of ``radius``; the design is its nose, tail and heights.

    Control points stand at fixed fractions of the half-lengths; ``front`` and ``back`` stretch them along
    the channel and ``h1 ...`` move each up (and its mirror image down; without ``symmetric``, ``l1 ...`` move
    the lower ones). A cubic B-spline runs inside its control polygon: their circle is larger than ``radius``,
    so that the *body* has the area of the circle.

    Args:
        length, height: of the channel, which is [0, length] x [0, height]; length unit.
        radius: of the circle at the start.
        center: of that circle.
        control_points: even number, 8 or more.
        symmetric: mirror the body about the line through its center along the channel.
        slenderness: largest half-length, in radii.
        shift: [x, y], how far the body as a whole may move from its center to either side, length unit; where that is
            not zero, the parameters ``dx`` and ``dy`` move it.
    """
    numbers("body_in_channel", length=length, height=height, radius=radius, slenderness=slenderness)
    whole_numbers("body_in_channel", control_points=control_points)
    truth("body_in_channel", symmetric=symmetric)
    cx, cy = pair("body_in_channel", "center", center)
    along, across = pair("body_in_channel", "shift", shift)
    if not (length > 0 and height > 0 and 0 < radius < min(cx, length - cx, cy, height - cy)):
        raise FamilyError(
            f"body_in_channel: a circle of radius {radius} at ({cx}, {cy})"
            f" is not inside the channel {length} x {height}"
        )
    room = min(cx, length - cx) - radius, min(cy, height - cy) - radius
    if not (0 <= along < room[0] and 0 <= across < room[1]):
        raise FamilyError(
            f"body_in_channel: option shift is [{along:g}, {across:g}]; allowed are 0 or more and less than"
            f" [{room[0]:g}, {room[1]:g}], so that the circle stays inside the channel"
        )
    if control_points < 8 or control_points % 2:
        raise FamilyError(
            f"body_in_channel: control_points is {control_points}; allowed is an even number of 8 or more"
        )
    if not slenderness > 1.2:
        raise FamilyError(f"body_in_channel: slenderness is {slenderness}; allowed is more than 1.2")
    step = 2 * math.pi / control_points
    polygon = radius * math.sqrt(_area_ratio(step))
    side = control_points // 2 - 1
    angles = torch.arange(1, side + 1, dtype=torch.float64) * step  # from the tail over the top to the nose
    reach = slenderness * radius
    heights = [polygon * math.sin(k * step) for k in range(1, side + 1)]

    parameters = [
        Parameter("front", polygon, 0.75 * polygon, reach, description="half-length towards the inlet"),
        Parameter("back", polygon, 0.75 * polygon, reach, description="half-length towards the outlet"),
    ]
    for letter, where in (("h", "above"),) if symmetric else (("h", "above"), ("l", "below")):
        for k, h in enumerate(heights):
            least = 0.1 if k in (0, side - 1) else 0.3  # next to nose and tail, so that they can become pointed
            meaning = f"height of control point {k + 1} {where}"
            parameters.append(Parameter(f"{letter}{k + 1}", h, least * h, 1.2 * h, description=meaning))
    heights_end, moved = len(parameters), [index for index, most in enumerate((along, across)) if most]
    for index in moved:
        name, most, where = (("dx", along, "along"), ("dy", across, "across"))[index]
        parameters.append(Parameter(name, 0.0, -most, most, description=f"motion of the body {where} the channel"))
    corners = torch.tensor([[0, 0], [length, 0], [length, height], [0, height]], dtype=torch.float64)
    channel = torch.cat([corners[[k, (k + 1) % 4]] for k in range(4)])
    axes = torch.eye(2, dtype=torch.float64)[moved]

    def control_points_at(theta: Tensor) -> Tensor:
        cosine = constant(torch.cos(angles), theta)
        front, back = theta[..., 0:1], theta[..., 1:2]
        up = theta[..., 2 : 2 + side]
        down = up if symmetric else theta[..., 2 + side : heights_end]
        x = cx + torch.where(cosine > 0, back, front) * cosine
        level = torch.full_like(front, cy)
        above = torch.stack([x, cy + up], -1)
        below = torch.stack([x, cy - down], -1).flip(-2)
        tail = torch.stack([cx + back, level], -1)
        nose = torch.stack([cx - front, level], -1)
        body = torch.cat([tail, above, nose, below], -2)
        if moved:
            body = body + (theta[..., heights_end:] @ constant(axes, theta))[..., None, :]
        return torch.cat([constant(channel, theta).expand(*theta.shape[:-1], 8, 2), body], -2)

    sides = tuple(Curve(tag, count=2, degree=1) for tag in ("wall", "outlet", "wall", "inlet"))
    return Family(
        name="body_in_channel",
        description="flow domain between a channel and a body; boundary regions: wall, outlet, inlet, body",
        parameters=tuple(parameters),
        loops=(sides, (Curve("body", control_points, periodic=True),)),
        control_points=control_points_at,
        part=1,
        stiffening=2.0,
        grading=3.0,
    )


def _area_ratio(step: float) -> float:
    """Area of a circle over that of the periodic cubic B-spline whose control points lie on it.

    The first harmonic of uniform cubic B-spline interpolation is damped by (2 + cos step) / 3; higher harmonics
    are left out, which makes the area 1e-3 too small at eight control points and 7e-5 at sixteen.
    """
    return ((2 + math.cos(step)) / 3) ** -2
