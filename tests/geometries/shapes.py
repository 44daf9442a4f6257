"""Shape maps that the tests share, built once: the shipped families, and the one of the README's how-to."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.family.spline import Curve

EXAMPLES = Path(__file__).resolve().parents[2] / "studies" / "examples"
FAMILIES = {"closed_bar": 0.3, "body_in_channel": 0.05, "nozzle.py:Nozzle": 0.2}  # and the size of their cells


@cache
def family(name: str) -> Family:
    """One of FAMILIES with its default options."""
    return load_family(name, {}, EXAMPLES)


@cache
def shape_map(name: str) -> ShapeMap:
    """One of FAMILIES on a coarse mesh."""
    return build_shape_map(family(name), FAMILIES[name])


def designs(of: Family, count: int, seed: int = 0) -> Tensor:
    """(count, P) designs, uniform in the bounds."""
    unit = torch.rand(count, len(of.parameters), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return of.bounds[:, 0] + (of.bounds[:, 1] - of.bounds[:, 0]) * unit


def taylor_order(function, at: Tensor, direction: Tensor, steps=(1e-1, 3e-2, 1e-2, 3e-3)) -> float:
    """Slope of the remainder |f(x + h d) - f(x) - h df.d| of a function of a tensor, in the norm of its result.

    The derivative is reverse mode's. Infinite for a linear function, whose remainder is rounding.
    """
    value, derivative = torch.autograd.functional.jvp(function, at, direction)
    assert derivative.norm() > 1e-9 * value.norm()
    h = torch.tensor(steps, dtype=torch.float64)
    remainders = torch.stack([(function(at + s * direction) - value - s * derivative).norm() for s in h])
    if remainders.max() < 1e-12 * value.norm():
        return torch.inf
    return float(torch.linalg.lstsq(torch.stack([h.log(), torch.ones_like(h)], -1), remainders.log()[:, None])[0][0])


def polygon_family(*loops: list[tuple[float, float]], part: int = 0) -> Family:
    """Loops of straight lines (counter-clockwise corners); its one parameter scales the part about its first corner."""
    rows = [torch.tensor([p for k in range(len(c)) for p in (c[k], c[(k + 1) % len(c)])]) for c in loops]
    points = [part_rows.double() for part_rows in rows]

    def control_points_at(theta: Tensor) -> Tensor:
        at = [own.to(theta).expand(*theta.shape[:-1], *own.shape) for own in points]
        at[part] = at[part][..., :1, :] + theta[..., None] * (at[part] - at[part][..., :1, :])
        return torch.cat(at, -2)

    lines = tuple(tuple(Curve(f"loop{k}", 2, degree=1) for _ in corners) for k, corners in enumerate(loops))
    return Family("polygon", "", (Parameter("scale", 1.0, 0.5, 1.5),), lines, control_points_at, part)


def ellipse_family(a: float, b: float) -> Family:
    """Ellipse with half-axes a and b, scaled; its curve is within 1e-4 of it (32 control points)."""
    angle = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    stretch = 3 / (2 + math.cos(2 * math.pi / 32))  # the curve runs inside its control polygon
    points = stretch * torch.stack([a * angle.cos(), b * angle.sin()], -1)
    loop = (Curve("wall", 32, periodic=True),)
    return Family("ellipse", "", (Parameter("scale", 1.0, 0.5, 1.5),), (loop,), lambda t: t[..., None] * points.to(t))
