"""Values of a nodal field at any points of a mesh: in which curved cell each lies, and where in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import KDTree
from torch import Tensor

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.triangle import shape_functions, shape_gradients

Array = NDArray[np.float64]


def locate(mesh: Mesh, points: Array, candidates: int = 12) -> tuple[NDArray[np.int64], Array]:
    """Cell (P,) of each point (P, 2), and its place (P, 2) in that cell's reference coordinates.

    The cell is that of the nearest middles in which Newton's method places the point best. One a little outside
    the mesh, as where a curved boundary is meshed otherwise, gets the cell nearest to it.
    """
    corners = mesh.nodes[mesh.cells]
    near = KDTree(corners[:, :3].mean(1)).query(points, min(candidates, len(corners)))[1]
    best = np.full(len(points), np.inf)
    cell = np.zeros(len(points), dtype=np.int64)
    coordinates = np.zeros((len(points), 2))
    for column in near.T:
        local = _pull_back(corners[column], points)
        outside = np.maximum(-np.minimum(local.min(-1), 1 - local.sum(-1)), 0)
        outside[~np.isfinite(outside)] = np.inf
        better = outside < best
        best[better], cell[better], coordinates[better] = outside[better], column[better], local[better]
    return cell, coordinates


def interpolation_matrix(mesh: Mesh, points: Array) -> csr_matrix:
    """(P, N) matrix that takes nodal values to the points (P, 2), by the quadratic shape functions."""
    cell, coordinates = locate(mesh, points)
    rows = np.repeat(np.arange(len(points)), 6)
    entries = (shape_functions(coordinates).ravel(), (rows, mesh.cells[cell].ravel()))
    return csr_matrix(entries, shape=(len(points), len(mesh.nodes)))


def values_at(mesh: Mesh, nodes: Tensor, nodal: Tensor, points: Tensor) -> Tensor:
    """(P, c) values of nodal fields (N, c) at fixed points (P, 2) of a mesh whose nodes (N, 2) may depend on a design.

    First derivatives in the nodes are exact: a point's place in its cell moves by -J^-1 dx when the cell moves by dx.
    """
    cell, coordinates = locate(mesh.moved(nodes.detach().cpu().numpy()), points.detach().cpu().numpy())
    owners = torch.from_numpy(mesh.cells[cell])
    values, slopes = (torch.from_numpy(f(coordinates)).to(nodes) for f in (shape_functions, shape_gradients))
    at = torch.einsum("pi,pid->pd", values, nodes[owners])
    jacobian = torch.einsum("pik,pid->pdk", slopes, nodes[owners])
    shift = torch.linalg.solve(jacobian, (points - at)[..., None])[..., 0]
    own = nodal[owners]
    return torch.einsum("pi,pic->pc", values, own) + torch.einsum("pik,pic,pk->pc", slopes, own, shift)


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
