"""Cell and facet integration on mapped meshes in torch: Jacobians, quadrature weights, normals, field gradients.

Everything is differentiable in the nodes and batched over designs; a field given at the nodes is
interpolated by the same quadratic shape functions as in the finite-element solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.mesh import EDGES, Mesh
from shapewright.geometries.mesh.triangle import (
    NODES,
    SUBTRIANGLES,
    VERTICES,
    Array,
    edge_shape_functions,
    edge_shape_slopes,
    hat_functions,
    shape_functions,
    shape_gradients,
    triangle_quadrature,
)


@dataclass(frozen=True)
class CellPoints:
    """Quadrature points of a batch of domains, Q in each of M cells.

    Attributes:
        points: (..., M, Q, 2) positions.
        weights: (..., M, Q) area weights.
        inverse_jacobian: (..., M, Q, 2, 2) with [k, d] = dxi_k / dx_d.
        cells: (M, 6) nodes of the cells.
        values: (Q, 6) shape functions.
        gradients: (Q, 6, 2) their derivatives in reference coordinates.
    """

    points: Tensor
    weights: Tensor
    inverse_jacobian: Tensor
    cells: Tensor
    values: Tensor
    gradients: Tensor

    def interpolate(self, nodal: Tensor) -> Tensor:
        """(..., M, Q) values of a nodal field (..., N)."""
        return torch.einsum("qi,...mi->...mq", self.values, nodal[..., self.cells])

    def gradient(self, nodal: Tensor) -> Tensor:
        """(..., M, Q, 2) gradient of a nodal field (..., N)."""
        reference = torch.einsum("qik,...mi->...mqk", self.gradients, nodal[..., self.cells])
        return torch.einsum("...mqk,...mqkd->...mqd", reference, self.inverse_jacobian)


def cell_points(
    mesh: Mesh, nodes: Tensor, points_per_side: int = 3, rule: tuple[Array, Array] | None = None
) -> CellPoints:
    """Quadrature over all cells for node positions (..., N, 2); the weights sum to the area.

    Args:
        mesh: reference mesh.
        nodes: positions of its nodes.
        points_per_side: of the Gauss rule in a cell.
        rule: points (Q, 2) and weights (Q,) in the reference triangle, in place of it.
    """
    points, weights = triangle_quadrature(points_per_side) if rule is None else rule
    cells = constant(mesh.cells, nodes, torch.int64)
    values, gradients = (constant(f(points), nodes) for f in (shape_functions, shape_gradients))
    local = nodes[..., cells, :]
    jacobian = torch.einsum("...mid,qik->...mqdk", local, gradients)
    determinant = _determinant(jacobian)
    return CellPoints(
        points=torch.einsum("qi,...mid->...mqd", values, local),
        weights=constant(weights, nodes) * determinant,
        inverse_jacobian=_inverse(jacobian),
        cells=cells,
        values=values,
        gradients=gradients,
    )


def _determinant(matrix: Tensor) -> Tensor:
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    return a * d - b * c


def _inverse(matrix: Tensor) -> Tensor:
    """Of matrices (..., 2, 2); written out, since torch's asks the device whether they are singular."""
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[..., None, None]


def nodal_weights(mesh: Mesh, nodes: Tensor) -> Tensor:
    """(..., N) positive quadrature weights at the nodes; they sum to the area of the curved cells.

    Integrals of the piecewise linear hat functions on the four subtriangles of each cell.
    """
    base, base_weights = triangle_quadrature(2)
    corners = NODES[SUBTRIANGLES]
    points = np.concatenate([t[0] + base @ np.stack([t[1] - t[0], t[2] - t[0]]) for t in corners])
    weights = np.tile(base_weights / 4, 4)
    gradients = constant(shape_gradients(points), nodes)
    cells = constant(mesh.cells, nodes, torch.int64)
    jacobian = torch.einsum("...mid,qik->...mqdk", nodes[..., cells, :], gradients)
    determinant = jacobian[..., 0, 0] * jacobian[..., 1, 1] - jacobian[..., 0, 1] * jacobian[..., 1, 0]
    hats = constant(weights[:, None] * hat_functions(points), nodes)
    local = torch.einsum("qi,...mq->...mi", hats, determinant)
    total = nodes.new_zeros(nodes.shape[:-1])
    return total.index_add(-1, cells.reshape(-1), local.flatten(-2))


