"""The finite-element solution of a linear problem on the mesh of its shape, where there is no dolfinx.

The measure of a training: what the operator's fields miss of the energy of this solution is their error.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.surrogate.models.galerkin import LinearPhysics, assemble, flux_of_gradients
from shapewright.surrogate.models.shapes import Shapes


def finite_element_fields(physics: LinearPhysics, shapes: Shapes) -> Tensor:
    """(B, N, c) quadratic finite-element solutions of shapes in float64, stiffness one; zero at padding."""
    return torch.stack([_one(physics, shapes.subset(slice(i, i + 1))) for i in range(len(shapes))])


def _one(physics: LinearPhysics, shape: Shapes) -> Tensor:
    inside, around = shape.cell_points(3), shape.facet_points(3)
    assert inside.gradients is not None
    count, components = shape.nodes.shape[1], len(physics.components)
    nodes_per_cell = shape.cells.shape[-1]
    eye = torch.eye(components, dtype=shape.nodes.dtype)
    local = torch.einsum("beqnd,fc->beqnfcd", inside.gradients, eye).flatten(3, 4)
    flux = flux_of_gradients(physics, shape, inside, local)
    block = torch.einsum("beqfcd,beqgcd,beq->befg", flux, local, inside.weights)[0]
    degrees = (components * shape.cells[0][..., None] + torch.arange(components)).flatten(1)
    film = torch.einsum("qm,qn,bkq,bk->kmn", around.values, around.values, around.weights, shape.robin)
    on_facets = torch.einsum("kmn,cd->kmcnd", film, eye).flatten(1, 2).flatten(2, 3)
    facet_degrees = (components * shape.facets[0][..., None] + torch.arange(components)).flatten(1)
    stiffness = _sparse([(block, degrees), (on_facets, facet_degrees)], components * count)
    source = inside.interpolate(shape.source)
    of_source = torch.einsum("qn,beqc,beq->enc", inside.values, source, inside.weights)
    of_flux = torch.einsum("qm,bkqc,bkq->kmc", around.values, shape.flux_at(around), around.weights)
    load = torch.zeros(components * count, dtype=shape.nodes.dtype)
    load.index_add_(0, degrees.flatten(), of_source.reshape(len(degrees), nodes_per_cell * components).flatten())
    load.index_add_(0, facet_degrees.flatten(), of_flux.flatten(1).flatten())
    used = np.zeros(components * count, dtype=bool)
    used[degrees[shape.cell_mask[0] > 0].numpy()] = True
    free = np.flatnonzero(used & (shape.factor[0].flatten().numpy() != 0))
    fields = np.where(used, shape.lifting[0].flatten().numpy(), 0.0)
    residual = load.numpy() - stiffness @ fields
    fields[free] += splu(stiffness[free][:, free].tocsc()).solve(residual[free])
    return torch.from_numpy(fields).unflatten(0, (count, components))


def _sparse(blocks: list[tuple[Tensor, Tensor]], size: int) -> csr_matrix:
    rows = [index.repeat_interleave(index.shape[1], 1).flatten() for _, index in blocks]
    columns = [index.repeat(1, index.shape[1]).flatten() for _, index in blocks]
    values = torch.cat([block.flatten() for block, _ in blocks]).numpy()
    return coo_matrix((values, (torch.cat(rows).numpy(), torch.cat(columns).numpy())), shape=(size, size)).tocsr()


def finite_element_gain(physics: LinearPhysics, shapes: Shapes) -> Tensor:
    """(B,) twice the energy that the finite-element solutions have less than the liftings: see :mod:`galerkin`."""
    fields = finite_element_fields(physics, shapes) - shapes.lifting
    system = assemble(physics, shapes, fields[..., None])
    return 2 * system.load[:, 0] - system.matrix[:, 0, 0]
