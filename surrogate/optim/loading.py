"""What a saved state must be for Tensor-GaLore to go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor

from shapewright.surrogate.optim.options import check_options, check_parameter
from shapewright.surrogate.optim.state import State, working_shape

_KEYS = {"step", "refreshes", "first", "second"}


def complete(saved: dict[str, Any], own: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The saved ``state_dict``, with options that a group of it lacks from the optimizer's own group.

    Args:
        own: the optimizer's groups, whose parameters it is for; torch itself refuses other numbers of them.

    Raises:
        ValueError: options that are not allowed, or state of another optimizer or of parameters of other shapes.
    """
    pairs = list(zip_longest(map(_renamed, saved["param_groups"]), own, fillvalue={}))
    groups = [{**mine, **group} for group, mine in pairs if group]
    for group, mine in zip(groups, own, strict=False):
        check_options(group)
        for number, parameter in zip(group["params"], mine["params"], strict=False):
            check_parameter(parameter, group)
            check_state(saved["state"].get(number, {}), parameter, group["complex_pairs"])
    return {**saved, "param_groups": groups}


def _renamed(group: Mapping[str, Any]) -> dict[str, Any]:
    """A saved group with the present names of its options."""
    return {{"discarded": "residual_weight"}.get(name, name): value for name, value in group.items()}


def check_state(state: State, parameter: Tensor, complex_pairs: bool) -> None:
    """Refuse a saved state that is not this parameter's.

    Raises:
        ValueError: names both shapes, or the keys that are lacking.
    """
    if not state:
        return
    if not state.keys() >= _KEYS:
        raise ValueError(
            f"the saved state has {', '.join(map(repr, sorted(state)))} and not {', '.join(map(repr, sorted(_KEYS)))}:"
            " it is of another optimizer; load the weights only, and start this one anew"
        )
    shape = list(working_shape(parameter, complex_pairs))
    saved = list(state["first"].shape[: len(shape)])
    for mode in range(len(saved)):
        if f"factor_{mode}" in state:
            saved[mode] = len(state[f"factor_{mode}"])
    if saved != shape:
        raise ValueError(f"the saved state is of a tensor of shape {tuple(saved)}; the parameter's is {tuple(shape)}")
