"""The surrogate's formulas written out a second time, slowly and from the papers, to compare with."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from shapewright.surrogate.mgno.latent_grid import LatentGrid

Array = NDArray[np.float64]

WEIGHTS: dict[str, Callable[[float], float]] = {
    "bump": lambda d: math.e * math.exp(-1 / (1 - d * d)) if d < 1 else 0.0,
    "octic": lambda d: 1 - 6 * d**4 + 8 * d**6 - 3 * d**8 if d < 1 else 0.0,
    "half_cosine": lambda d: 0.5 + 0.5 * math.cos(math.pi * d) if d < 1 else 0.0,
    "quartic": lambda d: 1 - 2 * d**2 + d**4 if d < 1 else 0.0,
    "quadratic": lambda d: 1 - 2 * d**2 if d < 0.5 else (2 * (1 - d) ** 2 if d < 1 else 0.0),
}

EXACT_SMOOTHNESS = {"bump": math.inf, "octic": 2, "half_cosine": 1, "quartic": 1, "quadratic": 1}


def gelu(z: Array) -> Array:
    """z Phi(z) with the normal distribution function."""
    return np.array([t * 0.5 * math.erfc(-t / math.sqrt(2)) for t in z.ravel()]).reshape(z.shape)


def grid_nodes(grid: LatentGrid) -> dict[tuple[int, ...], Array]:
    """Position of every node by its index."""
    return {
        index: np.array([o + h * i for o, h, i in zip(grid.origin, grid.spacing, index, strict=True)])
        for index in product(*(range(count) for count in grid.shape))
    }


def scaled_offset(grid: LatentGrid, node: Array, point: Array) -> Array:
    """Node minus point in radii; the radius is a number of spacings along each axis."""
    return (node - point) / (np.array(grid.spacing) * grid.radius)
