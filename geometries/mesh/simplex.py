"""Reference simplices with quadratic nodes: segment, triangle, tetrahedron.

Vertices are the origin and the unit vectors. Nodes are the vertices, then the middles of the edges in the order of
``edges``. Formulas: O. C. Zienkiewicz, R. L. Taylor, *The Finite Element Method*, 5th ed., volume 1, chapter 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Simplex:
    """A kind of cell.

    Attributes:
        name: as finite-element libraries call it.
        dimension: d.
        edges: pairs of vertices, in the order of the nodes in their middles.
        facets: vertices of the sides, seen counter-clockwise from outside, in every order that keeps that sense.
        subcells: (2^d, d + 1) nodes of the straight simplices of equal size into which it divides.
    """

    name: str
    dimension: int
    edges: tuple[tuple[int, int], ...]
    facets: tuple[tuple[int, ...], ...]
    subcells: NDArray[np.int64]

    @cached_property
    def vertices(self) -> Array:
        """(d + 1, d) reference coordinates."""
        return np.concatenate([np.zeros((1, self.dimension)), np.eye(self.dimension)])

    @cached_property
    def nodes(self) -> Array:
        """(n, d) reference coordinates, n = 3, 6 or 10."""
        return np.concatenate([self.vertices, self.vertices[np.array(self.edges)].mean(1)])

    def shape_functions(self, points: Array) -> Array:
        """(..., n) values at reference points (..., d)."""
        if self.dimension == 1:  # written out: other orders round differently
            s = points[..., 0]
            return np.stack([(1 - s) * (1 - 2 * s), s * (2 * s - 1), 4 * s * (1 - s)], -1)
        share = _barycentric(points)
        vertices = [one * (2 * one - 1) for one in share]
        return np.stack([*vertices, *(4 * share[i] * share[j] for i, j in self.edges)], -1)

    def shape_gradients(self, points: Array) -> Array:
        """(..., n, d) derivatives with respect to the reference coordinates."""
        if self.dimension == 1:
            s = points[..., 0]
            return np.stack([4 * s - 3, 4 * s - 1, 4 - 8 * s], -1)[..., None]
        share = _barycentric(points)
        slopes = np.concatenate([-np.ones((1, self.dimension)), np.eye(self.dimension)])
        vertices = [(4 * one - 1)[..., None] * slope for one, slope in zip(share, slopes, strict=True)]
        middles = [
            4 * (share[i][..., None] * slopes[j] + share[j][..., None] * slopes[i]) for i, j in self.edges
        ]
        return np.stack([*vertices, *middles], -2)

    def hat_functions(self, points: Array) -> Array:
        """(Q, n) piecewise linear partition of unity on the subcells: nodal weights that stay positive."""
        values = np.zeros((len(points), len(self.nodes)))
        for subcell in self.subcells:
            first, *others = self.nodes[subcell]
            local = np.linalg.solve(np.stack([other - first for other in others], -1), (points - first).T).T
            share = np.concatenate([1 - local.sum(-1, keepdims=True), local], -1)
            inside = (share > -1e-12).all(-1) & (values.sum(-1) < 0.5)  # on a shared side the first one counts
            values[np.ix_(inside, subcell)] = share[inside]
        return values


def _barycentric(points: Array) -> list[Array]:
    """The d + 1 barycentric coordinates of points (..., d)."""
    coordinates = [points[..., k] for k in range(points.shape[-1])]
    first = 1 - coordinates[0]
    for other in coordinates[1:]:
        first = first - other
    return [first, *coordinates]


def _turned(*faces: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    """Each face begun at each of its vertices."""
    return tuple((*face[k:], *face[:k]) for face in faces for k in range(3))


SEGMENT = Simplex("interval", 1, ((0, 1),), ((0,), (1,)), np.array([[0, 2], [2, 1]]))
TRIANGLE = Simplex(
    "triangle",
    2,
    ((0, 1), (1, 2), (2, 0)),
    ((0, 1), (1, 2), (2, 0)),
    np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]]),
)
"""Six nodes, in the order of gmsh."""
TETRAHEDRON = Simplex(
    "tetrahedron",
    3,
    ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)),
    _turned((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)),
    np.array(
        [[0, 4, 6, 7], [4, 1, 5, 8], [6, 5, 2, 9], [7, 8, 9, 3], [4, 9, 5, 6], [4, 9, 6, 7], [4, 9, 7, 8], [4, 9, 8, 5]]
    ),
)
"""Ten nodes, in the order of VTK; gmsh has the last two the other way round."""

SIMPLICES = {cell.dimension: cell for cell in (SEGMENT, TRIANGLE, TETRAHEDRON)}
"""Kind of cell by dimension."""

GMSH_TETRAHEDRON = (0, 1, 2, 3, 4, 5, 6, 7, 9, 8)
"""Local node of gmsh's 10-node tetrahedron by that of ours."""