def bernstein_jacobians(mesh: Mesh, nodes: Tensor) -> Tensor:
    """(..., M, 6) Bernstein coefficients of each cell's Jacobian determinant.

    The determinant of a 6-node triangle is a quadratic polynomial, so it is nowhere less than the least of
    its coefficients: if all are positive the cell is not folded anywhere.
    A. Johnen, J.-F. Remacle, C. Geuzaine, J. Comput. Phys. 233 (2013) 359.
    """
    gradients = constant(shape_gradients(NODES), nodes)
    local = nodes[..., constant(mesh.cells, nodes, torch.int64), :]
    jacobian = torch.einsum("...mid,qik->...mqdk", local, gradients)
    at_nodes = jacobian[..., 0, 0] * jacobian[..., 1, 1] - jacobian[..., 0, 1] * jacobian[..., 1, 0]
    vertices, middles = at_nodes[..., :3], at_nodes[..., 3:]
    return torch.cat([vertices, 2 * middles - (vertices + vertices[..., [1, 2, 0]]) / 2], -1)


@dataclass(frozen=True)
class FacetPoints:
    """Quadrature points of a batch of boundaries, Q on each of K facets.

    Attributes:
        points: (..., K, Q, 2) positions.
        normals: (..., K, Q, 2) unit outward normals.
        weights: (..., K, Q) arc-length weights.
        facets: (K, 3) nodes of the facets.
        values: (Q, 3) shape functions along a facet.
        cells: (K, 6) nodes of the cell behind each facet.
        gradients: (K, Q, 6, 2) derivatives of that cell's shape functions in its reference coordinates.
        nodes: (..., N, 2) node positions.
    """

    points: Tensor
    normals: Tensor
    weights: Tensor
    facets: Tensor
    values: Tensor
    cells: Tensor
    gradients: Tensor
    nodes: Tensor

    def interpolate(self, nodal: Tensor) -> Tensor:
        """(..., K, Q) values of a nodal field (..., N)."""
        return torch.einsum("qi,...ki->...kq", self.values, nodal[..., self.facets])

    def gradient(self, nodal: Tensor) -> Tensor:
        """(..., K, Q, 2) gradient of a nodal field (..., N), taken in the cell behind each facet."""
        jacobian = torch.einsum("kqij,...kid->...kqdj", self.gradients, self.nodes[..., self.cells, :])
        reference = torch.einsum("kqij,...ki->...kqj", self.gradients, nodal[..., self.cells])
        return torch.einsum("...kqj,...kqjd->...kqd", reference, _inverse(jacobian))


def facet_points(mesh: Mesh, nodes: Tensor, tag: str | None = None, points_per_facet: int = 3) -> FacetPoints:
    """Gauss points on the boundary region ``tag`` (all regions if None); the weights sum to its length."""
    chosen = mesh.facets if tag is None else mesh.facets_on(tag)
    facets = constant(chosen, nodes, torch.int64)
    gauss, weights = np.polynomial.legendre.leggauss(points_per_facet)
    s = (gauss + 1) / 2
    values, slopes = (constant(f(s), nodes) for f in (edge_shape_functions, edge_shape_slopes))
    local = nodes[..., facets, :]
    tangent = torch.einsum("qi,...kid->...kqd", slopes, local)
    length = tangent.norm(dim=-1)
    normals = torch.stack([tangent[..., 1], -tangent[..., 0]], -1) / length[..., None]
    points = torch.einsum("qi,...kid->...kqd", values, local)
    owners = mesh.facet_cells if tag is None else mesh.facet_cells[mesh.facet_tags == mesh.tag_names.index(tag)]
    cells, edges = owners.T
    along = np.stack([VERTICES[i] + s[:, None] * (VERTICES[j] - VERTICES[i]) for i, j in EDGES])
    gradients = np.stack([shape_gradients(side) for side in along])[edges]
    return FacetPoints(
        points,
        normals,
        constant(weights / 2, nodes) * length,
        facets,
        values,
        constant(mesh.cells[cells], nodes, torch.int64),
        constant(gradients, nodes),
        nodes,
    )
