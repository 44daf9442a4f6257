"""One parameter's state in Tensor-GaLore: its subspace and Adam's moments in it, as plain tensors.

Keys: ``step`` and ``refreshes`` (on the CPU), ``factor_k`` for every mode k that is truncated, ``first`` and
``second`` with ``first_scale`` and ``second_scale`` where moments take eight bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shapewright.surrogate.optim.moment_rotation import rotate_moments
from shapewright.surrogate.optim.moment_storage import decode, encode
from shapewright.surrogate.optim.tucker import (
    Factors,
    as_real,
    completed,
    project,
    resolved_count,
    spectra_and_bases,
    sweep,
    truncate,
)
from shapewright.surrogate.optim.tucker_ranks import choose_ranks

State = dict[str, Any]
ON_CPU = ("step", "refreshes")
WORTHWHILE = 1.05
"""Other ranks cost momentum along what they leave out: they are taken where they hold this many times the energy."""


def working_gradient(gradient: Tensor, complex_pairs: bool) -> Tensor:
    """Gradient in at least single precision, with pairs in the last dimension seen as complex numbers."""
    gradient = gradient.resolve_conj().resolve_neg()
    if gradient.dtype not in (torch.float64, torch.complex128):
        gradient = gradient.to(torch.complex64 if gradient.is_complex() else torch.float32)
    seen = as_working(gradient.contiguous() if complex_pairs else gradient, complex_pairs)
    return as_working(gradient.clone(memory_format=torch.contiguous_format), True) if seen is None else seen


def as_working(tensor: Tensor, complex_pairs: bool) -> Tensor | None:
    """A view of the tensor that is decomposed; None where pairs do not lie as complex numbers do in memory.

    So they do not at an odd offset, as in a bucket of DistributedDataParallel.
    """
    if not complex_pairs:
        return tensor
    *strides, last = tensor.stride()
    apart = last != 1 or tensor.storage_offset() % 2 or any(stride % 2 for stride in strides)
    return None if apart else torch.view_as_complex(tensor)


def working_shape(parameter: Tensor, complex_pairs: bool) -> torch.Size:
    """Shape of the tensor that is decomposed."""
    return parameter.shape[:-1] if complex_pairs else parameter.shape


def has_subspace(state: State) -> bool:
    """Whether any mode is truncated."""
    return any(key.startswith("factor_") for key in state)


def factors_of(states: Sequence[State], order: int) -> Factors:
    """Factors of a batch of states with equal ranks: (batch, n, r) or None, a mode each."""
    return tuple(
        _stack([state[f"factor_{mode}"] for state in states]) if f"factor_{mode}" in states[0] else None
        for mode in range(order)
    )


def moments_of(states: Sequence[State], like: torch.dtype) -> tuple[Tensor, Tensor]:
    """First and second moments of a batch, (batch, *core) each."""

    def read(name: str, dtype: torch.dtype) -> Tensor:
        scales = _stack([state[f"{name}_scale"] for state in states]) if f"{name}_scale" in states[0] else None
        return decode(_stack([state[name] for state in states]), scales, dtype)

    return read("first", like), read("second", like.to_real())


def store_moments(states: Sequence[State], first: Tensor, second: Tensor, kind: str) -> None:
    """Write (batch, *core) moments into a batch of states at the same step."""
    step = int(states[0]["step"])
    for name, values in (("first", first), ("second", second)):
        codes, scales = encode(values, kind, step, signed=name == "first")
        for index, state in enumerate(states):
            _put(state, name, codes[index])
            if scales is not None:
                _put(state, f"{name}_scale", scales[index])


def start(gradient: Tensor, group: dict[str, Any], projected: bool) -> State:
    """State before the first step; a projected one takes its subspace from this gradient."""
    state: State = {"step": torch.tensor(0.0), "refreshes": torch.tensor(0)}
    core = gradient
    if projected:
        factors = _cold(gradient, group, (None,) * gradient.dim())
        core = _set_factors(state, factors, gradient)
    zeros = torch.zeros(core.shape, dtype=core.dtype, device=core.device)
    store_moments([state], zeros[None], torch.zeros_like(zeros[None], dtype=core.dtype.to_real()), group["moments"])
    return state


def refresh(gradient: Tensor, state: State, group: dict[str, Any]) -> None:
    """Move the subspace to follow the gradient, and the moments with it.

    By a sweep from the present factors; from nothing where :func:`is_cold`, where the sweep holds no more of the
    gradient than a random subspace would (the gradient has left it, so nothing leads there), and at the first refresh
    where other ranks hold noticeably more: a training's very first gradient may lie at a single frequency, and would
    fix ranks for good.
    """
    old = tuple(None if factor is None else factor[0] for factor in factors_of([state], gradient.dim()))
    first, second = moments_of([state], gradient.dtype)
    if is_cold(state, group):
        new = _cold(gradient, group, old)
    else:
        new = sweep(gradient, old)
        held = _held(gradient, new)
        if int(state["refreshes"]) == 1 and _ranks_by_gradient(group):
            other = _cold(gradient, group, old)
            new = other if _held(gradient, other) > WORTHWHILE * held else new
        elif held < first.numel() / gradient.numel():
            new = _cold(gradient, group, old)
    core = _set_factors(state, new, gradient)
    moments = rotate_moments(first[0], second[0], old, new, core, *group["betas"], float(state["step"]))
    store_moments([state], *(moment[None] for moment in moments), group["moments"])


def is_cold(state: State, group: dict[str, Any]) -> bool:
    """Whether the next refresh starts from nothing: every ``cold_every``-th, and the first of ranks by energy."""
    refreshes = int(state["refreshes"])
    by_energy = group["rank_rule"] == "energy" and _ranks_by_gradient(group)
    return bool(group["cold_every"] and refreshes % group["cold_every"] == 0) or (refreshes == 1 and by_energy)


def _ranks_by_gradient(group: dict[str, Any]) -> bool:
    return not isinstance(group["rank"], (list, tuple)) and group["rank_rule"] != "uniform"


def _held(gradient: Tensor, factors: Factors) -> float:
    """Share of the gradient's energy in the subspace; in double precision, whose squares do not overflow."""
    core = project(gradient[None], tuple(None if factor is None else factor[None] for factor in factors))
    inside, whole = (
        torch.linalg.vector_norm(as_real(t), dtype=torch.float64)
        for t in (core, gradient)
    )
    return float(inside / whole) ** 2


def _cold(gradient: Tensor, group: dict[str, Any], old: Factors) -> Factors:
    """A subspace from the gradient alone, completed from the old one where the gradient has too few directions."""
    spectra, bases = spectra_and_bases(gradient)
    ranks = choose_ranks(gradient.shape, group["rank"], group["rank_rule"], [values.tolist() for values in spectra])
    for mode, (values, rank) in enumerate(zip(spectra, ranks, strict=True)):
        count = resolved_count(values)
        if old[mode] is not None and count < rank < len(values):
            bases[mode] = completed(bases[mode][:, :count], old[mode], len(values))
    return truncate(bases, ranks)


def _set_factors(state: State, factors: Factors, gradient: Tensor) -> Tensor:
    """Enter a new subspace; returns the gradient's core in it."""
    for mode, factor in enumerate(factors):
        if factor is None:
            state.pop(f"factor_{mode}", None)
        else:
            state[f"factor_{mode}"] = factor
    return project(gradient[None], tuple(None if factor is None else factor[None] for factor in factors))[0]


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
