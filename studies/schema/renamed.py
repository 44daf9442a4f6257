"""Keys of study files that have another name now: refused by name, and hashed under the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "training.slope_weight": "field_gradient_weight",
    "training.tangent_slope_weight": "tangent_gradient_weight",
    "training.average": "ema_decay",
    "training.finish": "fine_tuning",
    "training.discarded": "residual_weight",
}
"""Key as it was -> name now."""


def present_named(data: Mapping[str, Any]) -> dict[str, Any]:
    """A study's ``data`` under the present names of its keys."""
    found = dict(data)
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        if isinstance(found.get(section), Mapping) and key in found[section]:
            found[section] = {new if name == key else name: value for name, value in found[section].items()}
    return found


def first_named(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The ``content`` of a section under the first names of its keys, so that a name makes no stage anew."""
    first = {new: old.rpartition(".")[2] for old, new in RENAMED.items() if old.startswith(f"{section}.")}
    return {first.get(key, key): value for key, value in content.items()}
