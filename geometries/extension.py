"""Harmonic extension of boundary motion into the reference mesh, and functions that vanish on its boundary.

Solved once per family with quadratic elements on the curved reference cells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from geometries.family import Family
from geometries.mesh import TaggedMesh
from geometries.mesher import MeshError, mesh_family
from geometries.outlines import ShapeError, check_outlines
from geometries.shape_map import ShapeMap
from geometries.triangle import shape_functions, shape_gradients, triangle_quadrature


def build_shape_map(family: Family, mesh_size: float, mesh: TaggedMesh | None = None) -> ShapeMap:
    """Mesh the design in the middle of the bounds (or take its ``mesh``) and extend the motion of its boundary into it.

    Raises:
        geometries.mesher.MeshError: that design is no valid shape, or gmsh could not mesh it.
    """
    control_points = family.control_points(family.reference).numpy()
    try:
        check_outlines(family, control_points)
    except ShapeError as error:
        raise MeshError(f"the design in the middle of the bounds: {error}") from error
    mesh = mesh_family(family, control_points, mesh_size) if mesh is None else mesh
    return ShapeMap(family, mesh, torch.from_numpy(harmonic_extension(family, control_points, mesh, mesh_size)))


def harmonic_extension(
    family: Family, control_points: NDArray[np.float64], mesh: TaggedMesh, mesh_size: float
) -> NDArray[np.float64]:
    """(N, n) solutions of div(w grad e_j) = 0 with e_j = basis function j on the boundary.

    The weight w = distance^-stiffening to the designed part keeps cells next to it nearly rigid.
    """
    boundary, values = boundary_basis(family, control_points, mesh)
    tree = KDTree(family.outline(control_points, family.part, 40))

    def weight(points: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = tree.query(points.reshape(-1, 2))[0].reshape(points.shape[:-1])
        return (distance + 0.5 * mesh_size) ** -family.stiffening

    stiffness = weighted_stiffness(mesh, weight)
    inside = np.setdiff1d(np.arange(len(mesh.nodes)), boundary)
    extension = np.zeros((len(mesh.nodes), values.shape[1]))
    extension[boundary] = values
    extension[inside] = splu(stiffness[inside][:, inside].tocsc()).solve(-(stiffness[inside][:, boundary] @ values))
    return extension


def dirichlet_factor(mesh: TaggedMesh, tags: list[str]) -> NDArray[np.float64]:
    """(N,) smooth function that vanishes to first order on the regions ``tags`` and is 1 at most.

    It solves -lap(d) = 1 with d = 0 there; without tags it is 1 everywhere.
    """
    if not tags:
        return np.ones(len(mesh.nodes))
    fixed = np.unique(np.concatenate([mesh.facets_on(tag).ravel() for tag in tags]))
    free = np.setdiff1d(np.arange(len(mesh.nodes)), fixed)
    load = np.zeros(len(mesh.nodes))
    points, weights = triangle_quadrature()
    determinant = np.linalg.det(_jacobians(mesh, points))
    np.add.at(load, mesh.cells, np.einsum("q,mq,qi->mi", weights, determinant, shape_functions(points)))
    factor = np.zeros(len(mesh.nodes))
    stiffness = weighted_stiffness(mesh, lambda x: np.ones(x.shape[:-1]))
    factor[free] = splu(stiffness[free][:, free].tocsc()).solve(load[free])
    return factor / factor.max()


def boundary_basis(
    family: Family, control_points: NDArray[np.float64], mesh: TaggedMesh
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Boundary nodes (b,) and the values (b, n) of all basis functions at them.

    The curve parameter of each node is found by projection: a KD-tree start and Newton's method on
    (x(t) - node) . x'(t) = 0, to rounding.

    Raises:
        geometries.mesher.MeshError: a boundary node of the mesh lies on no curve.
    """
    boundary = np.unique(mesh.facets)
    best = np.full(len(boundary), np.inf)
    values = np.zeros((len(boundary), len(control_points)))
    start = 0
    for curve in family.curves:
        poles = control_points[start : start + curve.count]
        t = np.linspace(0, curve.spans, 60 * curve.spans + 1)
        parameter = t[KDTree(curve.basis(t) @ poles).query(mesh.nodes[boundary])[1]]
        for _ in range(8):
            x, dx, ddx = (curve.basis(parameter, k) @ poles for k in range(3))
            gap = x - mesh.nodes[boundary]
            slope = (dx * dx).sum(-1) + (gap * ddx).sum(-1)
            step = (gap * dx).sum(-1) / np.where(slope > 0, slope, (dx * dx).sum(-1))
            parameter = parameter - np.clip(step, -0.05, 0.05)
            parameter = parameter % curve.spans if curve.periodic else np.clip(parameter, 0, curve.spans)
        distance = np.linalg.norm(curve.basis(parameter) @ poles - mesh.nodes[boundary], axis=-1)
        closer = distance < best - 1e-12
        best[closer] = distance[closer]
        values[closer] = 0
        values[closer, start : start + curve.count] = curve.basis(parameter[closer])
        start += curve.count
    if best.max() > 1e-6 * np.ptp(control_points, axis=0).max():
        raise MeshError(f"a boundary node of the mesh is {best.max():.3g} away from the curves of '{family.name}'")
    return boundary, values


def weighted_stiffness(mesh: TaggedMesh, weight: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> csr_matrix:
    """(N, N) CSR matrix of int w grad(phi_i) . grad(phi_j) on the curved cells; ``weight`` maps (..., 2) to (...)."""
    points, quadrature = triangle_quadrature()
    jacobian = _jacobians(mesh, points)
    gradients = np.einsum("qik,mqkd->mqid", shape_gradients(points), np.linalg.inv(jacobian))
    positions = np.einsum("qi,mid->mqd", shape_functions(points), mesh.nodes[mesh.cells])
    scale = quadrature * np.linalg.det(jacobian) * weight(positions)
    local = np.einsum("mq,mqid,mqjd->mij", scale, gradients, gradients)
    rows = np.repeat(mesh.cells, 6, axis=1).ravel()
    columns = np.tile(mesh.cells, (1, 6)).ravel()
    size = len(mesh.nodes)
    return coo_matrix((local.ravel(), (rows, columns)), shape=(size, size)).tocsr()


def _jacobians(mesh: TaggedMesh, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, Q, 2, 2) with [d, k] = dx_d / dxi_k."""
    return np.einsum("mid,qik->mqdk", mesh.nodes[mesh.cells], shape_gradients(points))
