"""Adam's step in the core, for a batch of parameters of equal shape and rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from surrogate.galore_state import State, factors_of, moments_of, store_moments, working_gradient
from surrogate.tucker import lift, project


def update(parameters: Sequence[Tensor], states: Sequence[State], group: dict[str, Any]) -> None:
    """One step, in place in parameters and states, from ``parameter.grad``."""
    for state in states:
        state["step"] += 1
    gradients = [working_gradient(parameter.grad, group["complex_pairs"]) for parameter in parameters]
    gradient = gradients[0][None] if len(gradients) == 1 else torch.stack(gradients)
    factors = factors_of(states, gradient.dim() - 1)
    core = project(gradient, factors)
    direction = _adam(core, states, group)
    if any(factor is not None for factor in factors):
        scale = group["scale"] or math.sqrt(gradient[0].numel() / core[0].numel())
        outside = group["discarded"] * _discarded_rate(gradient, core, direction)
        direction = lift(direction - outside * core if group["discarded"] else direction, factors).mul_(scale)
        if group["discarded"]:
            direction.add_(_spread(outside.flatten(), gradient) * gradient, alpha=scale)
    for place, parameter in enumerate(parameters):
        descend(parameter, direction[place], group)


def descend(parameter: Tensor, direction: Tensor | None, group: dict[str, Any]) -> None:
    """Decoupled weight decay, then the step along ``direction`` (None for decay alone), rounded once."""
    target = torch.view_as_real(parameter) if parameter.is_complex() else parameter
    keep = 1 - group["lr"] * group["weight_decay"]
    if direction is None:
        target.mul_(keep)
        return
    change = (torch.view_as_real(direction) if direction.is_complex() else direction).reshape(target.shape)
    if target.dtype == change.dtype:
        target.mul_(keep).add_(change, alpha=-group["lr"])
    else:
        target.copy_(target.to(change.dtype).mul_(keep).add_(change, alpha=-group["lr"]))


def _adam(core: Tensor, states: Sequence[State], group: dict[str, Any]) -> Tensor:
    """Enter the core gradient in the moments; their bias-corrected ratio."""
    (beta1, beta2), step = group["betas"], float(states[0]["step"])
    first, second = moments_of(states, core.dtype)
    first.lerp_(core, 1 - beta1)
    second.mul_(beta2).add_(core.abs().square(), alpha=1 - beta2)
    store_moments(states, first, second, group["moments"])
    denominator = (second / (1 - beta2**step)).sqrt_().add_(group["eps"])
    return first / (1 - beta1**step) / denominator


def _discarded_rate(gradient: Tensor, core: Tensor, direction: Tensor) -> Tensor:
    """Step per unit of gradient outside the subspace, (batch, 1, ..., 1).

    That of Adam inside on average, but such that the step outside is never the longer one.
    """
    inside = torch.linalg.vector_norm(core.flatten(1), dim=1)
    whole = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    outside = (whole.square() - inside.square()).clamp_min(0).sqrt()
    length = torch.linalg.vector_norm(direction.flatten(1), dim=1)
    rate = length / torch.maximum(inside, outside).clamp_min(torch.finfo(length.dtype).tiny)
    return _spread(rate, core)


def _spread(rate: Tensor, like: Tensor) -> Tensor:
    return rate.reshape(-1, *[1] * (like.dim() - 1))
