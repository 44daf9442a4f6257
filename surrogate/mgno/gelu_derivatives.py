"""gelu with its first and second derivative, keeping only the argument for the reverse pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

_gelu_backward = torch.ops.aten.gelu_backward  # slope times a factor, in one pass over memory


def gelu_derivatives(z: Tensor, order: int) -> tuple[Tensor, ...]:
    """z P(z), P(z) + z p(z) and, for order 2, (2 - z^2) p(z): p and P are the normal density and distribution."""
    return _GeluDerivatives.apply(z, order)


class SavedTensors(FunctionCtx):
    """Context of an autograd function with what torch adds to it when it is called."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]


class _Context(SavedTensors):
    order: int


class _GeluDerivatives(torch.autograd.Function):
    """Its own derivatives are made of differentiable operations on z: they can be taken again, in either mode."""

    @staticmethod
    def forward(z: Tensor, order: int) -> tuple[Tensor, ...]:
        first = functional.gelu(z), _gelu_backward(torch.ones_like(z), z)
        return first if order == 1 else (*first, (2 - z * z) * _density(z))

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])
        ctx.order = inputs[1]

    @staticmethod
    def backward(ctx: _Context, *grads: Tensor) -> tuple[Tensor, None]:
        return gelu_pullback(ctx.saved_tensors[0], grads), None

    @staticmethod
    def jvp(ctx: _Context, tangent: Tensor, order: None) -> tuple[Tensor, ...]:
        (z,) = ctx.saved_tensors
        density, square = _density(z), z * z
        moved = _gelu_backward(tangent, z), (2 - square) * density * tangent
        return (*moved, z * (square - 4) * density * tangent)[: ctx.order + 1]


def gelu_pullback(z: Tensor, grads: Sequence[Tensor]) -> Tensor:
    """Slope by z from those by gelu(z) and by as many of its first two derivatives as there are."""
    total = _gelu_backward(grads[0], z)
    if len(grads) == 1:
        return total
    square = z * z
    bent = grads[1] * (2 - square)
    if len(grads) == 3:
        bent = torch.addcmul(bent, grads[2], z * (square - 4))
    return torch.addcmul(total, bent, _density(z))


def _density(z: Tensor) -> Tensor:
    """As a power of two, which is several times faster than one of e."""
    return torch.exp2(torch.addcmul(z.new_tensor(-0.5 * math.log2(2 * math.pi)), z, z, value=-0.5 / math.log(2)))
