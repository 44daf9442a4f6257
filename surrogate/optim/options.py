"""Options of a Tensor-GaLore parameter group, and what a saved state must be to continue from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, Self

import torch
from torch import Tensor

from shapewright.surrogate.optim.moments import KINDS
from shapewright.surrogate.optim.subspace import Rank, check_rank

RENAMED_OPTIONS = {"discarded": "residual_weight", "cold_every": "recompute_every"}
"""Option as it was -> name now."""
RENAMED_STATE = {
    "first": "mean",
    "second": "mean_square",
    "first_scale": "mean_scale",
    "second_scale": "mean_square_scale",
}
"""Entry of a saved state as it was -> name now."""
_ENTRIES = {"step", "refreshes", "mean", "mean_square"}


@dataclass(frozen=True)
class Options:
    """What :class:`tensor_galore.TensorGaLore` describes, of one parameter group at one step."""

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    rank: Rank
    rank_rule: str
    update_gap: int
    recompute_every: int
    scale: float | None
    residual_weight: float
    matrices: bool
    moments: str
    complex_pairs: bool

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> Self:
        """Options of a parameter group of torch, which schedulers change."""
        return cls(**{field.name: group[field.name] for field in fields(cls)})

    @property
    def keep(self) -> float:
        """Factor of a parameter by decoupled weight decay."""
        return 1 - self.lr * self.weight_decay

    @property
    def ranks_by_gradient(self) -> bool:
        """Whether ranks depend on the gradient."""
        return not isinstance(self.rank, (list, tuple)) and self.rank_rule != "uniform"

    def is_projected(self, parameter: Tensor) -> bool:
        """Whether the parameter's moments live in a subspace."""
        whole = self.rank == 1 and self.rank_rule != "energy"
        return not whole and len(self.working_shape(parameter)) >= self.least_order

    @property
    def least_order(self) -> int:
        """Order of the smallest tensors that are projected."""
        return 2 if self.matrices else 3

    def working_shape(self, parameter: Tensor) -> torch.Size:
        """Shape of the tensor that is decomposed."""
        return parameter.shape[:-1] if self.complex_pairs else parameter.shape

    def check(self) -> None:
        """Refuse options that are out of range.

        Raises:
            ValueError: names the option, what was found and what is allowed.
        """
        check_rank(self.rank, self.rank_rule)
        beta1, beta2 = self.betas
        allowed = (
            ("lr", self.lr >= 0, "a number from 0"),
            ("betas", 0 <= beta1 < 1 and 0 <= beta2 < 1, "two numbers from 0 to below 1"),
            ("eps", self.eps >= 0, "a number from 0"),
            ("weight_decay", self.weight_decay >= 0, "a number from 0"),
            ("update_gap", _is_count(self.update_gap, 1), "an integer from 1"),
            ("recompute_every", _is_count(self.recompute_every, 0), "an integer from 0"),
            ("scale", self.scale is None or self.scale > 0, "None or a number above 0"),
            ("residual_weight", self.residual_weight >= 0, "a number from 0"),
            ("moments", self.moments in KINDS, ", ".join(map(repr, KINDS))),
        )
        for name, good, what in allowed:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed is {what}")

    def check_parameter(self, parameter: Tensor) -> None:
        """Refuse a parameter that the options do not fit.

        Raises:
            ValueError: names the option, and the parameter by its shape.
        """
        if self.complex_pairs and (parameter.is_complex() or parameter.dim() < 2 or parameter.shape[-1] != 2):
            raise ValueError(
                "complex_pairs=True takes real parameters whose last dimension is 2 (real and imaginary part); found"
                f" {parameter.dtype} of shape {tuple(parameter.shape)}: put it in a group with complex_pairs=False"
            )
        order, rank = len(self.working_shape(parameter)), self.rank
        if isinstance(rank, (list, tuple)) and order >= self.least_order and len(rank) != order:
            raise ValueError(
                f"rank has {len(rank)} entries; a parameter of order {order} (shape {tuple(parameter.shape)})"
                f" needs {order}"
            )

    def check_state(self, state: Mapping[str, Tensor], parameter: Tensor) -> None:
        """Refuse a saved state that does not belong to this parameter.

        Raises:
            ValueError: names both shapes, or the entries that are missing.
        """
        if not state:
            return
        if not state.keys() >= _ENTRIES:
            found, expected = (", ".join(map(repr, sorted(names))) for names in (state, _ENTRIES))
            raise ValueError(
                f"the saved state has {found} and not {expected}:"
                " it is of another optimizer; load only the weights, and start this optimizer anew"
            )
        shape = list(self.working_shape(parameter))
        saved = list(state["mean"].shape[: len(shape)])
        for mode in range(len(saved)):
            if f"factor_{mode}" in state:
                saved[mode] = len(state[f"factor_{mode}"])
        if saved != shape:
            raise ValueError(
                f"the saved state is of a tensor of shape {tuple(saved)}; the parameter's is {tuple(shape)}"
            )


def refuse_former_names(group: Mapping[str, Any]) -> None:
    """Refuse options under their former names, which torch would ignore.

    Raises:
        ValueError: names the option and what it is called now.
    """
    for former, name in RENAMED_OPTIONS.items():
        if former in group:
            raise ValueError(f"the option {former} of a parameter group is called {name} now")


def completed_state(saved: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The saved ``state_dict`` with present names, and missing options from the optimizer's own groups.

    Args:
        own: the optimizer's groups with the parameters that the state is for; torch itself refuses other numbers of
            them.

    Raises:
        ValueError: options that are not allowed, or state of another optimizer or of parameters of other shapes.
    """
    named = [_renamed(group, RENAMED_OPTIONS) for group in saved["param_groups"]]
    none: Mapping[str, Any] = {}
    groups = [{**mine, **group} for group, mine in zip_longest(named, own, fillvalue=none) if group]
    states = {number: _renamed(state, RENAMED_STATE) for number, state in saved["state"].items()}
    for group, mine in zip(groups, own, strict=False):
        options = Options.of(group)
        options.check()
        for number, parameter in zip(group["params"], mine["params"], strict=False):
            options.check_parameter(parameter)
            options.check_state(states.get(number, {}), parameter)
    return {**saved, "param_groups": groups, "state": states}


def _renamed(entries: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in entries.items()}


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
