"""The finite-element equations of a linear problem on the mesh of its shape, where there is no dolfinx.

Their solution is the measure of a training: what an operator's fields miss of its energy is their error. Their matrix
gives the Galerkin equations of any span of fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.surrogate.models.galerkin import (
    ElementArrays,
    LinearPhysics,
    assemble,
    element_arrays,
    flux_of_gradients,
)
from shapewright.surrogate.models.shapes import Points, Shapes


@dataclass(frozen=True)
class Pattern:
    """Where the entries of the elements of one mesh go in the matrix of its equations.

    Attributes:
        size: number of degrees of freedom, component by component at each node.
        cells: (M, n c) degrees of freedom of each cell.
        facets: (K, m c) those of each facet.
        position: of each entry of all cells and all facets among those of the matrix.
        indices, pointers: columns and starts of the rows of the matrix.
    """

    size: int
    cells: Tensor
    facets: Tensor
    position: NDArray[np.int64]
    indices: NDArray[np.int64]
    pointers: NDArray[np.int64]

    def matrix(self, cells: Tensor, facets: Tensor) -> csr_matrix:
        """Sum of the matrices (M, n c, n c) of the cells and (K, m c, m c) of the facets."""
        entries = np.concatenate([cells.numpy().ravel(), facets.numpy().ravel()])
        values = np.bincount(self.position, entries, len(self.indices))
        return csr_matrix((values, self.indices, self.pointers), (self.size, self.size))


def pattern_of(shape: Shapes) -> Pattern:
    """Of one domain."""
    components = shape.factor.shape[-1]
    size = components * shape.nodes.shape[1]
    cells, facets = (
        (components * elements[0][..., None] + torch.arange(components)).flatten(1)
        for elements in (shape.cells, shape.facets)
    )
    rows = torch.cat([d.repeat_interleave(d.shape[1], 1).flatten() for d in (cells, facets)]).numpy()
    columns = torch.cat([d.repeat(1, d.shape[1]).flatten() for d in (cells, facets)]).numpy()
    entries, position = np.unique(rows * size + columns, return_inverse=True)
    pointers = np.searchsorted(entries, size * np.arange(size + 1))
    return Pattern(size, cells, facets, position, entries % size, pointers)


@dataclass(frozen=True)
class Equations:
    """Finite-element equations a(u, v) = l(v) of one domain in float64, with stiffness one.

    Attributes:
        physics: linear in the gradients of the fields.
        shape: domain and data.
        pattern: of the matrix.
    """

    physics: LinearPhysics
    shape: Shapes
    pattern: Pattern

    @cached_property
    def inside(self) -> Points:
        """Quadrature points in the cells."""
        return self.shape.cell_points(3)

    @cached_property
    def _parts(self) -> tuple[ElementArrays, ElementArrays]:
        return element_arrays(self.physics, self.shape)

    @cached_property
    def matrix(self) -> csr_matrix:
        """a(., .) of all shape functions."""
        return self.pattern.matrix(*(part.matrices[0] for part in self._parts))

    @cached_property
    def load(self) -> NDArray[np.float64]:
        """l(.) of all shape functions."""
        load = torch.zeros(self.pattern.size, dtype=self.shape.nodes.dtype)
        for part, degrees in zip(self._parts, (self.pattern.cells, self.pattern.facets), strict=True):
            load.index_add_(0, degrees.flatten(), part.loads.flatten())
        return load.numpy()

    def by_nodes(self, fields: Tensor, tested: Tensor) -> Tensor:
        """(J, N, d) derivatives of a(u, z) - l(z), less what is on facets, by the nodes, all nodal values held.

        With the flux s of u (N, c), symmetric as the form is, and each z of ``tested`` (J, N, c), a node with shape
        function N moves it by int T . grad N, T = (s : grad z - f . z) I - grad z^T s(u) - grad u^T s(z): the
        divergence of Eshelby's energy-momentum tensor, J. D. Eshelby, J. Elasticity 5 (1975) 321.
        """
        inside = self.inside
        assert inside.gradients is not None
        both = torch.cat([fields[None], tested]).movedim(0, -1).flatten(1)[None]
        split = tested.shape[-1], len(tested) + 1
        slopes = inside.gradient(both).unflatten(-2, split)  # (1, M, Q, c, 1 + J, d)
        flux = flux_of_gradients(self.physics, self.shape, inside, slopes.transpose(-3, -2))[0].transpose(-3, -2)
        slopes = slopes[0]
        state, others = slopes[..., 0, :], slopes[..., 1:, :]
        values = inside.interpolate(tested.movedim(0, -1).flatten(1)[None])[0].unflatten(-1, (split[0], len(tested)))
        density = torch.einsum("eqci,eqcfi->eqf", flux[..., 0, :], others)
        density = density - torch.einsum("eqc,eqcf->eqf", inside.interpolate(self.shape.source)[0], values)
        tensor = torch.diag_embed(density[..., None].expand(*density.shape, state.shape[-1]))
        tensor = tensor - torch.einsum("eqcfk,eqci->eqfki", others, flux[..., 0, :])
        tensor = tensor - torch.einsum("eqck,eqcfi->eqfki", state, flux[..., 1:, :])
        local = torch.einsum("eqfki,eqni,eq->enfk", tensor, inside.gradients[0], inside.weights[0])
        total = local.new_zeros(self.shape.nodes.shape[1], *local.shape[2:])
        return total.index_add(0, self.shape.cells.flatten(), local.flatten(0, 1)).movedim(0, 1)

    def source_weights(self, tested: Tensor) -> Tensor:
        """(J, N, c) derivative of int f . z by the nodal values of f, for fields z (J, N, c)."""
        values = self.inside.interpolate(tested.movedim(0, -1).flatten(1)[None])[0]
        local = torch.einsum("qn,eqf,eq->enf", self.inside.values, values, self.inside.weights[0])
        total = local.new_zeros(self.shape.nodes.shape[1], values.shape[-1])
        total = total.index_add(0, self.shape.cells.flatten(), local.flatten(0, 1))
        return total.unflatten(-1, (tested.shape[-1], len(tested))).movedim(-1, 0)

    def facet_residual(self, fields: Tensor, tested: Tensor) -> Tensor:
        """(J,) the part of a(u, z) - l(z) on facets, which autograd differentiates in the nodes."""
        around, components = self.shape.facet_points(3), tested.shape[-1]
        both = torch.cat([fields[None], tested]).movedim(0, -1).flatten(1)[None]
        on = around.interpolate(both)[0].unflatten(-1, (components, len(tested) + 1))
        through = self.shape.flux_at(around)[0] - self.shape.robin[0][:, None, None] * on[..., 0]
        return -torch.einsum("kqc,kqcf,kq->f", through, on[..., 1:], around.weights[0])


def finite_element_fields(physics: LinearPhysics, shapes: Shapes) -> Tensor:
    """(B, N, c) quadratic finite-element solutions of shapes in float64, stiffness one; zero at padding."""
    return torch.stack([_one(physics, shapes.subset(slice(i, i + 1))) for i in range(len(shapes))])


def _one(physics: LinearPhysics, shape: Shapes) -> Tensor:
    pattern = pattern_of(shape)
    equations = Equations(physics, shape, pattern)
    used = np.zeros(pattern.size, dtype=bool)
    used[pattern.cells[shape.cell_mask[0] > 0].numpy()] = True
    free = np.flatnonzero(used & (shape.factor[0].flatten().numpy() != 0))
    fields = np.where(used, shape.lifting[0].flatten().numpy(), 0.0)
    residual = equations.load - equations.matrix @ fields
    fields[free] += splu(equations.matrix[free][:, free].tocsc()).solve(residual[free])
    return torch.from_numpy(fields).view(shape.factor.shape[1:])


def finite_element_gain(physics: LinearPhysics, shapes: Shapes) -> Tensor:
    """(B,) twice the energy that the finite-element solutions have less than the liftings: see :mod:`galerkin`."""
    fields = finite_element_fields(physics, shapes) - shapes.lifting
    system = assemble(physics, shapes, fields[..., None])
    return 2 * system.load[:, 0] - system.matrix[:, 0, 0]
