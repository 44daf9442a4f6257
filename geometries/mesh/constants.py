"""Fixed arrays on the device that works with them, copied there once.

Every copy from host memory stops the host until a GPU has done all that it was asked before, and cannot be part of a
CUDA graph. On the CPU nothing is kept: an array is its own tensor there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEPT = 1024
"""Tensors kept at most; the least recently used one is dropped first."""
COMPARED = 2**15
"""Bytes up to which arrays are known again by what they hold; larger ones by being the same object."""

_KEPT: OrderedDict[tuple[Any, ...], tuple[object, Tensor]] = OrderedDict()


def constant(
    values: NDArray[Any] | Tensor | Sequence[float], like: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """``values``, which nobody changes, on the device of ``like``, in its type or in ``dtype``.

    A transform of torch.func that is at work does not see the copy, so that it outlasts it.
    """
    dtype = like.dtype if dtype is None else dtype
    if like.device.type == "cpu":
        return _tensor(values).to(dtype=dtype)
    with torch._C._DisableFuncTorch():
        return _kept(values, like.device, dtype)


def _kept(values: NDArray[Any] | Tensor | Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    array = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    identity = (array.tobytes(), array.shape, array.dtype.str) if array.nbytes <= COMPARED else (id(values),)
    key = (*identity, device, dtype)
    if key not in _KEPT:
        _KEPT[key] = values, _tensor(values).to(device, dtype)  # values too: their id must not be reused
    _KEPT.move_to_end(key)
    while len(_KEPT) > KEPT:
        _KEPT.popitem(last=False)
    return _KEPT[key][1]


def rows_of(values: Tensor, index: Tensor, dim: int) -> Tensor:
    """``values`` at an integer ``index`` of any shape, which replaces axis ``dim`` (negative).

    As ``values[..., index]``, whose reverse pass sorts the index on a GPU; this one adds.
    """
    return values.index_select(dim, index.flatten()).unflatten(dim, index.shape)


def is_capturing(like: Tensor) -> bool:
    """Whether work on the device of ``like`` is being recorded as a CUDA graph, which must not ask it for numbers."""
    return like.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _tensor(values: NDArray[Any] | Tensor | Sequence[float]) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(values) if isinstance(values, np.ndarray) else torch.tensor(values, dtype=torch.float64)
