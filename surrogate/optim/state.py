"""One parameter's state in Tensor-GaLore: its subspace and Adam's moments in it, as plain tensors.

Keys: ``step`` and ``refreshes`` (on the CPU), ``factor_k`` for every mode k that is truncated, ``mean`` and
``mean_square``, with ``mean_scale`` and ``mean_square_scale`` where moments are stored in eight bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shapewright.surrogate.optim.moments import Moments, decode, encode, rotate_moments
from shapewright.surrogate.optim.options import Options
from shapewright.surrogate.optim.subspace import (
    Factors,
    as_real,
    choose_ranks,
    completed,
    project,
    resolved_count,
    spectra_and_bases,
    sweep,
    truncate,
)

State = dict[str, Tensor]
ON_CPU = ("step", "refreshes")
WORTHWHILE = 1.05
"""Other ranks cost momentum along what they leave out: they are taken only for this many times the energy."""


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient of a parameter that is stepped.

    Raises:
        RuntimeError: it has none.
    """
    if parameter.grad is None:
        raise RuntimeError(f"a parameter of shape {tuple(parameter.shape)} has no gradient; none is stepped without")
    return parameter.grad


def working_gradient(parameter: Tensor, complex_pairs: bool) -> Tensor:
    """Gradient in at least single precision, with pairs in the last dimension viewed as complex numbers."""
    gradient = gradient_of(parameter).resolve_conj().resolve_neg()
    if gradient.dtype not in (torch.float64, torch.complex128):
        gradient = gradient.to(torch.complex64 if gradient.is_complex() else torch.float32)
    seen = as_working(gradient.contiguous() if complex_pairs else gradient, complex_pairs)
    return torch.view_as_complex(gradient.clone(memory_format=torch.contiguous_format)) if seen is None else seen


def as_working(tensor: Tensor, complex_pairs: bool) -> Tensor | None:
    """A view of the tensor that is decomposed; None if the memory of pairs is not that of complex numbers.

    It is not at an odd offset, as in a bucket of DistributedDataParallel.
    """
    if not complex_pairs:
        return tensor
    *strides, last = tensor.stride()
    apart = last != 1 or tensor.storage_offset() % 2 or any(stride % 2 for stride in strides)
    return None if apart else torch.view_as_complex(tensor)


def has_subspace(state: State) -> bool:
    """Whether any mode is truncated."""
    return any(key.startswith("factor_") for key in state)


def factors_of(states: Sequence[State], order: int) -> Factors:
    """Factors of a batch of states with equal ranks: (batch, n, r) or None for each mode."""
    return tuple(
        _stack([state[f"factor_{mode}"] for state in states]) if f"factor_{mode}" in states[0] else None
        for mode in range(order)
    )


def moments_of(states: Sequence[State], like: torch.dtype) -> Moments:
    """Moments of a batch, (batch, *core) each."""

    def read(name: str, dtype: torch.dtype) -> Tensor:
        scales = _stack([state[f"{name}_scale"] for state in states]) if f"{name}_scale" in states[0] else None
        return decode(_stack([state[name] for state in states]), scales, dtype)

    return Moments(read("mean", like), read("mean_square", like.to_real()))


def store_moments(states: Sequence[State], moments: Moments, kind: str) -> None:
    """Write (batch, *core) moments into a batch of states at the same step."""
    step = int(states[0]["step"])
    for name, values in (("mean", moments.mean), ("mean_square", moments.mean_square)):
        codes, scales = encode(values, kind, step, signed=name == "mean")
        for index, state in enumerate(states):
            _put(state, name, codes[index])
            if scales is not None:
                _put(state, f"{name}_scale", scales[index])


def start(gradient: Tensor, options: Options, projected: bool) -> State:
    """State before the first step; the subspace of a projected one is that of this gradient."""
    state: State = {"step": torch.tensor(0.0), "refreshes": torch.tensor(0)}
    core = gradient
    if projected:
        factors = _recomputed(gradient, options, (None,) * gradient.dim())
        core = _set_factors(state, factors, gradient)
    zeros = torch.zeros(core.shape, dtype=core.dtype, device=core.device)[None]
    store_moments([state], Moments(zeros, torch.zeros_like(zeros, dtype=core.dtype.to_real())), options.moments)
    return state


