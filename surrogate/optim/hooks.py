"""Steps from inside the backward pass, for as long as the optimizer lives."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_STEPPED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Parameters with the optimizer that steps them, by a weak reference."""


def step_when_ready(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], method: Callable[..., None]
) -> None:
    """Call ``method(optimizer, parameter)`` as soon as a parameter's gradient is accumulated.

    The hooks do not keep the optimizer alive, and go with it.

    Raises:
        ValueError: a parameter is stepped by another optimizer that is alive.
    """
    if any(_is_stepped(parameter) for parameter in parameters):
        gc.collect()  # an optimizer in a cycle, with its scheduler for one, lingers
    for parameter in parameters:
        if _is_stepped(parameter):
            raise ValueError(
                f"step_in_backward=True: a parameter of shape {tuple(parameter.shape)} is already stepped in the"
                " backward pass by another optimizer; delete that one first, or use step_in_backward=False"
            )
    reference = weakref.ref(optimizer)

    def hook(parameter: Tensor) -> None:
        alive = reference()
        if alive is not None:
            method(alive, parameter)

    for parameter in parameters:
        _STEPPED[parameter] = reference
        weakref.finalize(optimizer, _remove, parameter.register_post_accumulate_grad_hook(hook))


def _is_stepped(parameter: Tensor) -> bool:
    reference = _STEPPED.get(parameter)
    return reference is not None and reference() is not None


def _remove(handle: Any) -> None:
    handle.remove()
