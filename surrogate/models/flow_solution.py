"""Solutions of creeping flow by Taylor and Hood's elements on the mesh of its shape, where there is no dolfinx."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import bmat, coo_matrix, csr_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.surrogate.models.flow_operator import middle_ends
from shapewright.surrogate.models.shapes import Shapes


def flow_solutions(shapes: Shapes) -> tuple[Tensor, Tensor]:
    """Velocities (B, N, 2) and pressures (B, N) of dimensionless shapes in float64, viscosity one; zero at padding.

    A pressure that is free by a constant has mean zero; what little then flows out in all of an enclosed domain is
    spread as a source over it.
    """
    found = [_one(shapes.subset(slice(i, i + 1))) for i in range(len(shapes))]
    return torch.stack([u for u, _ in found]), torch.stack([p for _, p in found])


def _one(shape: Shapes) -> tuple[Tensor, Tensor]:
    inside, around = shape.cell_points(3), shape.facet_points(3)
    assert inside.gradients is not None
    count, cells = shape.nodes.shape[1], shape.cells[0].numpy()
    gradients, weights = inside.gradients[0], inside.weights[0]
    stiffness = torch.einsum("mqid,mqjd,mq->mij", gradients, gradients, weights)
    barycentric = _linear(inside.values)
    divergence = torch.einsum("qk,mqid,mq->dmki", barycentric, gradients, weights)
    laplacian = _matrix(stiffness, cells, cells, count)
    along = [_matrix(part, cells[:, :3], cells, count) for part in divergence]
    load = torch.einsum("qi,mqc,mq->mic", inside.values, inside.interpolate(shape.source)[0], weights)
    right = torch.zeros(count, 2, dtype=torch.float64).index_add_(0, shape.cells[0].flatten(), load.flatten(0, 1))
    drawn = torch.einsum("qi,kqc,kq->kic", around.values, shape.flux_at(around)[0], around.weights[0])
    right.index_add_(0, shape.facets[0].flatten(), drawn.flatten(0, 1))
    used = np.unique(cells[shape.cell_mask[0].numpy() > 0])
    vertices = np.unique(cells[shape.cell_mask[0].numpy() > 0][:, :3])
    velocity = np.zeros((count, 2))
    velocity[used] = shape.lifting[0].numpy()[used]
    free = used[shape.factor[0, :, 0].numpy()[used] != 0]
    coupled = [part[vertices] for part in along]
    residual = right.numpy() - laplacian @ velocity
    flow = sum(part @ velocity[:, k] for k, part in enumerate(coupled))
    enclosed = bool((shape.prescribed[0][shape.facet_mask[0] > 0] > 0).all())
    stiff, rows = laplacian[free][:, free], [part[:, free] for part in coupled]
    mean = csr_matrix(np.asarray(_matrix(_masses(barycentric, weights), cells[:, :3], cells[:, :3], count).sum(1)))
    mean = mean[vertices]
    blocks = [
        [stiff, None, -rows[0].T, None],
        [None, stiff, -rows[1].T, None],
        [-rows[0], -rows[1], None, mean],
        [None, None, mean.T, None],
    ]
    size = 4 if enclosed else 3
    system = bmat([row[:size] for row in blocks[:size]], format="csc")
    known = np.concatenate([residual[free, 0], residual[free, 1], flow, np.zeros(int(enclosed))])
    found = splu(system).solve(known)
    velocity[free] += found[: 2 * len(free)].reshape(2, -1).T
    pressure = np.zeros(count)
    pressure[vertices] = found[2 * len(free) : 2 * len(free) + len(vertices)]
    ends = middle_ends(shape)[0].numpy()
    return torch.from_numpy(velocity), torch.from_numpy(pressure[ends].mean(-1))


def _linear(values: Tensor) -> Tensor:
    """(Q, 3) linear shape functions at the points of quadratic ones (Q, 6)."""
    middles = values[:, 3:] / 2  # each quadratic hat of a middle is half of either end's linear one
    return torch.stack(
        [values[:, 0] + middles[:, 0] + middles[:, 2], values[:, 1] + middles[:, 0] + middles[:, 1],
         values[:, 2] + middles[:, 1] + middles[:, 2]], -1
    )  # fmt: skip


def _masses(values: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("qi,qj,mq->mij", values, values, weights)


def _matrix(local: Tensor, rows: np.ndarray, columns: np.ndarray, count: int) -> csr_matrix:
    row = np.repeat(rows, columns.shape[1], axis=1).ravel()
    column = np.tile(columns, (1, rows.shape[1])).ravel()
    return coo_matrix((local.flatten().numpy(), (row, column)), shape=(count, count)).tocsr()
