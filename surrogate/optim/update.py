"""Adam's step in the core, for batches of parameters of equal shape and rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from shapewright.surrogate.optim.moments import round_dithered
from shapewright.surrogate.optim.options import Options
from shapewright.surrogate.optim.state import (
    State,
    as_working,
    factors_of,
    has_subspace,
    moments_of,
    store_moments,
    working_gradient,
)
from shapewright.surrogate.optim.subspace import as_real, lift, lift_onto, project

STACKED_ENTRIES = 2**17
"""Parameters of equal shape are stepped together up to this many entries: larger stacks cost memory and save no time,
which then is that of arithmetic and not of launches."""
TOGETHER_ENTRIES = 2**23
"""Larger ones on a GPU are stepped together, unstacked, up to this many entries of their cores, of which two copies are
held until the step ends: 128 MiB of complex numbers. For one by one the host would take longer to launch forty kernels
each than the GPU to run them."""
_RESOLVED = 1e-12
"""A single precision norm from here on has lost nothing to squares that underflow."""

Update = Callable[[Sequence[Tensor], Sequence[State], Options], None]


def batches(
    parameters: Iterable[Tensor], states: Mapping[Tensor, State], options: Options
) -> Iterator[tuple[Update, list[Tensor]]]:
    """Parameters that can be stepped together, with the function that does it."""
    alike: dict[tuple[Any, ...], list[Tensor]] = {}
    for parameter in parameters:
        state = states[parameter]
        key: tuple[Any, ...] = (update_dense, parameter.dtype, parameter.device)
        if is_unstacked(parameter, state, options):
            key = (update_unstacked, *key[1:], float(state["step"]))
        elif not is_dense(parameter, state, options):
            shapes = tuple((name, value.shape) for name, value in sorted(state.items()))
            key = (update, *key[1:], parameter.shape, float(state["step"]), shapes)
        alike.setdefault(key, []).append(parameter)
    for (method, *_), members in alike.items():
        if method is update_unstacked:
            for group in _of_entries(members, [states[each]["mean"].numel() for each in members], TOGETHER_ENTRIES):
                yield method, group
            continue
        most = len(members) if method is update_dense else max(1, STACKED_ENTRIES // max(1, members[0].numel()))
        for begin in range(0, len(members), most):
            yield method, members[begin : begin + most]


def _of_entries(members: Sequence[Tensor], entries: Sequence[int], most: int) -> Iterator[list[Tensor]]:
    """Consecutive members of at most so many entries together, or of one."""
    group: list[Tensor] = []
    held = 0
    for member, count in zip(members, entries, strict=True):
        if group and held + count > most:
            yield group
            group, held = [], 0
        group.append(member)
        held += count
    if group:
        yield group


def is_unstacked(parameter: Tensor, state: State, options: Options) -> bool:
    """Whether it is large and on a GPU, with a subspace and moments that can be changed in place, as it itself."""
    large = parameter.device.type == "cuda" and parameter.numel() > STACKED_ENTRIES and options.moments == "full"
    if not large or not has_subspace(state):
        return False
    target = as_working(parameter, options.complex_pairs)
    return target is not None and target.is_contiguous() and target.dtype == state["mean"].dtype


def is_dense(parameter: Tensor, state: State, options: Options) -> bool:
    """Whether torch's kernel can step it, which has neither subspaces nor real mean squares of complex parameters."""
    plain = parameter.dtype in (torch.float32, torch.float64) and parameter.is_contiguous()
    fitting = not options.complex_pairs and state["mean"].dtype == parameter.dtype
    return plain and fitting and not has_subspace(state)


def update_dense(parameters: Sequence[Tensor], states: Sequence[State], options: Options) -> None:
    """One step, in place in parameters and states, of real parameters on one device that are not projected.

    By torch's own AdamW kernel over all of them at once, the same as :func:`update` up to rounding.
    """
    on_cpu = parameters[0].device.type == "cpu"
    beta1, beta2 = options.betas
    adamw(
        list(parameters),
        [working_gradient(parameter, complex_pairs=False).contiguous() for parameter in parameters],
        [state["mean"] for state in states],
        [state["mean_square"] for state in states],
        [],
        [state["step"] for state in states],
        fused=on_cpu,  # elsewhere the kernel expects the steps on the device
        foreach=not on_cpu,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=float(options.lr),
        weight_decay=options.weight_decay,
        eps=options.eps,
        maximize=False,
    )


