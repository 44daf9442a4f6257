"""Steps from inside the backward pass, and what replaces a gradient that was used and freed there."""

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

    The hooks do not keep the optimizer alive, and are removed with it.

    Raises:
        ValueError: a parameter is stepped by another optimizer that is alive.
    """
    if any(_is_stepped(parameter) for parameter in parameters):
        gc.collect()  # an optimizer in a reference cycle, such as with its scheduler, may still exist
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


class ReleasedGradient(Tensor):
    """Value of ``parameter.grad`` with shape and type but no memory, which refuses every operation.

    With None instead, accumulating a second gradient or clipping by the global norm would silently be wrong.
    """

    @staticmethod
    def __new__(cls: type[ReleasedGradient], like: Tensor) -> ReleasedGradient:
        return Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device=like.device)

    def __repr__(self) -> str:  # type: ignore[override] # torch's takes a keyword that its own printing alone uses
        return f"ReleasedGradient(shape={tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch types the hook as the function that switches it off
        cls, function: Any, types: tuple[type, ...], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Refuse all operations except detaching, which reads nothing.

        Raises:
            RuntimeError: names the likely reasons.
        """
        if function is torch.ops.aten.detach.default:
            return ReleasedGradient(args[0])
        raise RuntimeError(
            f"{function} needs a gradient that was already used and freed: the optimizer has step_in_backward=True,"
            " which excludes gradient accumulation (call zero_grad before every backward), clipping by the global"
            " norm and gradient scaling; use step_in_backward=False for those"
        )
