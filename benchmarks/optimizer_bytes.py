"""What an optimizer holds in memory beside the parameters and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def optimizer_state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of every tensor in the optimizer's state: moments, factors, scales, counters, whatever their device.

    Memory is counted, not entries: a view counts with all of the storage that it keeps alive, and storage that is
    shared counts once.
    """
    storages = (tensor.untyped_storage() for tensor in _tensors(optimizer.state))
    return sum({(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}.values())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