def update(parameters: Sequence[Tensor], states: Sequence[State], options: Options) -> None:
    """One step, in place in parameters and states, from ``parameter.grad``."""
    for state in states:
        state["step"] += 1
    gradients = [working_gradient(parameter, options.complex_pairs) for parameter in parameters]
    gradient = gradients[0][None] if len(gradients) == 1 else torch.stack(gradients)
    factors = factors_of(states, gradient.dim() - 1)
    core = project(gradient, factors)
    direction = _adam(core, states, options)
    if any(factor is not None for factor in factors):
        scale = options.scale or math.sqrt(gradient[0].numel() / core[0].numel())
        weight = options.residual_weight
        rate = None
        if weight:
            rate = weight * _residual_rate(_norms(gradient), _norms(core), _norms(direction), direction.dtype)
        if rate is not None:  # lifting is linear: the gradient's part inside is subtracted before it
            as_real(direction).sub_(as_real(core).mul_(_spread(rate, as_real(core))))
        target = as_working(parameters[0], options.complex_pairs) if len(parameters) == 1 else None
        if target is not None and target.dtype == direction.dtype and target.is_contiguous():
            as_real(direction).mul_(-options.lr * scale)
            lift_onto(target, direction[0], tuple(f if f is None else f[0] for f in factors), options.keep)
            if rate is not None:
                _add(target, gradient[0], rate, -options.lr * scale)
            return
        direction = lift(direction, factors)
        if rate is not None:
            direction.add_(_spread(rate, gradient) * gradient)
        direction.mul_(scale)
    for parameter, change, state in zip(parameters, direction, states, strict=True):
        descend(parameter, change, options, int(state["step"]))


def update_unstacked(parameters: Sequence[Tensor], states: Sequence[State], options: Options) -> None:
    """As :func:`update` up to rounding, of parameters of any shapes: one launch for all of them where torch has it."""
    for state in states:
        state["step"] += 1
    gradients = [working_gradient(parameter, options.complex_pairs) for parameter in parameters]
    factors = [factors_of([state], gradient.dim()) for state, gradient in zip(states, gradients, strict=True)]
    cores = [project(gradient[None], own)[0] for gradient, own in zip(gradients, factors, strict=True)]
    directions = _adam_unstacked(cores, states, options)
    rates = None
    if options.residual_weight:
        norms = [torch.stack(torch._foreach_norm([as_real(each) for each in tensors], 2, dtype=torch.float64))
                 for tensors in (gradients, cores, directions)]  # fmt: skip
        rates = options.residual_weight * _residual_rate(norms[0], norms[1], norms[2], directions[0].dtype)
    for index, (parameter, gradient, core) in enumerate(zip(parameters, gradients, cores, strict=True)):
        target = as_working(parameter, options.complex_pairs)
        assert target is not None  # as is_unstacked has seen
        factor = -options.lr * (options.scale or math.sqrt(gradient.numel() / core.numel()))
        if rates is not None:
            as_real(directions[index]).addcmul_(as_real(core), rates[index], value=-1)
        own = tuple(each if each is None else each[0] for each in factors[index])
        lift_onto(target, directions[index], own, options.keep, factor)
        if rates is not None:
            _add(target, gradient, rates[index], factor)


