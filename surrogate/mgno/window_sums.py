"""Sums over neighbourhoods, a chunk of points at a time.

A chunk's edges stay in the processor's cache, and none is kept for the reverse pass, which makes them again: the
memory of a sum is that of its points and nodes. (T. Chen et al., *Training Deep Nets with Sublinear Memory Cost*,
2016.) The reverse pass is written out where only nodes, rows and kernel weights are differentiated, once; torch
differentiates the same sums in all other cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from shapewright.geometries.mesh.precision import full_precision
from shapewright.surrogate.mgno.gelu_derivatives import SavedTensors
from shapewright.surrogate.mgno.latent_grid import LatentGrid, Neighbours
from shapewright.surrogate.mgno.window_chunks import (
    gather_slopes,
    gathered,
    kernels_for,
    scatter_slopes,
    scattered,
)

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Of a chunk's activations: what stays in a core's cache, and what keeps a GPU busy."""

OF_AN_EDGE = 8
"""Numbers that are in memory of an edge where its activations are not: index, offset, weight and its slope."""

Weights = Callable[[Neighbours], Sequence[Tensor]]
Mollify = Callable[[Tensor], Tensor]


@full_precision
def gather(
    weights: Weights, grid: LatentGrid, nodes: Tensor, points: Tensor, owner: Tensor, per_edge: Tensor
) -> Tensor:
    """(N, r, h) sums at points (N, d) of shapes ``owner`` (N,) over the nodes near them.

    With z = n_k + W o_k the activations of an edge, the r rows are those of ``weights(near)[0]`` times gelu(z), those
    of ``weights(near)[1]`` times its derivative, and so on up to the second.

    Args:
        weights: up to three matrices (n, ., K) from neighbours of n points.
        grid: the latent grid.
        nodes: (M, h) values n of the nodes of all shapes.
        points: (N, d).
        owner: (N,) shape of each point.
        per_edge: (h, d) weights W of the offsets.
    """
    if _carries_tangents(nodes, points, per_edge):
        return _gather(weights, grid, nodes, points, owner, per_edge)
    return _Gather.apply(weights, grid, nodes, points, owner, per_edge)


@full_precision
def scatter(
    mollify: Mollify,
    grid: LatentGrid,
    shapes: int,
    rows: Tensor,
    weights: Tensor,
    points: Tensor,
    owner: Tensor,
    per_edge: Tensor,
) -> Tensor:
    """(shapes * nodes, h) sums of ``mollify(|o|^2) q gelu(p + W o)`` over the edges that end at a node.

    Args:
        mollify: squared distances, in radii, to weights.
        grid: the latent grid.
        shapes: number of shapes.
        rows: (N, h) values p of the points.
        weights: (N,) quadrature weights q.
        points: (N, d).
        owner: (N,) shape of each point.
        per_edge: (h, d) weights W of the offsets o.
    """
    if _carries_tangents(rows, weights, points, per_edge):
        return _scatter(mollify, grid, shapes, rows, weights, points, owner, per_edge)
    return _Scatter.apply(mollify, grid, shapes, rows, weights, points, owner, per_edge)


