"""Cell and facet integration on mapped meshes in torch: Jacobians, quadrature weights, normals, field gradients.

Everything is differentiable in the nodes and batched over designs; a field given at the nodes is interpolated by the
same quadratic shape functions as in the finite-element solution. Shapes: N nodes in d dimensions, M cells of n nodes,
K facets of m nodes, Q quadrature points in each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.mesh.constants import constant, rows_of
from shapewright.geometries.mesh.jacobians import area_vectors, cell_jacobians, determinant, inverse
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.mesh.precision import full_precision
from shapewright.geometries.mesh.quadrature import gauss_quadrature
from shapewright.geometries.mesh.simplex import SIMPLICES, Array


@dataclass(frozen=True)
class CellPoints:
    """Quadrature points of a batch of domains, Q in each of M cells.

    Attributes:
        points: (..., M, Q, d) positions.
        weights: (..., M, Q) weights by area (volume).
        inverse_jacobian: (..., M, Q, d, d) with [k, d] = dxi_k / dx_d.
        cells: (M, n) nodes of the cells.
        values: (Q, n) shape functions.
        gradients: (Q, n, d) their derivatives in reference coordinates.
    """

    points: Tensor
    weights: Tensor
    inverse_jacobian: Tensor
    cells: Tensor
    values: Tensor
    gradients: Tensor

    @full_precision
    def interpolate(self, nodal: Tensor) -> Tensor:
        """(..., M, Q) values of a nodal field (..., N)."""
        return torch.einsum("qi,...mi->...mq", self.values, rows_of(nodal, self.cells, -1))

    @full_precision
    def gradient(self, nodal: Tensor) -> Tensor:
        """(..., M, Q, d) gradient of a nodal field (..., N)."""
        reference = torch.einsum("qik,...mi->...mqk", self.gradients, rows_of(nodal, self.cells, -1))
        return torch.einsum("...mqk,...mqkd->...mqd", reference, self.inverse_jacobian)


@full_precision
def cell_points(
    mesh: Mesh, nodes: Tensor, points_per_side: int = 3, rule: tuple[Array, Array] | None = None
) -> CellPoints:
    """Quadrature over all cells for node positions (..., N, d); the weights sum to the area (volume).

    Args:
        mesh: reference mesh.
        nodes: positions of its nodes.
        points_per_side: of the Gauss rule in a cell.
        rule: points (Q, d) and weights (Q,) in the reference cell, in place of it.
    """
    points, weights = gauss_quadrature(mesh.dimension, points_per_side) if rule is None else rule
    cells = constant(mesh.cells, nodes, torch.int64)
    values, gradients = (constant(f(points), nodes) for f in (mesh.cell.shape_functions, mesh.cell.shape_gradients))
    local = rows_of(nodes, cells, -2)
    jacobian = torch.einsum("...mid,qik->...mqdk", local, gradients)
    return CellPoints(
        points=torch.einsum("qi,...mid->...mqd", values, local),
        weights=constant(weights, nodes) * determinant(jacobian),
        inverse_jacobian=inverse(jacobian),
        cells=cells,
        values=values,
        gradients=gradients,
    )


@full_precision
def nodal_weights(mesh: Mesh, nodes: Tensor) -> Tensor:
    """(..., N) positive quadrature weights at the nodes; they sum to the area (volume) of the curved cells.

    Integrals of the piecewise linear hat functions on the subcells of each cell.
    """
    base, base_weights = gauss_quadrature(mesh.dimension, 2)
    subcells = mesh.cell.nodes[mesh.cell.subcells]
    points = np.concatenate([corners[0] + base @ (corners[1:] - corners[0]) for corners in subcells])
    weights = np.tile(base_weights / len(subcells), len(subcells))
    hats = constant(weights[:, None] * mesh.cell.hat_functions(points), nodes)
    local = torch.einsum("qi,...mq->...mi", hats, determinant(cell_jacobians(mesh, nodes, points)))
    total = nodes.new_zeros(nodes.shape[:-1])
    return total.index_add(-1, constant(mesh.cells, nodes, torch.int64).reshape(-1), local.flatten(-2))


@dataclass(frozen=True)
class FacetPoints:
    """Quadrature points of a batch of boundaries, Q on each of K facets.

    Attributes:
        points: (..., K, Q, d) positions.
        normals: (..., K, Q, d) unit outward normals.
        weights: (..., K, Q) weights by arc length (surface area).
        facets: (K, m) nodes of the facets.
        values: (Q, m) shape functions along a facet.
        cells: (K, n) nodes of the cell behind each facet.
        gradients: (K, Q, n, d) derivatives of that cell's shape functions in its reference coordinates.
        nodes: (..., N, d) node positions.
    """

    points: Tensor
    normals: Tensor
    weights: Tensor
    facets: Tensor
    values: Tensor
    cells: Tensor
    gradients: Tensor
    nodes: Tensor

    @full_precision
    def interpolate(self, nodal: Tensor) -> Tensor:
        """(..., K, Q) values of a nodal field (..., N)."""
        return torch.einsum("qi,...ki->...kq", self.values, rows_of(nodal, self.facets, -1))

    @full_precision
    def gradient(self, nodal: Tensor) -> Tensor:
        """(..., K, Q, d) gradient of a nodal field (..., N), taken in the cell behind each facet."""
        jacobian = torch.einsum("kqij,...kid->...kqdj", self.gradients, rows_of(self.nodes, self.cells, -2))
        reference = torch.einsum("kqij,...ki->...kqj", self.gradients, rows_of(nodal, self.cells, -1))
        return torch.einsum("...kqj,...kqjd->...kqd", reference, inverse(jacobian))


@full_precision
def facet_points(mesh: Mesh, nodes: Tensor, tag: str | None = None, points_per_side: int = 3) -> FacetPoints:
    """Gauss points on the boundary region ``tag`` (all regions if None); the weights sum to its length (area).

    Raises:
        KeyError: there is no such region.
        MeshError: a mesh of segments, whose facets are points.
    """
    if mesh.dimension == 1:
        raise MeshError("the facets of a mesh of segments are points; integration over facets is in 2 or 3 dimensions")
    side = SIMPLICES[mesh.dimension - 1]
    reference, weights = gauss_quadrature(side.dimension, points_per_side)
    facets = constant(mesh.facets if tag is None else mesh.facets_on(tag), nodes, torch.int64)
    values, slopes = (constant(f(reference), nodes) for f in (side.shape_functions, side.shape_gradients))
    local = rows_of(nodes, facets, -2)
    tangents = torch.einsum("qij,...kid->...kqdj", slopes, local)
    area = area_vectors(tangents)
    stretch = (tangents[..., 0] if mesh.dimension == 2 else area).norm(dim=-1)  # the same but for rounding
    owners = mesh.facet_cells if tag is None else mesh.facet_cells[mesh.facet_tags == mesh.tag_names.index(tag)]
    cells, sides = owners.T
    gradients = np.stack([mesh.cell.shape_gradients(points) for points in _on_sides(mesh, reference)])[sides]
    return FacetPoints(
        torch.einsum("qi,...kid->...kqd", values, local),
        area / stretch[..., None],
        constant(weights, nodes) * stretch,
        facets,
        values,
        constant(mesh.cells[cells], nodes, torch.int64),
        constant(gradients, nodes),
        nodes,
    )


def _on_sides(mesh: Mesh, points: Array) -> list[Array]:
    """Of points (Q, d - 1) of the reference facet, the coordinates (Q, d) in the cell for each of its facets."""
    found = []
    for first, *others in (mesh.cell.vertices[list(facet)] for facet in mesh.cell.facets):
        found.append(first + sum(points[:, k, None] * (other - first) for k, other in enumerate(others)))
    return found
