"""Values of a nodal field at any points of a mesh: in which curved cell each lies, and where in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import KDTree

from geometries.mesh import TaggedMesh
from geometries.triangle import shape_functions, shape_gradients

Array = NDArray[np.float64]


def interpolation_matrix(mesh: TaggedMesh, points: Array, candidates: int = 12) -> csr_matrix:
    """(P, N) matrix that takes nodal values to the points (P, 2), by the quadratic shape functions.

    The cell of a point is that of the nearest middles in which Newton's method places it best. A point a little outside
    the mesh, as where a curved boundary is meshed otherwise, is extrapolated from the cell nearest to it.
    """
    corners = mesh.nodes[mesh.cells]
    near = KDTree(corners[:, :3].mean(1)).query(points, min(candidates, len(corners)))[1]
    best = np.full(len(points), np.inf)
    cell = np.zeros(len(points), dtype=np.int64)
    place = np.zeros((len(points), 2))
    for column in near.T:
        local = _pull_back(corners[column], points)
        outside = np.maximum(-np.minimum(local.min(-1), 1 - local.sum(-1)), 0)
        outside[~np.isfinite(outside)] = np.inf
        better = outside < best
        best[better], cell[better], place[better] = outside[better], column[better], local[better]
    rows = np.repeat(np.arange(len(points)), 6)
    entries = (shape_functions(place).ravel(), (rows, mesh.cells[cell].ravel()))
    return csr_matrix(entries, shape=(len(points), len(mesh.nodes)))


def _pull_back(corners: Array, points: Array, steps: int = 8) -> Array:
    """(P, 2) reference coordinates of points in the cells (P, 6, 2), by Newton's method from the middle."""
    local = np.full((len(points), 2), 1 / 3)
    for _ in range(steps):
        gap = points - np.einsum("pi,pid->pd", shape_functions(local), corners)
        jacobian = np.einsum("pik,pid->pdk", shape_gradients(local), corners)
        a, b, c, d = jacobian.reshape(-1, 4).T
        determinant = a * d - b * c
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.stack([d * gap[:, 0] - b * gap[:, 1], a * gap[:, 1] - c * gap[:, 0]], -1) / determinant[:, None]
        local = local + np.clip(np.nan_to_num(step, nan=1.0), -1, 1)
    return local
