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
        if group["discarded"]:
            rate = group["discarded"] * _discarded_rate(gradient, core, direction)
            # lifting is linear: the part of the gradient inside is taken off before it
            direction = lift(direction - _spread(rate, core) * core, factors).add_(_spread(rate, gradient) * gradient)
        else:
            direction = lift(direction, factors)
        direction.mul_(scale)
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
    # with real and imaginary parts in a last dimension: torch's complex kernels take 2 to 10 times as long
    pairs, mean = (torch.view_as_real(t) if t.is_complex() else t[..., None] for t in (core, first))
    mean.lerp_(pairs, 1 - beta1)
    second.mul_(beta2)
    for part in pairs.unbind(-1):
        second.addcmul_(part, part, value=1 - beta2)
    store_moments(states, first, second, group["moments"])
    denominator = (second / (1 - beta2**step)).sqrt_().add_(group["eps"]).mul_(1 - beta1**step)
    direction = mean / denominator[..., None]
    return torch.view_as_complex(direction) if core.is_complex() else direction[..., 0]


def _discarded_rate(gradient: Tensor, core: Tensor, direction: Tensor) -> Tensor:
    """Step per unit of gradient outside the subspace, (batch,).

    That of Adam inside on average, but such that the step outside is never the longer one; 0 without a gradient.
    """
    whole, inside, length = map(_norms, (gradient, core, direction))
    outside = (whole.square() - inside.square()).clamp_min(0).sqrt()
    rate = (length / torch.maximum(inside, outside)).clamp_max(torch.finfo(direction.dtype).max)
    return torch.where(whole > 0, rate, 0.0).to(direction.real.dtype)


def _norms(batch: Tensor) -> Tensor:
    """In double precision, in which squares of single precision neither vanish nor overflow."""
    real = torch.view_as_real(batch) if batch.is_complex() else batch
    return torch.linalg.vector_norm(real.flatten(1), dim=1, dtype=torch.float64)


def _spread(rate: Tensor, like: Tensor) -> Tensor:
    return rate.reshape(-1, *[1] * (like.dim() - 1))
