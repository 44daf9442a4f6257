"""Exact derivatives of predicted fields in the query points, for residuals and energies.

Value, gradient and second derivatives of decoded fields are carried forward in one pass. A neighbour's offset is linear
in the query x, so with m_k the mollifier weight of node k and z_k = n_k + W o_k the argument of the kernel's gelu, the
sums over a neighbourhood are

    d_a  sum m g(z) = sum m_a g + m g' v_a
    d_ab sum m g(z) = sum m_ab g + (m_a v_b + m_b v_a) g' + m g'' v_a v_b,    v_a = d_a z = W d_a o,

where v is the same for every edge of a uniform grid and can be factored out: the sums are matrix products of the K
weights of a query, and their derivatives, with its (K, hidden) activations. Nothing of an edge is stored for the
reverse pass. R. E. Wengert, *A simple automatic derivative evaluation program* (1964), has the rules of such jets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shapewright.surrogate.mgno.gelu_derivatives import gelu_derivatives
from shapewright.surrogate.mgno.kernel_integral import Decoder
from shapewright.surrogate.mgno.latent_grid import Neighbours
from shapewright.surrogate.mgno.mollifier import MOLLIFIERS
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator
from shapewright.surrogate.mgno.window_sums import gather

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
        mode: "forward" carries the derivatives along with the values ; "reverse"
            differentiates repeatedly, which costs more and is independent: it serves as a check.
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
    if kind is None:
        return FieldDerivatives(values, gradients)
    seconds = jet.carried
    if second == "laplacian":
        return FieldDerivatives(values, gradients, laplacians=seconds.squeeze(-2))
    if second == "diagonal":
        return FieldDerivatives(values, gradients, None, seconds.mT, seconds.sum(-2))
    position = torch.empty(dimension, dimension, dtype=torch.int64)
    for entry, (row, column) in enumerate(zip(kind.rows, kind.columns, strict=True)):
        position[row, column] = position[column, row] = entry
    return _with_hessians(values, gradients, seconds.mT[..., position.to(queries.device)])


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


@dataclass(frozen=True)
class SecondOrder:
    """Which second derivatives are carried: those by axes ``rows[s]`` and ``columns[s]``, or the sum of them."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    summed: bool

    def outer(self, first: Tensor, second: Tensor) -> Tensor:
        """(..., s, c) products of two lists of slopes (..., d, c)."""
        product = first[..., list(self.rows), :] * second[..., list(self.columns), :]
        return product.sum(-2, keepdim=True) if self.summed else product

    def symmetric(self, first: Tensor, second: Tensor) -> Tensor:
        """The product rule's two mixed terms."""
        return self.outer(first, second) + self.outer(second, first)


def second_order(kind: str, dimension: int) -> SecondOrder:
    """The carried derivatives of a "hessian" (its upper triangle, row by row), "diagonal" or "laplacian"."""
    axes = range(dimension)
    if kind == "hessian":
        rows, columns = torch.triu_indices(dimension, dimension).tolist()
        return SecondOrder(tuple(rows), tuple(columns), summed=False)
    return SecondOrder(tuple(axes), tuple(axes), summed=kind == "laplacian")


@dataclass(frozen=True)
class Jet:
    """Value (..., 1, c), gradient (..., d, c) and carried second derivatives (..., s, c) or None."""

    value: Tensor
    gradient: Tensor
    second: Tensor | None

    @property
    def carried(self) -> Tensor:
        """The second derivatives of a jet that carries them, as all do that are made for a :class:`SecondOrder`."""
        assert self.second is not None
        return self.second

    def linear(self, layer: nn.Linear) -> Jet:
        """After a linear layer: its bias moves the value alone."""
        second = None if self.second is None else self.second @ layer.weight.mT
        return Jet(layer(self.value), self.gradient @ layer.weight.mT, second)

    def gelu(self, kind: SecondOrder | None) -> Jet:
        """After a gelu, by the chain rule."""
        g, slope, *curvature = gelu_derivatives(self.value, 1 if kind is None else 2)
        if kind is None:
            return Jet(g, slope * self.gradient, None)
        bent = curvature[0] * kind.outer(self.gradient, self.gradient)
        return Jet(g, slope * self.gradient, slope * self.carried + bent)


def decoder_jet(
    decoder: Decoder, latent: Tensor, queries: Tensor, shape_index: Tensor, kind: SecondOrder | None
) -> Jet:
    """What ``decoder(latent, queries, shape_index)`` gives, with derivatives by the queries (N, d).

    Without ``kind`` no second derivatives are carried.
    """
    scale = queries.new_tensor(decoder.grid.spacing).mul(decoder.grid.radius).reciprocal()
    rows = 1 + len(scale)

    def weights(near: Neighbours) -> tuple[Tensor, ...]:
        jet = _weights(decoder, near.along_axes, scale, kind)
        first = torch.cat([jet.value, jet.gradient], -2)
        return (first, jet.value) if kind is None else (torch.cat([first, jet.carried], -2), first, jet.value)

    nodes, per_edge = decoder.per_node(latent).flatten(0, -2), decoder.per_edge.weight
    sums = gather(weights, decoder.grid, nodes, queries, shape_index, per_edge)
    along = -scale[:, None] * per_edge.mT
    if kind is None:
        value, gradient, slope = sums.split([1, len(scale), 1], -2)
        return Jet(value, gradient + slope * along, None).linear(decoder.readout)
    of_gelu, of_slope, curvature = sums.split([sums.shape[-2] - rows - 1, rows, 1], -2)
    value, gradient, second = of_gelu.tensor_split([1, rows], -2)
    slope, rise = of_slope.split([1, len(scale)], -2)
    second = second + kind.symmetric(rise, along.expand_as(rise)) + curvature * kind.outer(along, along)
    return Jet(value, gradient + slope * along, second).linear(decoder.readout)


def _weights(decoder: Decoder, offset: Tensor, scale: Tensor, kind: SecondOrder | None) -> Jet:
    """Jet (N, ., K) of the weights of K neighbours at ``offset`` (N, d, K), of slope -``scale`` (d,) in the query."""
    d = offset.square().sum(-2, keepdim=True)
    slope = decoder.mollifier.slope(d)
    towards = -2 * scale[:, None] * offset  # first derivative of d; the second is 2 scale^2
    jet = Jet(decoder.mollifier.weight(d), slope * towards, None)
    if kind is not None:
        bend = kind.outer(torch.diag(scale), torch.diag(scale)).sum(-1, keepdim=True)
        second = decoder.mollifier.curvature(d) * kind.outer(towards, towards) + 2 * slope * bend
        jet = Jet(jet.value, jet.gradient, second)
    return _normalised(jet, kind) if decoder.reduction == "mean" else _scaled(jet, decoder.node_weight)


def _scaled(jet: Jet, factor: float) -> Jet:
    return Jet(factor * jet.value, factor * jet.gradient, None if jet.second is None else factor * jet.second)


def _normalised(jet: Jet, kind: SecondOrder | None) -> Jet:
    """Weights divided by their sum, by the quotient rule."""
    total, rise = (part.sum(-1, keepdim=True) for part in (jet.value, jet.gradient))
    value = jet.value / total
    gradient = (jet.gradient - value * rise) / total
    if kind is None:
        return Jet(value, gradient, None)
    mixed = kind.symmetric(gradient, rise.expand_as(gradient))
    second = (jet.carried - mixed - value * jet.carried.sum(-1, keepdim=True)) / total
    return Jet(value, gradient, second)
