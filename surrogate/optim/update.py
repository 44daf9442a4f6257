"""Adam's step in the core, for a batch of parameters of equal shape and rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shapewright.surrogate.optim.moment_dither import rounded
from shapewright.surrogate.optim.state import (
    State,
    as_working,
    factors_of,
    moments_of,
    store_moments,
    working_gradient,
)
from shapewright.surrogate.optim.tucker import as_real, lift, lift_onto, project

_TRUSTED = 1e-12
"""A single precision norm from here on has lost nothing to squares that vanish."""


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
        weight = group["residual_weight"]
        rate = weight * _residual_rate(gradient, core, direction) if weight else None
        if rate is not None:  # lifting is linear: the part of the gradient inside is taken off before it
            as_real(direction).sub_(as_real(core).mul_(_spread(rate, as_real(core))))
        target = as_working(parameters[0], group["complex_pairs"]) if len(parameters) == 1 else None
        if target is not None and target.dtype == direction.dtype and target.is_contiguous():
            as_real(direction).mul_(-group["lr"] * scale)
            lift_onto(target, direction[0], tuple(f if f is None else f[0] for f in factors), _keep(group))
            if rate is not None:
                _add(target, gradient[0], rate, -group["lr"] * scale)
            return
        direction = lift(direction, factors)
        if rate is not None:
            direction.add_(_spread(rate, gradient) * gradient)
        direction.mul_(scale)
    for parameter, change, state in zip(parameters, direction, states, strict=True):
        descend(parameter, change, group, int(state["step"]))


def descend(parameter: Tensor, direction: Tensor, group: dict[str, Any], step: int) -> None:
    """Decoupled weight decay and the step along ``direction``, rounded once: with a dither to half precision."""
    target, change = as_real(parameter), as_real(direction)
    change, keep = change.reshape(target.shape), _keep(group)
    if target.dtype == change.dtype:
        target.mul_(keep).add_(change, alpha=-group["lr"])
    else:
        moved = target.to(change.dtype).mul_(keep).add_(change, alpha=-group["lr"])
        target.copy_(rounded(moved.reshape(1, -1), target.dtype, step, signed=True).reshape(target.shape))


def decay(parameter: Tensor, group: dict[str, Any]) -> None:
    """Decoupled weight decay alone."""
    as_real(parameter).mul_(_keep(group))


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


def _residual_rate(gradient: Tensor, core: Tensor, direction: Tensor) -> Tensor:
    """Step per unit of gradient outside the subspace, (batch,).

    That of Adam inside on average, but such that the step outside is never the longer one; 0 without a gradient.
    """
    whole, inside, length = map(_norms, (gradient, core, direction))
    outside = (whole.square() - inside.square()).clamp_min(0).sqrt()
    rate = (length / torch.maximum(inside, outside)).clamp_max(torch.finfo(direction.dtype).max)
    return torch.where(whole > 0, rate, 0.0).to(direction.real.dtype)


def _norms(batch: Tensor) -> Tensor:
    """In double precision where squares of single precision vanish or overflow, and on a GPU, where none waits to see.

    Of a tensor that stays in the cache single precision takes a quarter of the time.
    """
    flat = as_real(batch).flatten(1)
    if flat.device.type == "cpu":
        norms = torch.linalg.vector_norm(flat, dim=1)
        if all(_TRUSTED < norm < math.inf for norm in norms.tolist()):
            return norms.double()
    return torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)


def _add(target: Tensor, gradient: Tensor, rate: Tensor, factor: float) -> None:
    """``target`` plus ``factor`` times ``rate`` (1,) times the gradient, without a copy of it."""
    target, gradient = as_real(target), as_real(gradient)
    if rate.device.type == "cpu":
        target.add_(gradient, alpha=factor * float(rate))
    else:
        target.addcmul_(gradient, rate, value=factor)  # waits for nothing


def _keep(group: dict[str, Any]) -> float:
    return 1 - group["lr"] * group["weight_decay"]


def _spread(rate: Tensor, like: Tensor) -> Tensor:
    return rate.reshape(-1, *[1] * (like.dim() - 1))
