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
    """``weight`` maps d (any shape) to weights; ``smoothness`` counts continuous derivatives at the edge."""

    name: str
    weight: Callable[[Tensor], Tensor]
    smoothness: float


def _bump(d: Tensor) -> Tensor:
    inside = d < 1 - 1e-6
    safe = torch.where(inside, d, torch.zeros_like(d))  # a masked argument keeps the derivatives finite
    return torch.where(inside, torch.exp(1 - 1 / (1 - safe**2)), torch.zeros_like(d))


def _octic(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    square = d * d
    return 1 + square**2 * (-6 + square * (8 - 3 * square))


def _half_cosine(d: Tensor) -> Tensor:
    return 0.5 * (1 + torch.cos(math.pi * d.clamp(max=1.0)))


def _quartic(d: Tensor) -> Tensor:
    return (1 - d.clamp(max=1.0) ** 2) ** 2


def _quadratic(d: Tensor) -> Tensor:
    d = d.clamp(max=1.0)
    return torch.where(d < 0.5, 1 - 2 * d * d, 2 * (1 - d) ** 2)


MOLLIFIERS: dict[str, Mollifier] = {
    mollifier.name: mollifier
    for mollifier in (
        Mollifier("bump", _bump, math.inf),
        Mollifier("octic", _octic, 2),
        Mollifier("half_cosine", _half_cosine, 1),
        Mollifier("quartic", _quartic, 1),
        Mollifier("quadratic", _quadratic, 1),
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
