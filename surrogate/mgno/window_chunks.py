"""Sums over the neighbourhoods of one chunk of points, and their slopes, by torch or by kernels of Triton.

With o_k = s_k - p_n the offset of neighbour k from point n, W o_k is a part of the stencil, W s_k, less a part of the
point, W p_n: each is computed once, and slopes by either give those by W and by the point.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shapewright.surrogate.mgno.gelu_derivatives import gelu_derivatives, gelu_pullback
from shapewright.surrogate.mgno.latent_grid import Neighbours


def kernels_for(like: Tensor) -> Any:
    """The module of kernels that can sum on the device and in the type of ``like``, or None."""
    known = like.dtype in (torch.float32, torch.float64)
    return _kernels(like.device) if like.device.type == "cuda" and known else None


@cache
def _kernels(device: torch.device) -> Any:
    if find_spec("triton") is None:
        return None
    try:
        kernels = import_module("shapewright.surrogate.mgno.window_kernels")
        kernels.try_out(device)
    except Exception as error:  # without a C compiler, for one; whatever it is, torch can sum too
        warnings.warn(
            f"sums over neighbourhoods run by torch, several times slower than by Triton, which fails here: {error}",
            stacklevel=2,
        )
        return None
    return kernels


def gathered(nodes: Tensor, weights: Sequence[Tensor], near: Neighbours, per_edge: Tensor, kernels: Any) -> Tensor:
    """(n, r, h) sums of values ``nodes`` (M, h), see :func:`window_sums.gather`."""
    if _is_one_row(weights, kernels):
        ends = _ends(near, per_edge)
        return kernels.gathered(nodes.contiguous(), near.index, weights[0].squeeze(-2).contiguous(), *ends)[:, None]
    values = _gelus(_activations(rows_near(nodes, near), near, per_edge), len(weights))
    return torch.cat([weight @ value for weight, value in zip(weights, values, strict=True)], -2)


def gather_slopes(
    nodes: Tensor,
    weights: Sequence[Tensor],
    near: Neighbours,
    per_edge: Tensor,
    grad: Tensor,
    into: tuple[Tensor | None, Tensor | None],
    kernels: Any,
) -> tuple[list[Tensor], Tensor]:
    """Slopes by the weights and by W p (n, h) from those by the sums, ``grad`` (n, r, h).

    Slopes by nodes and by per_edge are added to the two tensors of ``into`` that are not None.
    """
    of_nodes, of_edges = into
    if _is_one_row(weights, kernels):
        of_stencil = None if of_edges is None else per_edge.new_zeros(len(near.stencil), len(per_edge))
        given = nodes.contiguous(), near.index, weights[0].detach().squeeze(-2).contiguous(), *_ends(near, per_edge)
        of_weight, of_position = kernels.gather_slopes(*given, grad.squeeze(-2).contiguous(), of_nodes, of_stencil)
        of_weights = [of_weight[:, None]]
    else:
        z = _activations(rows_near(nodes, near), near, per_edge)
        parts = grad.split([weight.shape[-2] for weight in weights], -2)
        of_z = gelu_pullback(z, [weight.detach().mT @ part for weight, part in zip(weights, parts, strict=True)])
        of_weights = [part @ value.mT for part, value in zip(parts, _gelus(z, len(weights)), strict=True)]
        of_stencil, of_position = of_z.sum(0), -of_z.sum(1)
        if of_nodes is not None:
            of_nodes.index_add_(0, near.index.flatten(), of_z.flatten(0, 1))
    if of_edges is not None and of_stencil is not None:
        of_edges += of_stencil.mT @ near.stencil + of_position.mT @ near.point
    return of_weights, of_position


def scattered(
    rows: Tensor, mass: Tensor, near: Neighbours, per_edge: Tensor, total: Tensor, kernels: Any
) -> Tensor:
    """``total`` (M, h) plus the sums of rows (n, h) with masses (n, K), see :func:`window_sums.scatter`."""
    if kernels is not None:
        of_stencil, of_point = _ends(near, per_edge)
        kernels.scattered(rows - of_point, near.index, mass.contiguous(), of_stencil, total)
        return total
    index, edges = near.index.flatten(), functional.gelu(_point_activations(rows, near, per_edge)) * mass[..., None]
    add = total.index_add if torch.is_grad_enabled() else total.index_add_
    return add(0, index, edges.flatten(0, 1))


def scatter_slopes(
    rows: Tensor, mass: Tensor, near: Neighbours, per_edge: Tensor, grad: Tensor, of_edges: Tensor | None, kernels: Any
) -> tuple[Tensor, Tensor]:
    """Slopes by rows (n, h), which those by -W p are too, and masses (n, K), from those by the sums, ``grad`` (M, h).

    Slopes by per_edge are added to ``of_edges`` if it is not None.
    """
    mass = mass.detach()
    if kernels is not None:
        of_stencil = None if of_edges is None else per_edge.new_zeros(len(near.stencil), len(per_edge))
        stencil, point = _ends(near, per_edge)
        given = rows - point, near.index, mass.contiguous(), stencil, grad.contiguous()
        of_rows, of_mass = kernels.scatter_slopes(*given, of_stencil)
    else:
        z, of_edge = _point_activations(rows, near, per_edge), rows_near(grad, near)
        of_mass = (functional.gelu(z) * of_edge).sum(-1)
        of_z = gelu_pullback(z, [of_edge.mul_(mass[..., None])])
        of_stencil, of_rows = of_z.sum(0), of_z.sum(1)
    if of_edges is not None and of_stencil is not None:
        of_edges += of_stencil.mT @ near.stencil - of_rows.mT @ near.point.detach()
    return of_rows, of_mass


def rows_near(nodes: Tensor, near: Neighbours) -> Tensor:
    """(n, K, h) values of the nodes near each point."""
    return nodes.index_select(0, near.index.flatten()).unflatten(0, near.index.shape)


def _is_one_row(weights: Sequence[Tensor], kernels: Any) -> bool:
    return kernels is not None and len(weights) == 1 and weights[0].shape[-2] == 1


def _gelus(z: Tensor, count: int) -> Sequence[Tensor]:
    return (functional.gelu(z),) if count == 1 else gelu_derivatives(z, count - 1)


def _ends(near: Neighbours, per_edge: Tensor) -> tuple[Tensor, Tensor]:
    """W s (K, h) and W p (n, h)."""
    return near.stencil @ per_edge.mT, near.point.detach() @ per_edge.mT


def _activations(rows: Tensor, near: Neighbours, per_edge: Tensor) -> Tensor:
    of_stencil, of_point = near.stencil @ per_edge.mT, (near.point @ per_edge.mT)[:, None]
    return (rows + of_stencil) - of_point if torch.is_grad_enabled() else rows.add_(of_stencil).sub_(of_point)


def _point_activations(rows: Tensor, near: Neighbours, per_edge: Tensor) -> Tensor:
    return (rows - near.point @ per_edge.mT)[:, None] + near.stencil @ per_edge.mT
