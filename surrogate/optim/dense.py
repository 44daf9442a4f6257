"""Real parameters that are not projected: torch's own AdamW kernel over all of them at once.

Step by step the same as :mod:`optim.update` up to rounding, from the same state tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from shapewright.surrogate.optim.state import State, has_subspace, working_gradient


def is_dense(parameter: Tensor, state: State, group: dict[str, Any]) -> bool:
    """Whether torch's kernel, which knows neither subspaces nor real second moments of complex ones, can take it."""
    plain = parameter.dtype in (torch.float32, torch.float64) and parameter.is_contiguous()
    fitting = not group["complex_pairs"] and state["first"].dtype == parameter.dtype
    return plain and fitting and not has_subspace(state)


def update_dense(parameters: Sequence[Tensor], states: Sequence[State], group: dict[str, Any]) -> None:
    """One step, in place in parameters and states, of parameters on one device."""
    on_cpu = parameters[0].device.type == "cpu"
    beta1, beta2 = group["betas"]
    adamw(
        list(parameters),
        [working_gradient(parameter.grad, complex_pairs=False).contiguous() for parameter in parameters],
        [state["first"] for state in states],
        [state["second"] for state in states],
        [],
        [state["step"] for state in states],
        fused=on_cpu,  # elsewhere it would take the steps to be on the device
        foreach=not on_cpu,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=float(group["lr"]),
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
