"""Determinants and inverses of small matrices, area vectors, and bounds of the Jacobian of curved cells, in torch.

Matrices (..., d, d) are written out for d of one to three: torch's own functions ask the device whether they are
singular, and stop it.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from math import factorial, prod

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.mesh.constants import constant, rows_of
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.precision import full_precision
from shapewright.geometries.mesh.simplex import Array


def determinant(matrix: Tensor) -> Tensor:
    """(...) determinants of (..., d, d)."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0, 0]
    if matrix.shape[-1] == 2:
        a, b, c, d = matrix.flatten(-2).unbind(-1)
        return a * d - b * c
    first, second, third = matrix.unbind(-2)
    return (first * torch.linalg.cross(second, third)).sum(-1)


def adjugate(matrix: Tensor) -> Tensor:
    """(..., d, d) determinant times inverse."""
    if matrix.shape[-1] == 1:
        return torch.ones_like(matrix)
    if matrix.shape[-1] == 2:
        a, b, c, d = matrix.flatten(-2).unbind(-1)
        return torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    a, b, c = matrix.unbind(-2)
    return torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -1)


def inverse(matrix: Tensor) -> Tensor:
    """(..., d, d) inverses."""
    return adjugate(matrix) / determinant(matrix)[..., None, None]


def area_vectors(tangents: Tensor) -> Tensor:
    """(..., d) outward normals, as long as the facet's stretch, of facets with tangents (..., d, d - 1); d = 2 or 3."""
    if tangents.shape[-2] == 2:
        along = tangents[..., 0]
        return torch.stack([along[..., 1], -along[..., 0]], -1)
    return torch.linalg.cross(tangents[..., 0], tangents[..., 1])


@full_precision
def cell_jacobians(mesh: Mesh, nodes: Tensor, points: Array) -> Tensor:
    """(..., M, Q, d, d) with [d, k] = dx_d / dxi_k at reference points (Q, d), for node positions (..., N, d)."""
    local = rows_of(nodes, constant(mesh.cells, nodes, torch.int64), -2)
    return torch.einsum("...mid,qik->...mqdk", local, constant(mesh.cell.shape_gradients(points), nodes))


@full_precision
def bernstein_jacobians(mesh: Mesh, nodes: Tensor) -> Tensor:
    """(..., M, b) Bernstein coefficients of each cell's Jacobian determinant.

    The determinant of a quadratic cell is a polynomial of degree d, so it is nowhere less than the least of its
    coefficients: if all are positive the cell is not folded anywhere.
    A. Johnen, J.-F. Remacle, C. Geuzaine, J. Comput. Phys. 233 (2013) 359.
    """
    if mesh.dimension == 2:  # at the nodes of the cell, and written out
        at_nodes = determinant(cell_jacobians(mesh, nodes, mesh.cell.nodes))
        vertices, middles = at_nodes[..., :3], at_nodes[..., 3:]
        return torch.cat([vertices, 2 * middles - (vertices + vertices[..., [1, 2, 0]]) / 2], -1)
    points, coefficients = _bernstein(mesh.dimension)
    return determinant(cell_jacobians(mesh, nodes, points)) @ constant(coefficients, nodes).mT


@cache
def _bernstein(degree: int) -> tuple[Array, Array]:
    """Lattice (b, d) of degree d in the d-simplex, and the matrix from values there to Bernstein coefficients."""
    powers = np.array([p for p in product(range(degree + 1), repeat=degree + 1) if sum(p) == degree])
    multiples = np.array([factorial(degree) / prod(map(factorial, p)) for p in powers.tolist()])
    share = powers / degree
    values = multiples * (share[:, None, :] ** powers[None]).prod(-1)
    return share[:, 1:], np.linalg.inv(values)
