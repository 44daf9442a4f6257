"""How many floating-point operations one evaluation of the operator takes, counted by hand; a multiply-add is two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log2, prod

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """What the counts depend on.

    Attributes:
        points: inside, and as many queries.
        boundary: points of the boundary.
        grid: nodes along each axis.
        window: edges that a point takes part in: (2 radius)^d for ours, those in the ball for theirs.
        width: channels, and width of every hidden layer.
        modes: Fourier modes kept along each axis.
        layers: Fourier blocks.
    """

    points: int
    boundary: int
    grid: tuple[int, ...]
    window: float
    width: int
    modes: tuple[int, ...]
    layers: int

    @property
    def clouds(self) -> tuple[tuple[int, int], ...]:
        """Points and features of the two clouds that are read: the constant one; normals and one tag."""
        return (self.points, 1), (self.boundary, len(self.grid) + 1)


def split_kernels(sizes: Sizes) -> float:
    """Ours: the first layer once per point and node, the last once per node and query, an edge only weighted."""
    d, c, nodes = len(sizes.grid), sizes.width, prod(sizes.grid)
    encoders = sum(n * ((f + d) * c + sizes.window * c) + nodes * c * c for n, f in sizes.clouds)
    decoder = nodes * c * c + sizes.points * (d * c + sizes.window * c + c * c)
    return 2 * (encoders + decoder)


def edge_kernels(sizes: Sizes) -> float:
    """Theirs: both layers and the weight for every edge in the ball."""
    d, c = len(sizes.grid), sizes.width
    encoders = sum(n * sizes.window * ((2 * d + f) * c + c * c + c) for n, f in sizes.clouds)
    decoder = sizes.points * sizes.window * ((2 * d + c) * c + c * c + c)
    return 2 * (encoders + decoder)


def fourier_blocks(sizes: Sizes) -> float:
    """Two real transforms of 2.5 n log2 n operations a channel, complex products of the modes, two pointwise layers."""
    nodes, c = prod(sizes.grid), sizes.width
    transforms = 2 * 2.5 * nodes * log2(nodes) * c
    kept = 2 ** (len(sizes.grid) - 1) * prod(sizes.modes)
    return sizes.layers * (transforms + 8 * kept * c * c + 4 * nodes * c * c)


def activations(sizes: Sizes) -> float:
    """gelu evaluations at edges."""
    return (2 * sizes.points + sizes.boundary) * sizes.window * sizes.width


def matrix_product_rate(size: int = 1024) -> float:
    """Operations per second of processor time in products of square float32 matrices on the threads that torch has."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / _fastest(lambda: a @ b)


def gelu_rate(count: int = 2**18) -> float:
    """gelu evaluations per second of processor time, on values that stay in the cache."""
    values = torch.randn(count)
    return count / _fastest(lambda: functional.gelu(values))


def _fastest(compute: Callable[[], object], repeats: int = 9) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        compute()
        taken.append(time.process_time() - start)
    return min(taken)
