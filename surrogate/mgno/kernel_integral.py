"""Mollified kernel integrals between point clouds and the latent grid.

``out(x) = sum_j w(|x - y_j|^2 / r^2) q_j k((x - y_j) / r, f_j)`` with mollifier w *and* quadrature weight q on
both sides, so that outputs are smooth in the queries and in the positions and weights of the input points.
The kernel is a perceptron of one hidden layer. Its first layer is split into a part per input point and a
part per edge, and its last layer is linear and so leaves the sum: an edge costs only its hidden activations.
"""

from __future__ import annotations

from torch import Tensor, nn

from shapewright.surrogate.mgno.latent_grid import LatentGrid, Neighbours
from shapewright.surrogate.mgno.mollifier import Mollifier
from shapewright.surrogate.mgno.window_sums import gather, scatter

REDUCTIONS = ("mean", "integral")


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
        rows = self.per_point(features)
        total = scatter(
            self.mollifier.weight, self.grid, shapes, rows, weights, points, shape_index, self.per_edge.weight
        )
        return self.readout(total).unflatten(0, (shapes, *self.grid.shape))


class Decoder(nn.Module):
    """Latent grid to any query points.

    The quadrature weights q of a regular grid are equal. ``reduction`` is "integral", the sum above with lengths in
    radii, q = radius^-d; or "mean", that sum divided by the one of the mollifier alone, which is positive
    everywhere: it reproduces constants exactly, and q leaves it.

    Raises:
        ValueError: another reduction.
    """

    def __init__(
        self,
        grid: LatentGrid,
        mollifier: Mollifier,
        channels: int,
        hidden: int,
        outputs: int,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is '{reduction}'; allowed are {', '.join(REDUCTIONS)}")
        self.grid, self.mollifier, self.reduction = grid, mollifier, reduction
        self.per_node = nn.Linear(channels, hidden)
        self.per_edge = nn.Linear(grid.dimension, hidden, bias=False)
        self.readout = nn.Linear(hidden, outputs)

    @property
    def node_weight(self) -> float:
        """Quadrature weight of a grid node, with lengths in radii."""
        return self.grid.radius**-self.grid.dimension

    def forward(self, latent: Tensor, queries: Tensor, shape_index: Tensor) -> Tensor:
        """(N, outputs) at queries (N, d) of shapes ``shape_index`` (N,), from latent (B, *grid, channels)."""
        nodes = self.per_node(latent).flatten(0, -2)
        sums = gather(self._weights, self.grid, nodes, queries, shape_index, self.per_edge.weight)
        return self.readout(sums.squeeze(1))

    def _weights(self, near: Neighbours) -> tuple[Tensor]:
        weight = self.mollifier.weight(near.along_axes.square().sum(1, keepdim=True))
        mean = self.reduction == "mean"
        return (weight / weight.sum(-1, keepdim=True) if mean else weight * self.node_weight,)
