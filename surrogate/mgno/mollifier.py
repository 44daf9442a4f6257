"""Compactly supported weights that let a neighbourhood's edge fade in and out smoothly.

With d = |x - y|^2 / r^2 every mollifier is 1 at d = 0 and 0 from d = 1 on. Formulas: R. Lin et al.,
*Enabling Automatic Differentiation with Mollified Graph Neural Operators* (2025), table of weight functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mollifier:
    """A weight function.

    Attributes:
        name: what it is called.
        weight: d (any shape) to weights.
        slope: its first derivative in d.
        curvature: its second derivative in d.
        smoothness: number of continuous derivatives at the edge.
    """

    name: str
    weight: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor]
    smoothness: float


def _inside(d: Tensor) -> tuple[Tensor, Tensor]:
    inside = d < 1 - 1e-6
    return inside, torch.where(inside, d, torch.zeros_like(d))  # a masked argument keeps the derivatives finite


def _bump(d: Tensor) -> Tensor:
    inside, safe = _inside(d)
    return torch.where(inside, torch.exp(1 - 1 / (1 - safe**2)), torch.zeros_like(d))


def _bump_slope(d: Tensor) -> Tensor:
    safe = _inside(d)[1]
    return -2 * safe / (1 - safe**2) ** 2 * _bump(d)


def _bump_curvature(d: Tensor) -> Tensor:
    square = _inside(d)[1] ** 2
    return (6 * square**2 - 2) / (1 - square) ** 4 * _bump(d)


def _octic(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    square = d * d
    return 1 + square**2 * (-6 + square * (8 - 3 * square))


def _octic_slope(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    return -24 * d**3 * (1 - d * d) ** 2


def _octic_curvature(d: Tensor) -> Tensor:
    square = d.clamp(max=1.0) ** 2
    return -24 * square * (1 - square) * (3 - 7 * square)


def _half_cosine(d: Tensor) -> Tensor:
    return 0.5 * (1 + torch.cos(math.pi * d.clamp(max=1.0)))


def _half_cosine_slope(d: Tensor) -> Tensor:
    return -0.5 * math.pi * torch.sin(math.pi * d) * (d < 1)


def _half_cosine_curvature(d: Tensor) -> Tensor:
    return -0.5 * math.pi**2 * torch.cos(math.pi * d) * (d < 1)


def _quartic(d: Tensor) -> Tensor:
    return (1 - d.clamp(max=1.0) ** 2) ** 2


def _quartic_slope(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    return -4 * d * (1 - d * d)


def _quartic_curvature(d: Tensor) -> Tensor:
    return (12 * d * d - 4) * (d < 1)


def _quadratic(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    return torch.where(d < 0.5, 1 - 2 * d * d, 2 * (1 - d) ** 2)


def _quadratic_slope(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    return -4 * torch.minimum(d, 1 - d)


def _quadratic_curvature(d: Tensor) -> Tensor:
    return (8 * (d >= 0.5) - 4) * (d < 1).to(d)


MOLLIFIERS: dict[str, Mollifier] = {
    mollifier.name: mollifier
    for mollifier in (
        Mollifier("bump", _bump, _bump_slope, _bump_curvature, math.inf),
        Mollifier("octic", _octic, _octic_slope, _octic_curvature, 2),
        Mollifier("half_cosine", _half_cosine, _half_cosine_slope, _half_cosine_curvature, 1),
        Mollifier("quartic", _quartic, _quartic_slope, _quartic_curvature, 1),
        Mollifier("quadratic", _quadratic, _quadratic_slope, _quadratic_curvature, 1),
    )
}


def mollifier_named(name: str) -> Mollifier:
    """Look one up.

    Raises:
        ValueError: names those there are.
    """
    if name not in MOLLIFIERS:
        raise ValueError(f"mollifier is '{name}'; allowed are {', '.join(MOLLIFIERS)}")
    return MOLLIFIERS[name]
