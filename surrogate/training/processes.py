"""The processes that train one network together: shares of a batch, and what they have to agree on.

Each takes a share of every batch, gradients are averaged by torch's DistributedDataParallel, and since all of them take
the same steps from the same gradients, weights and the state of the optimizer are alike on all. A process that trains
alone is the first of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class PeerLostError(RuntimeError):
    """Another process of the training has ended before its time."""


def count() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the one that writes and reports."""
    return count() == 1 or distributed.get_rank() == 0


def share(batch: int) -> tuple[slice, float]:
    """This process's part of a batch, and the weight of its mean that makes the mean of all that of the whole batch.

    Raises:
        ValueError: there are more processes than members of the batch.
    """
    processes = count()
    if processes == 1:
        return slice(0, batch), 1.0
    if batch < processes:
        raise ValueError(f"a batch of {batch} has no share for each of {processes} processes")
    rank = distributed.get_rank()
    start, end = rank * batch // processes, (rank + 1) * batch // processes
    return slice(start, end), (end - start) * processes / batch


def means(value: Tensor, other: float) -> tuple[float, float]:
    """Means over the processes of two numbers, of which each has its own."""
    if count() == 1:
        return float(value), other
    both = torch.stack([value.detach().double(), torch.tensor(other, dtype=torch.float64, device=value.device)])
    distributed.all_reduce(both)
    first, second = (both / count()).tolist()
    return first, second


def of_first(function: Callable[[], float], like: Tensor) -> float:
    """What the function says to the first process, which alone asks it; ``like`` is on the device that they share."""
    if count() == 1:
        return function()
    value = torch.zeros((), dtype=torch.float64, device=like.device)
    if is_first():
        value.fill_(function())
    distributed.broadcast(value, 0)
    return float(value)


def together(loss: Callable[[int], Tensor], network: nn.Module) -> nn.Module:
    """A module that maps a step to its loss, whose backward pass averages the gradients of all processes."""
    module = _Loss(network, loss)
    if count() == 1:
        return module
    device = next(network.parameters()).device
    alike = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in _DDP_OPTIONS)
    own_buffers: dict[str, Any] = {alike: False}  # they never change
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, **own_buffers)


_DDP_OPTIONS = signature(DistributedDataParallel.__init__).parameters


class _Loss(nn.Module):
    def __init__(self, network: nn.Module, loss: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, step: int) -> Tensor:
        return self.loss(step)


@contextmanager
def losses_reported() -> Iterator[None]:
    """An error of what connects the processes becomes one that says so.

    Raises:
        PeerLostError: instead of it.
    """
    try:
        yield
    except RuntimeError as error:
        if count() > 1 and (isinstance(error, distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error)):
            raise PeerLostError("another process of the training has ended before its time") from error
        raise
