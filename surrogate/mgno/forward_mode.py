"""Value, gradient and second derivatives of decoded fields in the query points, carried forward in one pass.

A neighbour's offset is linear in the query x, so with m_k the mollifier weight of node k and z_k = n_k + W o_k what
enters the kernel's gelu, the sums over a neighbourhood are

    d_a  sum m g(z) = sum m_a g + m g' v_a
    d_ab sum m g(z) = sum m_ab g + (m_a v_b + m_b v_a) g' + m g'' v_a v_b,    v_a = d_a z = W d_a o,

where v is the same for every edge of a uniform grid and so leaves the sums: they are matrix products of the K weights
of a query, and their derivatives, with its (K, hidden) activations. Nothing of an edge is kept for the reverse pass.
The rules of such jets go back to R. E. Wengert, *A simple automatic derivative evaluation program* (1964).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shapewright.surrogate.mgno.gelu_derivatives import gelu_derivatives
from shapewright.surrogate.mgno.kernel_integral import Decoder
from shapewright.surrogate.mgno.latent_grid import Neighbours
from shapewright.surrogate.mgno.window_sums import gather


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
        return Jet(g, slope * self.gradient, slope * self.second + bent)


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
        return (first, jet.value) if kind is None else (torch.cat([first, jet.second], -2), first, jet.value)

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
    second = (jet.second - mixed - value * jet.second.sum(-1, keepdim=True)) / total
    return Jet(value, gradient, second)
