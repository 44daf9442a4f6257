"""Mollified kernel integrals between point clouds and the latent grid.

``out(x) = sum_j w(|x - y_j|^2 / r^2) q_j k((x - y_j) / r, f_j)`` with mollifier w *and* quadrature weight q on
both sides, so that outputs are smooth in the queries and in the positions and weights of the input points.
The kernel is a perceptron of one hidden layer. Its first layer is split into a part per input point and a
part per edge, and its last layer is linear and so leaves the sum: an edge costs only its hidden activations.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from surrogate.latent_grid import LatentGrid
from surrogate.mollifier import Mollifier


class Encoder(nn.Module):
    """Point cloud to latent grid.

    Args:
        features: channels of each input point.
        hidden: width of the kernel's hidden layer.
        channels: channels of each grid node.
    """

    def __init__(self, grid: LatentGrid, mollifier: Mollifier, features: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.grid, self.mollifier = grid, mollifier
        self.per_point = nn.Linear(features, hidden)
        self.per_edge = nn.Linear(grid.dimension, hidden, bias=False)
        self.readout = nn.Linear(hidden, channels, bias=False)

    def forward(self, points: Tensor, weights: Tensor, features: Tensor, shape_index: Tensor, shapes: int) -> Tensor:
        """(shapes, *grid, channels) from points (N, d), weights (N,), features (N, f), owners (N,).

        ``weights`` are quadrature weights in units of the grid's own measure, so that sums are of order one.
        """
        near = self.grid.neighbours(points, shape_index)
        mass = self.mollifier.weight((near.offset**2).sum(-1)) * weights[:, None]
        edges = functional.gelu(self.per_point(features)[:, None, :] + self.per_edge(near.offset)) * mass[..., None]
        total = edges.new_zeros(shapes * self.grid.nodes, edges.shape[-1])
        total = total.index_add(0, near.index.reshape(-1), edges.flatten(0, 1))
        return self.readout(total).unflatten(0, (shapes, *self.grid.shape))


class Decoder(nn.Module):
    """Latent grid to any query points.

    The quadrature weights of a regular grid are equal, so the reduction is the weighted mean over the
    neighbourhood: the integral divided by that of the mollifier alone, which is positive everywhere.
    """

    def __init__(self, grid: LatentGrid, mollifier: Mollifier, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.grid, self.mollifier = grid, mollifier
        self.per_node = nn.Linear(channels, hidden)
        self.per_edge = nn.Linear(grid.dimension, hidden, bias=False)
        self.readout = nn.Linear(hidden, outputs)

    def forward(self, latent: Tensor, queries: Tensor, shape_index: Tensor) -> Tensor:
        """(N, outputs) at queries (N, d) of shapes ``shape_index`` (N,), from latent (B, *grid, channels)."""
        near = self.grid.neighbours(queries, shape_index)
        weight = self.mollifier.weight((near.offset**2).sum(-1))
        weight = weight / weight.sum(-1, keepdim=True)
        nodes = self.per_node(latent).flatten(0, -2)
        edges = functional.gelu(nodes[near.index] + self.per_edge(near.offset))
        return self.readout((edges * weight[..., None]).sum(1))