class _GatherContext(SavedTensors):
    weights: Weights
    grid: LatentGrid


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _GatherContext, weights: Weights, grid: LatentGrid, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.weights, ctx.grid = weights, grid
        nodes, points, owner, per_edge = inputs
        return _gather(weights, grid, nodes, points, owner, per_edge, kernels=kernels_for(nodes))

    @staticmethod
    def backward(ctx: _GatherContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # to be differentiated again
            return None, None, *_slopes(_gather(ctx.weights, ctx.grid, *inputs), inputs, needed, grad)
        nodes, points, owner, per_edge = inputs
        of_nodes, of_points, _, of_edges = totals = _zeros(inputs, needed)
        moves, kernels = of_points is not None, kernels_for(nodes)
        for chunk in _chunks(ctx.grid, points, nodes.shape[-1], kernels):
            with torch.set_grad_enabled(moves):  # weights depend on the point alone: a short record
                point = points[chunk].detach().requires_grad_(moves)
                near = ctx.grid.neighbours(point, owner[chunk])
                weights = ctx.weights(near)
            of_weights, of_position = gather_slopes(
                nodes, weights, near, per_edge, grad[chunk], (of_nodes, of_edges), kernels
            )
            if of_points is not None:
                slopes = [*of_weights, of_position @ per_edge]
                of_points[chunk] = torch.autograd.grad([*weights, near.point], point, slopes)[0]
        return None, None, *totals


class _ScatterContext(SavedTensors):
    mollify: Mollify
    grid: LatentGrid
    shapes: int


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _ScatterContext, mollify: Mollify, grid: LatentGrid, shapes: int, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.mollify, ctx.grid, ctx.shapes = mollify, grid, shapes
        rows, weights, points, owner, per_edge = inputs
        kernels = kernels_for(rows)
        return _scatter(mollify, grid, shapes, rows, weights, points, owner, per_edge, kernels=kernels)

    @staticmethod
    def backward(ctx: _ScatterContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            total = _scatter(ctx.mollify, ctx.grid, ctx.shapes, *inputs)
            return None, None, None, *_slopes(total, inputs, needed, grad)
        points, owner, per_edge = inputs[2:]
        of_rows, of_weights, of_points, _, of_edges = totals = _zeros(inputs, needed)
        moves, kernels = of_weights is not None or of_points is not None, kernels_for(grad)
        for chunk in _chunks(ctx.grid, points, grad.shape[-1], kernels):
            with torch.set_grad_enabled(moves):
                weights, point = (part[chunk].detach().requires_grad_(moves) for part in inputs[1:3])
                near = ctx.grid.neighbours(point, owner[chunk])
                mass = _mass(ctx.mollify, weights, near)
            of_row, of_mass = scatter_slopes(inputs[0][chunk], mass, near, per_edge, grad, of_edges, kernels)
            if of_rows is not None:
                of_rows[chunk] = of_row
            if moves:
                own = torch.autograd.grad((mass, near.point), (weights, point), (of_mass, -(of_row @ per_edge)))
                for slopes, part in zip((of_weights, of_points), own, strict=True):
                    if slopes is not None:
                        slopes[chunk] = part
        return None, None, None, *totals


def _gather(
    weights: Weights,
    grid: LatentGrid,
    nodes: Tensor,
    points: Tensor,
    owner: Tensor,
    per_edge: Tensor,
    kernels: Any = None,
) -> Tensor:
    found = []
    for chunk in _chunks(grid, points, nodes.shape[-1], kernels):
        near = grid.neighbours(points[chunk], owner[chunk])
        found.append(gathered(nodes, weights(near), near, per_edge, kernels))
    return torch.cat(found)


def _scatter(
    mollify: Mollify,
    grid: LatentGrid,
    shapes: int,
    rows: Tensor,
    weights: Tensor,
    points: Tensor,
    owner: Tensor,
    per_edge: Tensor,
    kernels: Any = None,
) -> Tensor:
    total = rows.new_zeros(shapes * grid.nodes, rows.shape[-1])
    for chunk in _chunks(grid, points, rows.shape[-1], kernels):
        near = grid.neighbours(points[chunk], owner[chunk])
        mass = _mass(mollify, weights[chunk], near)
        total = scattered(rows[chunk], mass, near, per_edge, total, kernels)
    return total


def _mass(mollify: Mollify, weights: Tensor, near: Neighbours) -> Tensor:
    """(n, K)"""
    return mollify(near.along_axes.square().sum(1)) * weights[:, None]


def _chunks(grid: LatentGrid, points: Tensor, width: int, kernels: Any = None) -> Iterator[slice]:
    width = width if kernels is None else OF_AN_EDGE
    edges = (2 * grid.radius) ** grid.dimension
    threads = torch.get_num_threads() if points.device.type == "cpu" else 1
    size = max(1, CHUNK_BYTES[points.device.type] * threads // (edges * width * points.element_size()))
    for start in range(0, max(1, len(points)), size):
        yield slice(start, start + size)


def _carries_tangents(*inputs: Tensor) -> bool:
    """Whether a forward-mode derivative or a transform of torch.func is at work: torch differentiates the chunks."""
    return torch._C._are_functorch_transforms_active() or any(
        forward_ad.unpack_dual(value).tangent is not None for value in inputs
    )


def _zeros(values: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
    return [torch.zeros_like(value) if need else None for value, need in zip(values, needed, strict=True)]


def _slopes(
    result: Tensor, values: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    wanted = [value for value, need in zip(values, needed, strict=True) if need]
    found = iter(torch.autograd.grad(result, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]
