"""Stiffness matrix of quadratic elements on curved cells, and the functions that vanish on parts of the boundary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import splu

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.quadrature import gauss_quadrature


def dirichlet_factor(mesh: Mesh, tags: list[str]) -> NDArray[np.float64]:
    """(N,) smooth function that vanishes to first order on the regions ``tags`` and is 1 at most.

    It solves -lap(d) = 1 with d = 0 there; without tags it is 1 everywhere.
    """
    if not tags:
        return np.ones(len(mesh.nodes))
    fixed = np.unique(np.concatenate([mesh.facets_on(tag).ravel() for tag in tags]))
    free = np.setdiff1d(np.arange(len(mesh.nodes)), fixed)
    load = np.zeros(len(mesh.nodes))
    points, weights = gauss_quadrature(mesh.dimension)
    determinant = np.linalg.det(_jacobians(mesh, points))
    np.add.at(load, mesh.cells, np.einsum("q,mq,qi->mi", weights, determinant, mesh.cell.shape_functions(points)))
    factor = np.zeros(len(mesh.nodes))
    stiffness = weighted_stiffness(mesh, lambda x: np.ones(x.shape[:-1]))
    factor[free] = splu(stiffness[free][:, free].tocsc()).solve(load[free])
    return factor / factor.max()


def weighted_stiffness(mesh: Mesh, weight: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> csr_matrix:
    """(N, N) CSR matrix of int w grad(phi_i) . grad(phi_j) on the curved cells; ``weight`` maps (..., d) to (...)."""
    points, quadrature = gauss_quadrature(mesh.dimension)
    jacobian = _jacobians(mesh, points)
    gradients = np.einsum("qik,mqkd->mqid", mesh.cell.shape_gradients(points), np.linalg.inv(jacobian))
    positions = np.einsum("qi,mid->mqd", mesh.cell.shape_functions(points), mesh.nodes[mesh.cells])
    scale = quadrature * np.linalg.det(jacobian) * weight(positions)
    local = np.einsum("mq,mqid,mqjd->mij", scale, gradients, gradients)
    rows = np.repeat(mesh.cells, mesh.cells.shape[1], axis=1).ravel()
    columns = np.tile(mesh.cells, (1, mesh.cells.shape[1])).ravel()
    size = len(mesh.nodes)
    return coo_matrix((local.ravel(), (rows, columns)), shape=(size, size)).tocsr()


def _jacobians(mesh: Mesh, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, Q, d, d) with [d, k] = dx_d / dxi_k."""
    return np.einsum("mid,qik->mqdk", mesh.nodes[mesh.cells], mesh.cell.shape_gradients(points))