def _adam_unstacked(cores: Sequence[Tensor], states: Sequence[State], options: Options) -> list[Tensor]:
    """As :func:`_adam`, of moments in full precision."""
    (beta1, beta2), step = options.betas, float(states[0]["step"])
    means, squares = [as_real(state["mean"]) for state in states], [state["mean_square"] for state in states]
    torch._foreach_lerp_(means, [as_real(core) for core in cores], 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    for core, square in zip(cores, squares, strict=True):
        for part in (torch.view_as_real(core) if core.is_complex() else core[..., None]).unbind(-1):
            square.addcmul_(part, part, value=1 - beta2)
    roots = torch._foreach_div(squares, 1 - beta2**step)
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, options.eps)
    torch._foreach_mul_(roots, 1 - beta1**step)
    if not cores[0].is_complex():
        return list(torch._foreach_div(means, roots))
    return [torch.view_as_complex(mean / root[..., None]) for mean, root in zip(means, roots, strict=True)]


def descend(parameter: Tensor, direction: Tensor, options: Options, step: int) -> None:
    """Decoupled weight decay and the step along ``direction``, rounded once: to half precision with dither."""
    target, change = as_real(parameter), as_real(direction)
    change = change.reshape(target.shape)
    if target.dtype == change.dtype:
        target.mul_(options.keep).add_(change, alpha=-options.lr)
    else:
        moved = target.to(change.dtype).mul_(options.keep).add_(change, alpha=-options.lr)
        target.copy_(round_dithered(moved.reshape(1, -1), target.dtype, step, signed=True).reshape(target.shape))


def decay(parameter: Tensor, options: Options) -> None:
    """Decoupled weight decay alone."""
    as_real(parameter).mul_(options.keep)


def _adam(core: Tensor, states: Sequence[State], options: Options) -> Tensor:
    """Enter the core gradient in the moments; their bias-corrected ratio."""
    (beta1, beta2), step = options.betas, float(states[0]["step"])
    moments = moments_of(states, core.dtype)
    square = moments.mean_square
    # with real and imaginary parts in a last dimension: torch's complex kernels take 2 to 10 times as long
    pairs, mean = (torch.view_as_real(t) if t.is_complex() else t[..., None] for t in (core, moments.mean))
    mean.lerp_(pairs, 1 - beta1)
    square.mul_(beta2)
    for part in pairs.unbind(-1):
        square.addcmul_(part, part, value=1 - beta2)
    store_moments(states, moments, options.moments)
    denominator = (square / (1 - beta2**step)).sqrt_().add_(options.eps).mul_(1 - beta1**step)
    direction = mean / denominator[..., None]
    return torch.view_as_complex(direction) if core.is_complex() else direction[..., 0]


def _residual_rate(whole: Tensor, inside: Tensor, length: Tensor, dtype: torch.dtype) -> Tensor:
    """Step per unit of gradient outside the subspace, (batch,), from norms of gradients, cores and directions.

    That of Adam inside on average, limited so that the step outside is never the longer one; 0 without a gradient.
    """
    outside = (whole.square() - inside.square()).clamp_min(0).sqrt()
    rate = (length / torch.maximum(inside, outside)).clamp_max(torch.finfo(dtype).max)
    return torch.where(whole > 0, rate, 0.0).to(dtype.to_real())


def _norms(batch: Tensor) -> Tensor:
    """Norms (batch,), in double precision if squares of single precision underflow or overflow, and always on a GPU.

    There no check waits for the device. Single precision takes a quarter of the time for a tensor in the cache.
    """
    flat = as_real(batch).flatten(1)
    if flat.device.type == "cpu":
        norms = torch.linalg.vector_norm(flat, dim=1)
        if all(_RESOLVED < norm < math.inf for norm in norms.tolist()):
            return norms.double()
    return torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)


def _add(target: Tensor, gradient: Tensor, rate: Tensor, factor: float) -> None:
    """``target`` plus ``factor`` times ``rate`` (1,) times the gradient, without a copy of it."""
    target, gradient = as_real(target), as_real(gradient)
    if rate.device.type == "cpu":
        target.add_(gradient, alpha=factor * float(rate))
    else:
        target.addcmul_(gradient, rate, value=factor)  # does not wait for the device


def _spread(rate: Tensor, like: Tensor) -> Tensor:
    return rate.reshape(-1, *[1] * (like.dim() - 1))
