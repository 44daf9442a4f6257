"""Values of a nodal field at any points of a mesh: in which curved cell each lies, and where in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import KDTree
from torch import Tensor

from shapewright.geometries.mesh.jacobians import adjugate, determinant
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import Array, Simplex


def locate(mesh: Mesh, points: Array, candidates: int = 12) -> tuple[NDArray[np.int64], Array]:
    """Cell (P,) of each point (P, d), and its reference coordinates (P, d) in that cell.

    Newton's method is tried in the cells with the nearest centres; the cell that contains the point best is taken. A
    point a little outside the mesh, as where a curved boundary is meshed otherwise, gets the cell nearest to it.
    """
    corners = mesh.nodes[mesh.cells]
    near = KDTree(corners[:, : mesh.dimension + 1].mean(1)).query(points, min(candidates, len(corners)))[1]
    best = np.full(len(points), np.inf)
    cell = np.zeros(len(points), dtype=np.int64)
    coordinates = np.zeros((len(points), mesh.dimension))
    for column in near.reshape(len(points), -1).T:
        local = _pull_back(mesh.cell, corners[column], points)
        outside = np.maximum(-np.minimum(local.min(-1), 1 - local.sum(-1)), 0)
        outside[~np.isfinite(outside)] = np.inf
        better = outside < best
        best[better], cell[better], coordinates[better] = outside[better], column[better], local[better]
    return cell, coordinates


def interpolation_matrix(mesh: Mesh, points: Array) -> csr_matrix:
    """(P, N) matrix that takes nodal values to the points (P, d), by the quadratic shape functions."""
    cell, coordinates = locate(mesh, points)
    rows = np.repeat(np.arange(len(points)), mesh.cells.shape[1])
    entries = (mesh.cell.shape_functions(coordinates).ravel(), (rows, mesh.cells[cell].ravel()))
    return csr_matrix(entries, shape=(len(points), len(mesh.nodes)))


def values_at(mesh: Mesh, nodes: Tensor, nodal: Tensor, points: Tensor) -> Tensor:
    """(P, c) values of nodal fields (N, c) at fixed points (P, d) of a mesh whose nodes (N, d) may depend on a design.

    First derivatives in the nodes are exact: the local coordinates of a point move by -J^-1 dx when the cell moves by
    dx.
    """
    cell, coordinates = locate(mesh.moved(nodes.detach().cpu().numpy()), points.detach().cpu().numpy())
    owners = torch.from_numpy(mesh.cells[cell])
    of_cell = (mesh.cell.shape_functions, mesh.cell.shape_gradients)
    values, slopes = (torch.from_numpy(f(coordinates)).to(nodes) for f in of_cell)
    at = torch.einsum("pi,pid->pd", values, nodes[owners])
    jacobian = torch.einsum("pik,pid->pdk", slopes, nodes[owners])
    shift = torch.linalg.solve(jacobian, (points - at)[..., None])[..., 0]
    own = nodal[owners]
    return torch.einsum("pi,pic->pc", values, own) + torch.einsum("pik,pic,pk->pc", slopes, own, shift)


def _pull_back(cell: Simplex, corners: Array, points: Array, steps: int = 8) -> Array:
    """(P, d) reference coordinates of points in the cells (P, n, d), by Newton's method from the centre."""
    local = np.full(points.shape, 1 / (cell.dimension + 1))
    for _ in range(steps):
        gap = points - np.einsum("pi,pid->pd", cell.shape_functions(local), corners)
        jacobian = torch.from_numpy(np.einsum("pik,pid->pdk", cell.shape_gradients(local), corners))
        moved = (adjugate(jacobian).numpy() * gap[:, None, :]).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = moved / determinant(jacobian).numpy()[:, None]
        local = local + np.clip(np.nan_to_num(step, nan=1.0), -1, 1)
    return local
