"""Functions that torch.autocast leaves alone.

Autocast takes matrix products to half precision. Three digits are enough for the layers of a network, but not for
positions, quadrature weights and integrals, and sums that mix both types are refused by torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import torch
from torch import Tensor

DEVICES = ("cpu", "cuda")
_HALF = (torch.float16, torch.bfloat16)


def full_precision[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with autocast off, and arguments that autocast had taken to half precision in single again."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        active = [device for device in DEVICES if torch.is_autocast_enabled(device)]
        if not active:
            return function(*args, **kwargs)
        with ExitStack() as stack:
            for device in active:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})

    return called


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value
