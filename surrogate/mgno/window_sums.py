"""Sums over neighbourhoods, a chunk of points at a time.

A chunk's edges stay in the processor's cache, and none is kept for the reverse pass, which makes them again: the
memory of a sum is that of its points and nodes. (T. Chen et al., *Training Deep Nets with Sublinear Memory Cost*,
2016.) The reverse pass is written out where only nodes, rows and kernel weights are differentiated, once; torch
differentiates the same sums in all other cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from shapewright.geometries.mesh.precision import full_precision
from shapewright.surrogate.mgno.gelu_derivatives import SavedTensors, gelu_derivatives, gelu_pullback
from shapewright.surrogate.mgno.latent_grid import LatentGrid, Neighbours

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Of a chunk's activations: what stays in a core's cache, and what keeps a GPU busy."""

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
        return _gather(weights, grid, *inputs)

    @staticmethod
    def backward(ctx: _GatherContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # to be differentiated again
            return None, None, *_slopes(_gather(ctx.weights, ctx.grid, *inputs), inputs, needed, grad)
        nodes, points, owner, per_edge = inputs
        of_nodes, of_points, _, of_edges = totals = _zeros(inputs, needed)
        for chunk in _chunks(ctx.grid, points, nodes.shape[-1]):
            if of_points is None:
                near = ctx.grid.neighbours(points[chunk], owner[chunk])
                z = _activations(_rows(nodes, near), near, per_edge)
                weights = ctx.weights(near)
                parts = grad[chunk].split([part.shape[-2] for part in weights], -2)
                of_z = gelu_pullback(z, [w.mT @ part for w, part in zip(weights, parts, strict=True)])
                if of_edges is not None:
                    of_edges += _edge_slope(of_z, near)
            else:
                with torch.enable_grad():
                    point, own_edges = points[chunk].detach().requires_grad_(), per_edge.detach().requires_grad_()
                    near = ctx.grid.neighbours(point, owner[chunk])
                    rows = _rows(nodes, near).detach().requires_grad_()
                    found = _sums(ctx.weights(near), rows, near, own_edges)
                of_z, of_points[chunk], edges = torch.autograd.grad(found, (rows, point, own_edges), grad[chunk])
                if of_edges is not None:
                    of_edges += edges
            if of_nodes is not None:
                of_nodes.index_add_(0, near.index.flatten(), of_z.flatten(0, 1))
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
        return _scatter(mollify, grid, shapes, *inputs)

    @staticmethod
    def backward(ctx: _ScatterContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            total = _scatter(ctx.mollify, ctx.grid, ctx.shapes, *inputs)
            return None, None, None, *_slopes(total, inputs, needed, grad)
        points, owner, per_edge = inputs[2:]
        totals = _zeros(inputs, needed)
        for chunk in _chunks(ctx.grid, points, grad.shape[-1]):
            rows, weights, point = own = [part[chunk].detach() for part in inputs[:3]]
            if needed[1] or needed[2]:
                with torch.enable_grad():
                    own = [part.requires_grad_() for part in (*own, per_edge.detach())]
                    near = ctx.grid.neighbours(own[2], owner[chunk])
                    edges = _edges(ctx.mollify, own[0], own[1], near, own[3])
                *of_own, of_edges = torch.autograd.grad(edges, own, _rows(grad, near))
            else:
                near = ctx.grid.neighbours(point, owner[chunk])
                of_edge = _rows(grad, near).mul_(_mass(ctx.mollify, weights, near))
                of_z = gelu_pullback(_point_activations(rows, near, per_edge), [of_edge])
                of_own, of_edges = [of_z.sum(1)], _edge_slope(of_z, near)
            for slopes, part in zip(totals, of_own, strict=False):  # of rows alone, or of weights and points too
                if slopes is not None:
                    slopes[chunk] = part
            if (of_all := totals[4]) is not None:
                of_all += of_edges
        return None, None, None, *totals


def _gather(
    weights: Weights, grid: LatentGrid, nodes: Tensor, points: Tensor, owner: Tensor, per_edge: Tensor
) -> Tensor:
    found = []
    for chunk in _chunks(grid, points, nodes.shape[-1]):
        near = grid.neighbours(points[chunk], owner[chunk])
        found.append(_sums(weights(near), _rows(nodes, near), near, per_edge))
    return torch.cat(found)


def _sums(weights: Sequence[Tensor], rows: Tensor, near: Neighbours, per_edge: Tensor) -> Tensor:
    z = _activations(rows, near, per_edge)
    values = (functional.gelu(z),) if len(weights) == 1 else gelu_derivatives(z, len(weights) - 1)
    return torch.cat([weight @ value for weight, value in zip(weights, values, strict=True)], -2)


def _scatter(
    mollify: Mollify,
    grid: LatentGrid,
    shapes: int,
    rows: Tensor,
    weights: Tensor,
    points: Tensor,
    owner: Tensor,
    per_edge: Tensor,
) -> Tensor:
    total = rows.new_zeros(shapes * grid.nodes, rows.shape[-1])
    for chunk in _chunks(grid, points, rows.shape[-1]):
        near = grid.neighbours(points[chunk], owner[chunk])
        edges = _edges(mollify, rows[chunk], weights[chunk], near, per_edge).flatten(0, 1)
        index = near.index.flatten()
        total = total.index_add(0, index, edges) if torch.is_grad_enabled() else total.index_add_(0, index, edges)
    return total


def _edges(mollify: Mollify, rows: Tensor, weights: Tensor, near: Neighbours, per_edge: Tensor) -> Tensor:
    return functional.gelu(_point_activations(rows, near, per_edge)) * _mass(mollify, weights, near)


def _mass(mollify: Mollify, weights: Tensor, near: Neighbours) -> Tensor:
    return (mollify(near.along_axes.square().sum(1)) * weights[:, None])[..., None]


def _activations(rows: Tensor, near: Neighbours, per_edge: Tensor) -> Tensor:
    """(n, K, h); the parts of the stencil and of the position in the cell are computed once each."""
    of_stencil, of_point = near.stencil @ per_edge.mT, (near.point @ per_edge.mT)[:, None]
    return (rows + of_stencil) - of_point if torch.is_grad_enabled() else rows.add_(of_stencil).sub_(of_point)


def _point_activations(rows: Tensor, near: Neighbours, per_edge: Tensor) -> Tensor:
    return (rows - near.point @ per_edge.mT)[:, None] + near.stencil @ per_edge.mT


def _edge_slope(of_z: Tensor, near: Neighbours) -> Tensor:
    """(h, d) of the kernel's weights of the offsets, from slopes (n, K, h) by the activations."""
    return of_z.sum(0).mT @ near.stencil - of_z.sum(1).mT @ near.point


def _rows(nodes: Tensor, near: Neighbours) -> Tensor:
    return nodes.index_select(0, near.index.flatten()).unflatten(0, near.index.shape)


def _chunks(grid: LatentGrid, points: Tensor, width: int) -> Iterator[slice]:
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
