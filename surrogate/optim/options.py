"""What the options of a Tensor-GaLore parameter group may be."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shapewright.surrogate.optim.moment_storage import KINDS
from shapewright.surrogate.optim.tucker_ranks import check_rank


def check_options(group: dict[str, Any]) -> None:
    """Refuse options that are out of range.

    Raises:
        ValueError: names the option, what was found and what is allowed.
    """
    check_rank(group["rank"], group["rank_rule"])
    beta1, beta2 = group["betas"]
    allowed = (
        ("lr", group["lr"] >= 0, "a number from 0"),
        ("betas", 0 <= beta1 < 1 and 0 <= beta2 < 1, "two numbers from 0 to below 1"),
        ("eps", group["eps"] >= 0, "a number from 0"),
        ("weight_decay", group["weight_decay"] >= 0, "a number from 0"),
        ("update_gap", _is_count(group["update_gap"], 1), "an integer from 1"),
        ("cold_every", _is_count(group["cold_every"], 0), "an integer from 0"),
        ("scale", group["scale"] is None or group["scale"] > 0, "None or a number above 0"),
        ("residual_weight", group["residual_weight"] >= 0, "a number from 0"),
        ("moments", group["moments"] in KINDS, ", ".join(map(repr, KINDS))),
    )
    for name, good, what in allowed:
        if not good:
            raise ValueError(f"{name} is {group[name]!r}; allowed is {what}")


def check_parameter(parameter: Tensor, group: dict[str, Any]) -> None:
    """Refuse a parameter that the group's options do not fit.

    Raises:
        ValueError: names the option, and the parameter by its shape.
    """
    if group["complex_pairs"] and (parameter.is_complex() or parameter.dim() < 2 or parameter.shape[-1] != 2):
        raise ValueError(
            "complex_pairs=True takes real parameters whose last dimension is 2 (real and imaginary part); found"
            f" {parameter.dtype} of shape {tuple(parameter.shape)}: put it in a group with complex_pairs=False"
        )
    order = parameter.dim() - group["complex_pairs"]
    rank = group["rank"]
    if isinstance(rank, (list, tuple)) and order >= (2 if group["matrices"] else 3) and len(rank) != order:
        raise ValueError(
            f"rank has {len(rank)} entries; a parameter of order {order} (shape {tuple(parameter.shape)}) needs {order}"
        )


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
