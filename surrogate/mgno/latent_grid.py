"""The regular latent grid: neighbours by index arithmetic, never by a distance matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.mesh.constants import constant, is_capturing


class OutsideGridError(ValueError):
    """A point whose neighbourhood leaves the latent grid: the shape is larger than the surrogate was made for."""


@dataclass(frozen=True)
class Neighbours:
    """Grid nodes near points.

    Attributes:
        index: (N, K) int64 flat index into the nodes of all shapes' grids.
        stencil: (K, d) position of each neighbour relative to the lower corner of the point's cell, in radii.
        point: (N, d) position of the point in its cell, in radii; differentiable in the point.
    """

    index: Tensor
    stencil: Tensor
    point: Tensor

    @property
    def offset(self) -> Tensor:
        """(N, K, d) grid node minus point, in radii: ``stencil`` minus ``point``."""
        return self.along_axes.mT

    @property
    def along_axes(self) -> Tensor:
        """(N, d, K): the offsets with the axes first, which is how they lie in memory."""
        return self.stencil.mT - self.point[..., None]


@dataclass(frozen=True)
class LatentGrid:
    """Equally spaced nodes.

    Attributes:
        origin: first node.
        spacing: distance of nodes along each axis.
        shape: number of nodes along each axis.
        radius: of a neighbourhood, in spacings: a whole number.
        periodic: whether each axis is; empty for none. Along a periodic axis the nodes repeat after ``shape``
            spacings, and a point may have any coordinate.
    """

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    radius: int = 2
    periodic: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if len(self.periodic) not in (0, len(self.shape)):
            raise ValueError(
                f"periodic is {self.periodic}; allowed is a truth value for each of the {len(self.shape)} axes, or none"
            )

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
        """Lower and upper corner of the half-open box of points whose whole window lies on the grid.

        Along a periodic axis it reaches from minus to plus infinity.
        """
        axes = list(zip(self.origin, self.spacing, self.shape, self._wraps, strict=True))
        low = (-inf if wraps else start + step * (self.radius - 1) for start, step, _, wraps in axes)
        high = (inf if wraps else start + step * (count - self.radius) for start, step, count, wraps in axes)
        return tuple(low), tuple(high)

    @property
    def _wraps(self) -> tuple[bool, ...]:
        return self.periodic or (False,) * self.dimension

    @property
    def _window(self) -> NDArray[np.int64]:
        return np.arange(1 - self.radius, 1 + self.radius, dtype=np.int64)

    def coordinates(self, like: Tensor) -> Tensor:
        """(*shape, d) node positions scaled to [-1, 1]; zero along periodic axes, where all positions are alike."""
        axes = [
            like.new_zeros(count) if wraps else torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device)
            for count, wraps in zip(self.shape, self._wraps, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def neighbours(self, points: Tensor, shape_index: Tensor) -> Neighbours:
        """The (2 radius)^d nodes around each point (N, d) of shape ``shape_index`` (N,).

        The window holds every node within the radius. When a point crosses into the next cell, the nodes that
        change are at the radius or beyond, where the mollifier and its first derivatives vanish.

        Raises:
            OutsideGridError: a point is not finite or has no whole window; names the box that the grid takes.
        """
        origin, spacing = (constant(values, points) for values in (self.origin, self.spacing))
        position = (points - origin) / spacing
        base = torch.floor(position.detach())
        self._check_inside(points, base)
        cell, window = base.long(), constant(self._window, points, torch.int64)
        flat = shape_index[:, None]
        for axis, (count, wraps) in enumerate(zip(self.shape, self._wraps, strict=True)):
            along = cell[:, axis, None] + window
            along = along % count if wraps else along
            flat = (flat[:, :, None] * count + along[:, None, :]).flatten(1)
        stencil = torch.cartesian_prod(*[window.to(points.dtype)] * self.dimension).view(-1, self.dimension)
        return Neighbours(flat, stencil / self.radius, (position - base) / self.radius)

    def _check_inside(self, points: Tensor, base: Tensor) -> None:
        if is_capturing(points):  # a graph cannot check values: its caller has checked them
            return
        counts = zip(self.shape, self._wraps, strict=True)
        highest = constant([inf if wraps else count - 1 - self.radius for count, wraps in counts], base)
        lowest = constant([-inf if wraps else self.radius - 1 for wraps in self._wraps], base)
        if bool(((base >= lowest) & (base <= highest) & base.isfinite()).all()):
            return
        low, high = points.detach().amin(0).tolist(), points.detach().amax(0).tolist()
        least, most = self.box
        raise OutsideGridError(
            f"points span {low} to {high}; the surrogate's latent grid takes {list(least)} to {list(most)}"
        )


def grid_around(
    low: Sequence[float],
    high: Sequence[float],
    shape: Sequence[int],
    radius: int,
    periodic: Sequence[bool] = (),
) -> LatentGrid:
    """Grid of ``shape`` nodes that holds the box [low, high] with a margin of one more cell than the radius.

    Along a ``periodic`` axis [low, high) is one period, without a margin.

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
    wraps = tuple(periodic) or (False,) * len(shape)
    margins = [0 if wrap else radius + 1 for wrap in wraps]
    cells = [count if wrap else count - 1 - 2 * (radius + 1) for count, wrap in zip(shape, wraps, strict=True)]
    if any(count < (2 * radius if wrap else 1) for count, wrap in zip(cells, wraps, strict=True)):
        raise ValueError(
            f"latent grid {tuple(shape)} is too small for radius {radius};"
            f" allowed is {2 * radius + 4} or more per axis, {2 * radius} or more along a periodic one"
        )
    spacing = tuple((b - a) / count for a, b, count in zip(low, high, cells, strict=True))
    origin = tuple(a - margin * h for a, h, margin in zip(low, spacing, margins, strict=True))
    return LatentGrid(origin, spacing, tuple(shape), radius, tuple(periodic))
