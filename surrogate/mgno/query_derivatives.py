"""Exact derivatives of predicted fields in the query points: what a residual or an energy is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shapewright.surrogate.mgno.forward_mode import decoder_jet, second_order
from shapewright.surrogate.mgno.mollifier import MOLLIFIERS
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator

MODES = ("forward", "reverse")
SECONDS = ("hessian", "diagonal", "laplacian")


@dataclass(frozen=True)
class FieldDerivatives:
    """Fields at N query points and what was asked for of their derivatives.

    Attributes:
        values: (N, c).
        gradients: (N, c, d).
        hessians: (N, c, d, d), for second "hessian".
        diagonals: (N, c, d) second derivative along each axis, for "hessian" and "diagonal".
        laplacians: (N, c), for all three.
    """

    values: Tensor
    gradients: Tensor
    hessians: Tensor | None = None
    diagonals: Tensor | None = None
    laplacians: Tensor | None = None


def field_derivatives(
    operator: MollifiedGraphNeuralOperator,
    latent: Tensor,
    queries: Tensor,
    shape_index: Tensor,
    order: int = 1,
    mode: str = "forward",
    second: str = "hessian",
) -> FieldDerivatives:
    """Differentiate what :meth:`MollifiedGraphNeuralOperator.decode` gives.

    The result can itself be differentiated in the network's weights, in the latent fields and in the queries.

    Args:
        operator: the network.
        latent: (B, *grid, width) latent fields.
        queries: (N, d) points.
        shape_index: (N,) shape of each.
        order: 1 or 2.
        mode: "forward" carries the derivatives along with the values (:mod:`mgno.forward_mode`); "reverse"
            differentiates them again and again, which is dearer and independent: it is there to compare with.
        second: for order 2, "hessian", "diagonal" or the cheapest, "laplacian".

    Raises:
        ValueError: another order, mode or kind, or a mollifier whose derivatives of that order jump at a
            neighbourhood's edge.
    """
    if order not in (1, 2):
        raise ValueError(f"order of the derivatives is {order}; allowed are 1 and 2")
    for name, given, allowed in (("mode", mode, MODES), ("second", second, SECONDS)):
        if given not in allowed:
            raise ValueError(f"{name} is '{given}'; allowed are {', '.join(allowed)}")
    name = operator.config.mollifier
    if MOLLIFIERS[name].smoothness < order:
        smooth = ", ".join(mollifier.name for mollifier in MOLLIFIERS.values() if mollifier.smoothness >= order)
        raise ValueError(f"mollifier is '{name}', whose derivatives of order {order} jump; allowed are {smooth}")
    differentiate = _forward if mode == "forward" else _reverse
    return differentiate(operator, latent, queries, shape_index, second if order == 2 else None)


def _forward(
    operator: MollifiedGraphNeuralOperator, latent: Tensor, queries: Tensor, shape_index: Tensor, second: str | None
) -> FieldDerivatives:
    dimension = queries.shape[-1]
    kind = None if second is None else second_order(second, dimension)
    jet = decoder_jet(operator.decoder, latent, queries, shape_index, kind).gelu(kind).linear(operator.projection)
    values, gradients = jet.value.squeeze(-2), jet.gradient.mT
    if second is None:
        return FieldDerivatives(values, gradients)
    if second == "laplacian":
        return FieldDerivatives(values, gradients, laplacians=jet.second.squeeze(-2))
    if second == "diagonal":
        return FieldDerivatives(values, gradients, None, jet.second.mT, jet.second.sum(-2))
    position = torch.empty(dimension, dimension, dtype=torch.int64)
    for entry, (row, column) in enumerate(zip(kind.rows, kind.columns, strict=True)):
        position[row, column] = position[column, row] = entry
    return _with_hessians(values, gradients, jet.second.mT[..., position.to(queries.device)])


def _reverse(
    operator: MollifiedGraphNeuralOperator, latent: Tensor, queries: Tensor, shape_index: Tensor, second: str | None
) -> FieldDerivatives:
    """A query's value depends on no other query, so the gradient of a sum over queries holds each one's own."""
    queries = queries if queries.requires_grad else queries.detach().requires_grad_()
    values = operator.decode(latent, queries, shape_index)
    gradients = torch.stack([_slope(component, queries) for component in values.unbind(-1)], 1)
    if second is None:
        return FieldDerivatives(values, gradients)
    rows = [_slope(entry, queries) for entry in gradients.flatten(1).unbind(-1)]
    return _with_hessians(values, gradients, torch.stack(rows, 1).unflatten(1, gradients.shape[1:]))


def _with_hessians(values: Tensor, gradients: Tensor, hessians: Tensor) -> FieldDerivatives:
    diagonals = hessians.diagonal(dim1=-2, dim2=-1)
    return FieldDerivatives(values, gradients, hessians, diagonals, diagonals.sum(-1))


def _slope(quantity: Tensor, queries: Tensor) -> Tensor:
    return torch.autograd.grad(quantity.sum(), queries, create_graph=True)[0]
