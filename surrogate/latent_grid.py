"""The regular latent grid: neighbours by index arithmetic, never by a distance matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import torch
from torch import Tensor


class OutsideGridError(ValueError):
    """A point whose neighbourhood leaves the latent grid: the shape is larger than the surrogate was made for."""


@dataclass(frozen=True)
class Neighbours:
    """Grid nodes near points.

    Attributes:
        index: (N, K) int64 flat index into the nodes of all shapes' grids.
        offset: (N, K, d) grid node minus point, in radii; differentiable in the point.
    """

    index: Tensor
    offset: Tensor


@dataclass(frozen=True)
class LatentGrid:
    """Equally spaced nodes.

    Attributes:
        origin: first node.
        spacing: distance of nodes along each axis.
        shape: number of nodes along each axis.
        radius: of a neighbourhood, in spacings: a whole number.
    """

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    radius: int = 2

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nodes(self) -> int:
        """Nodes of one shape's grid."""
        return prod(self.shape)

    @property
    def cell_measure(self) -> float:
        """Quadrature weight of a node."""
        return prod(self.spacing)

    @property
    def box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper corner of the half-open box of points whose whole window lies on the grid."""
        axes = list(zip(self.origin, self.spacing, self.shape, strict=True))
        low = tuple(start + step * (self.radius - 1) for start, step, _ in axes)
        return low, tuple(start + step * (count - self.radius) for start, step, count in axes)

    @cached_property
    def _stencil(self) -> Tensor:
        window = range(1 - self.radius, 1 + self.radius)
        return torch.tensor(list(product(window, repeat=self.dimension)))

    def coordinates(self, like: Tensor) -> Tensor:
        """(*shape, d) node positions scaled to [-1, 1]."""
        axes = [torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device) for count in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def neighbours(self, points: Tensor, shape_index: Tensor) -> Neighbours:
        """The (2 radius)^d nodes around each point (N, d) of shape ``shape_index`` (N,).

        The window holds every node within the radius. When a point crosses into the next cell, the nodes that
        change are at the radius or beyond, where the mollifier and its first derivatives vanish.

        Raises:
            OutsideGridError: a point is not finite or has no whole window; names the box that the grid takes.
        """
        origin, spacing = (points.new_tensor(values) for values in (self.origin, self.spacing))
        position = (points - origin) / spacing
        base = torch.floor(position.detach())
        lowest = base.amin(0) + (1 - self.radius)
        highest = base.amax(0) + self.radius
        limit = torch.tensor(self.shape, device=points.device) - 1
        if bool((lowest < 0).any() or (highest > limit).any()) or not bool(torch.isfinite(base).all()):
            low, high = points.detach().amin(0).tolist(), points.detach().amax(0).tolist()
            least, most = self.box
            raise OutsideGridError(
                f"points span {low} to {high}; the surrogate's latent grid takes {list(least)} to {list(most)}"
            )
        stencil = self._stencil.to(points.device)
        node = base.long()[:, None, :] + stencil
        offset = (node.to(points.dtype) - position[:, None, :]) / self.radius
        flat = node[..., 0]
        for axis in range(1, self.dimension):
            flat = flat * self.shape[axis] + node[..., axis]
        return Neighbours(flat + (shape_index * self.nodes)[:, None], offset)


def grid_around(low: Sequence[float], high: Sequence[float], shape: Sequence[int], radius: int) -> LatentGrid:
    """Grid of ``shape`` nodes that holds the box [low, high] with a margin of one more cell than the radius.

    Raises:
        ValueError: the radius is less than 1, the box is empty, or the grid is too small for the margin.
    """
    if radius < 1:
        raise ValueError(f"radius is {radius}; allowed is a whole number of 1 or more spacings of the latent grid")
    if not len(low) == len(high) == len(shape):
        raise ValueError(
            f"box corners have {len(low)} and {len(high)} coordinates; the latent grid has {len(shape)} axes"
        )
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(
            f"the box {list(low)} to {list(high)} is empty; a latent grid needs lower < upper along each axis"
        )
    margin = radius + 1
    if min(shape) < 2 * margin + 2:
        raise ValueError(
            f"latent grid {tuple(shape)} is too small for radius {radius}; allowed is {2 * margin + 2} or more per axis"
        )
    spacing = tuple((b - a) / (count - 1 - 2 * margin) for a, b, count in zip(low, high, shape, strict=True))
    origin = tuple(a - margin * h for a, h in zip(low, spacing, strict=True))
    return LatentGrid(origin, spacing, tuple(shape), radius)
