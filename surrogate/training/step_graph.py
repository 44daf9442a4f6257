"""A loss with its gradients recorded once as a CUDA graph and replayed at every step.

The networks here are small: on a GPU a step of theirs is thousands of launches, which take the host far longer than
the kernels run. A replay is one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

WARM_UP = 3
"""Passes before the recording, in which libraries make their plans and constants come to the device."""


class GraphedLoss:
    """``loss`` of tensors whose shapes never change, differentiable in ``parameters``.

    Args:
        loss: must ask the device for no number; gets tensors like ``inputs``.
        inputs: on a CUDA device; their values serve the warm-up.
        parameters: changed in place by the optimizer, never replaced.

    Raises:
        RuntimeError: the device refuses to record something that the loss does.
    """

    def __init__(self, loss: Callable[..., Tensor], inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
        self._inputs, self._parameters = [each.clone() for each in inputs], list(parameters)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                torch.autograd.grad(loss(*self._inputs), self._parameters, allow_unused=True)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            value = loss(*self._inputs)
            self._gradients = torch.autograd.grad(value, self._parameters, allow_unused=True)
            self._value = value.detach()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The loss, whose backward pass hands over the gradients that the replay has left."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return _Replayed.apply(self._value, self._gradients, *self._parameters)


class _Context(FunctionCtx):
    gradients: Sequence[Tensor | None]


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context, value: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor
    ) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if each is None else each * grad for each in ctx.gradients)