def refresh(gradient: Tensor, state: State, options: Options) -> None:
    """Let the subspace follow the gradient, and change the coordinates of the moments.

    It is updated by one subspace iteration from the present factors. It is recomputed from the gradient alone if
    :func:`is_recomputed`; if the updated one has no more of the gradient's energy than a random subspace (it is
    about orthogonal to the gradient, from where no iteration leads to it); and at the first refresh if other ranks
    have noticeably more energy, since a training's very first gradient may be of a single frequency.
    """
    old = tuple(None if factor is None else factor[0] for factor in factors_of([state], gradient.dim()))
    moments = moments_of([state], gradient.dtype)
    if is_recomputed(state, options):
        new = _recomputed(gradient, options, old)
    else:
        new = sweep(gradient, old)
        energy_share = _energy_share(gradient, new)
        if int(state["refreshes"]) == 1 and options.ranks_by_gradient:
            other = _recomputed(gradient, options, old)
            new = other if _energy_share(gradient, other) > WORTHWHILE * energy_share else new
        elif energy_share < moments.mean.numel() / gradient.numel():
            new = _recomputed(gradient, options, old)
    core, step = _set_factors(state, new, gradient), float(state["step"])
    beta1, beta2 = options.betas
    rotated = rotate_moments(
        Moments(moments.mean[0], moments.mean_square[0]), old, new, core, (1 - beta1**step, 1 - beta2**step)
    )
    store_moments([state], Moments(rotated.mean[None], rotated.mean_square[None]), options.moments)


def is_recomputed(state: State, options: Options) -> bool:
    """Whether the next refresh uses the gradient alone: every ``recompute_every``-th, and the first by energy."""
    refreshes = int(state["refreshes"])
    by_energy = options.rank_rule == "energy" and options.ranks_by_gradient
    return bool(options.recompute_every and refreshes % options.recompute_every == 0) or (refreshes == 1 and by_energy)


def _energy_share(gradient: Tensor, factors: Factors) -> float:
    """Share of the gradient's energy in the subspace; in double precision, whose squares do not overflow."""
    core = project(gradient[None], _batched(factors))
    inside, whole = (torch.linalg.vector_norm(as_real(t), dtype=torch.float64) for t in (core, gradient))
    return float(inside / whole) ** 2


def _recomputed(gradient: Tensor, options: Options, old: Factors) -> Factors:
    """A subspace from the gradient alone, completed from the old one if the gradient has too few directions."""
    spectra, bases = spectra_and_bases(gradient)
    ranks = choose_ranks(gradient.shape, options.rank, options.rank_rule, [values.tolist() for values in spectra])
    for mode, (values, rank, factor) in enumerate(zip(spectra, ranks, old, strict=True)):
        count = resolved_count(values)
        if factor is not None and count < rank < len(values):
            bases[mode] = completed(bases[mode][:, :count], factor, len(values))
    return truncate(bases, ranks)


def _set_factors(state: State, factors: Factors, gradient: Tensor) -> Tensor:
    """Enter a new subspace; returns the gradient's core in it."""
    for mode, factor in enumerate(factors):
        if factor is None:
            state.pop(f"factor_{mode}", None)
        else:
            state[f"factor_{mode}"] = factor
    return project(gradient[None], _batched(factors))[0]


def _batched(factors: Factors) -> Factors:
    return tuple(None if factor is None else factor[None] for factor in factors)


def _put(state: State, name: str, value: Tensor) -> None:
    present = state.get(name)
    if present is not None and present.shape == value.shape and present.dtype == value.dtype:
        if present.data_ptr() != value.data_ptr():
            present.copy_(value)
    else:
        state[name] = value.clone()  # its own storage: a slice would keep the whole batch alive


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """A batch; of one, a view, so that large tensors are not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tuple(tensors))
