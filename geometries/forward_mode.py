"""Forward-mode derivatives by torch, without the deprecation warning of its own that torch gives at the first one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.autograd import forward_ad


@cache
def _loaded() -> None:
    """Let torch load its rules for forward mode: it compiles them by ``torch.jit.script``, which it has deprecated."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def jvp(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Value and directional derivative of ``function``, as :func:`torch.func.jvp` gives them."""
    _loaded()
    value, derivative = torch.func.jvp(function, primals, tangents)[:2]
    return value, derivative
