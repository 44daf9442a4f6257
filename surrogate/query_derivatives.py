"""Exact derivatives of predicted fields in the query points: what a strong-form residual is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.mollifier import MOLLIFIERS
from surrogate.operator import MollifiedGraphNeuralOperator


@dataclass(frozen=True)
class FieldDerivatives:
    """Fields (N, c) at N query points, gradients (N, c, d) and, if asked for, Hessians (N, c, d, d)."""

    values: Tensor
    gradients: Tensor
    hessians: Tensor | None


def field_derivatives(
    operator: MollifiedGraphNeuralOperator, latent: Tensor, queries: Tensor, shape_index: Tensor, order: int = 1
) -> FieldDerivatives:
    """Differentiate what :meth:`MollifiedGraphNeuralOperator.decode` gives, by nested reverse mode.

    A query's value depends on no other query, so the gradient of a sum over queries holds each one's own. The result
    can itself be differentiated in the network's weights and in the latent fields.

    Args:
        operator: the network.
        latent: (B, *grid, width) latent fields.
        queries: (N, d) points.
        shape_index: (N,) shape of each.
        order: 1 or 2.

    Raises:
        ValueError: another order, or a mollifier whose derivatives of that order jump at a neighbourhood's edge.
    """
    if order not in (1, 2):
        raise ValueError(f"order of the derivatives is {order}; allowed are 1 and 2")
    name = operator.config.mollifier
    if MOLLIFIERS[name].smoothness < order:
        smooth = ", ".join(mollifier.name for mollifier in MOLLIFIERS.values() if mollifier.smoothness >= order)
        raise ValueError(f"mollifier is '{name}', whose derivatives of order {order} jump; allowed are {smooth}")
    queries = queries if queries.requires_grad else queries.detach().requires_grad_()
    values = operator.decode(latent, queries, shape_index)
    gradients = torch.stack([_slope(component, queries) for component in values.unbind(-1)], 1)
    if order == 1:
        return FieldDerivatives(values, gradients, None)
    rows = [_slope(entry, queries) for entry in gradients.flatten(1).unbind(-1)]
    return FieldDerivatives(values, gradients, torch.stack(rows, 1).unflatten(1, gradients.shape[1:]))


def _slope(quantity: Tensor, queries: Tensor) -> Tensor:
    return torch.autograd.grad(quantity.sum(), queries, create_graph=True)[0]
