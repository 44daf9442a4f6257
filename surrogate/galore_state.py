"""One parameter's state in Tensor-GaLore: its subspace and Adam's moments in it, as plain tensors.

Keys: ``step`` and ``refreshes`` (on the CPU), ``factor_k`` for every mode k that is truncated, ``first`` and
``second`` with ``first_scale`` and ``second_scale`` where moments take eight bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from surrogate.moment_rotation import rotate_moments
from surrogate.moment_storage import decode, encode
from surrogate.tucker import Factors, project, spectra_and_bases, sweep, truncate
from surrogate.tucker_ranks import choose_ranks

State = dict[str, Any]
ON_CPU = ("step", "refreshes")


def working_gradient(gradient: Tensor, complex_pairs: bool) -> Tensor:
    """Gradient in at least single precision, with pairs in the last dimension seen as complex numbers."""
    if gradient.dtype not in (torch.float64, torch.complex128):
        gradient = gradient.to(torch.complex64 if gradient.is_complex() else torch.float32)
    return torch.view_as_complex(gradient.contiguous()) if complex_pairs else gradient


def working_shape(parameter: Tensor, complex_pairs: bool) -> torch.Size:
    """Shape of the tensor that is decomposed."""
    return parameter.shape[:-1] if complex_pairs else parameter.shape


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
        for place, state in enumerate(states):
            _put(state, name, codes[place])
            if scales is not None:
                _put(state, f"{name}_scale", scales[place])


def start(gradient: Tensor, group: dict[str, Any], projected: bool) -> State:
    """State before the first step; a projected one takes its subspace from this gradient."""
    state: State = {"step": torch.tensor(0.0), "refreshes": torch.tensor(0)}
    core = gradient
    if projected:
        factors = _cold(gradient, group)
        core = _set_factors(state, factors, gradient)
    zeros = torch.zeros(core.shape, dtype=core.dtype, device=core.device)
    store_moments([state], zeros[None], torch.zeros_like(zeros[None], dtype=core.dtype.to_real()), group["moments"])
    return state


def refresh(gradient: Tensor, state: State, group: dict[str, Any]) -> None:
    """Move the subspace to follow the gradient, and the moments with it.

    By a sweep from the present factors; from nothing at every ``cold_every``-th refresh, and where the sweep holds no
    more of the gradient than a random subspace would (the gradient has left it, so nothing leads there).
    """
    old = tuple(None if factor is None else factor[0] for factor in factors_of([state], gradient.dim()))
    step = float(state["step"])
    first, second = moments_of([state], gradient.dtype)
    cold = group["cold_every"] and int(state["refreshes"]) % group["cold_every"] == 0
    new = _cold(gradient, group) if cold else sweep(gradient, old)
    core = _set_factors(state, new, gradient)
    if not cold and core.norm() < (core.numel() / gradient.numel()) ** 0.5 * gradient.norm():
        new = _cold(gradient, group)
        core = _set_factors(state, new, gradient)
    moments = rotate_moments(first[0], second[0], old, new, core, *group["betas"], step)
    store_moments([state], *(moment[None] for moment in moments), group["moments"])


def check_state(state: State, shape: Sequence[int]) -> None:
    """Refuse a saved state of a parameter of another shape.

    Raises:
        ValueError: names both shapes.
    """
    if not state:
        return
    saved = list(state["first"].shape[: len(shape)])
    for mode in range(len(saved)):
        if f"factor_{mode}" in state:
            saved[mode] = len(state[f"factor_{mode}"])
    if saved != list(shape):
        raise ValueError(f"the saved state is of a tensor of shape {tuple(saved)}; the parameter's is {tuple(shape)}")


def _cold(gradient: Tensor, group: dict[str, Any]) -> Factors:
    spectra, bases = spectra_and_bases(gradient)
    ranks = choose_ranks(gradient.shape, group["rank"], group["rank_rule"], [values.tolist() for values in spectra])
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
