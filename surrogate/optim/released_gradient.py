"""What stands in place of a gradient that was used and freed during the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ReleasedGradient(Tensor):
    """Stands in ``parameter.grad`` with shape and type but no memory, and refuses every operation.

    Accumulating a second gradient onto it, or clipping by the global norm, would silently do the wrong thing with
    None in its place.
    """

    @staticmethod
    def __new__(cls: type[ReleasedGradient], like: Tensor) -> ReleasedGradient:
        return Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device=like.device)

    def __repr__(self) -> str:
        return f"ReleasedGradient(shape={tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: tuple[type, ...], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Refuse, but for detaching, which reads nothing.

        Raises:
            RuntimeError: always else; says what the likely reasons are.
        """
        if function is torch.ops.aten.detach.default:
            return ReleasedGradient(args[0])
        raise RuntimeError(
            f"{function} needs a gradient that was already used and freed: the optimizer has step_in_backward=True,"
            " which excludes gradient accumulation (call zero_grad before every backward), clipping by the global"
            " norm and gradient scaling; use step_in_backward=False for those"
        )
