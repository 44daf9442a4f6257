"""Structured 6-node triangle meshes of mapped unit squares, made without any mesher."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.mesh.mesh import Mesh

Array = NDArray[np.float64]
SIDES = ("bottom", "right", "top", "left")


def identity(points: Array) -> Array:
    """The unit square itself."""
    return points


def bulged(points: Array) -> Array:
    """The unit square with curved sides and curved grid lines."""
    x, y = points.T
    return np.stack(
        [x + 0.12 * np.sin(np.pi * y) * (x + 0.3), y + 0.1 * np.sin(2 * np.pi * x) * (0.4 + y)], -1
    )


def quarter_annulus(points: Array) -> Array:
    """Polar map: x to the radius in [1, 2], y to the angle in [0, pi/2]."""
    radius, angle = 1 + points[:, 0], 0.5 * np.pi * points[:, 1]
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)


def mapped_square(n: int, mapping: Callable[[Array], Array] = identity) -> Mesh:
    """2 n^2 curved cells; every node lies on the image of its grid point; sides bottom, right, top, left."""
    ticks = np.linspace(0, 1, 2 * n + 1)
    grid = np.stack(np.meshgrid(ticks, ticks, indexing="xy"), -1).reshape(-1, 2)
    row = 2 * n + 1
    corner = np.array([j * row + i for j in range(0, 2 * n, 2) for i in range(0, 2 * n, 2)])

    def at(i: int, j: int) -> NDArray[np.int64]:
        return corner + j * row + i

    lower = np.stack([at(0, 0), at(2, 0), at(2, 2), at(1, 0), at(2, 1), at(1, 1)], -1)
    upper = np.stack([at(0, 0), at(2, 2), at(0, 2), at(1, 1), at(1, 2), at(0, 1)], -1)
    start = np.arange(0, 2 * n, 2)
    last = row * row - 1
    sides = [
        np.stack([start, start + 2, start + 1], -1),
        np.stack([start, start + 2, start + 1], -1) * row + 2 * n,
        last - np.stack([start, start + 2, start + 1], -1),
        last - 2 * n - np.stack([start, start + 2, start + 1], -1) * row,
    ]
    return Mesh(
        nodes=mapping(grid),
        cells=np.concatenate([lower, upper]),
        facets=np.concatenate(sides),
        facet_tags=np.repeat(np.arange(4), n),
        tag_names=SIDES,
    )
