"""The finite-element solution of a linear problem on the mesh of its shape, where there is no dolfinx.

The measure of a training: what the operator's fields miss of the energy of this solution is their error.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.surrogate.models.galerkin import LinearPhysics, assemble, element_arrays
from shapewright.surrogate.models.shapes import Shapes


def finite_element_fields(physics: LinearPhysics, shapes: Shapes) -> Tensor:
    """(B, N, c) quadratic finite-element solutions of shapes in float64, stiffness one; zero at padding."""
    return torch.stack([_one(physics, shapes.subset(slice(i, i + 1))) for i in range(len(shapes))])


def _one(physics: LinearPhysics, shape: Shapes) -> Tensor:
    count, components = shape.nodes.shape[1], len(physics.components)
    parts = element_arrays(physics, shape)
    degrees = [(components * p.elements[0][..., None] + torch.arange(components)).flatten(1) for p in parts]
    blocks = [(p.matrices[0], index) for p, index in zip(parts, degrees, strict=True)]
    stiffness = _sparse(blocks, components * count)
    load = torch.zeros(components * count, dtype=shape.nodes.dtype)
    for part, index in zip(parts, degrees, strict=True):
        load.index_add_(0, index.flatten(), part.loads.flatten())
    used = np.zeros(components * count, dtype=bool)
    used[degrees[0][shape.cell_mask[0] > 0].numpy()] = True
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
