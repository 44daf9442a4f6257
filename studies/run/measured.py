"""Solves that searches took in measured studies: what to expect of a study with as many design variables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

FILE = Path(__file__).resolve().parents[1] / "measured_solves.json"
"""Written by ``python -m benchmarks.measured_solves``."""
METHODS = ("fem", "interpolation", "reduced_basis", "flow_basis", "operator", "surrogate")
"""Ways to an optimum that searches are measured of, the first four from one start; a flow's basis has tangents."""
NEAR = 1.5
"""Factor between numbers of design variables within which a measured study says something of another one."""


@dataclass(frozen=True)
class MeasuredSearch:
    """One search of one study.

    Attributes:
        study: its name.
        variables: number of design variables.
        method: one of :data:`METHODS`.
        solves: finite-element solves; as many adjoints of each functional.
        gap: of the objective to that by finite elements alone, relative; positive is worse.
        seconds: of the search, on the machine of the file.
        training_seconds, training_solves: of the surrogate's training.
    """

    study: str
    variables: int
    method: str
    solves: int
    gap: float
    seconds: float
    training_seconds: float
    training_solves: int


@dataclass(frozen=True)
class Expected:
    """Medians over measured studies with about as many design variables.

    Attributes:
        solves, gap, seconds, training_seconds: see :class:`MeasuredSearch`.
        basis: which studies they are of.
    """

    solves: float
    gap: float
    seconds: float
    training_seconds: float
    basis: str


@cache
def measured() -> tuple[str, tuple[MeasuredSearch, ...]]:
    """The machine, and all searches."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return content["machine"], tuple(MeasuredSearch(**row) for row in content["rows"])


def expected(method: str, variables: int, rows: Sequence[MeasuredSearch] | None = None) -> Expected | None:
    """What a search by a method is expected to take; None where no study with about as many variables is measured."""
    rows = measured()[1] if rows is None else rows
    near = [
        row
        for row in rows
        if row.method == method and max(row.variables, variables) <= NEAR * min(row.variables, variables)
    ]
    if not near:
        return None
    counts = sorted({row.variables for row in near})
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    names = ", ".join(dict.fromkeys(row.study for row in near))
    return Expected(
        solves=median(row.solves for row in near),
        gap=median(row.gap for row in near),
        seconds=median(row.seconds for row in near),
        training_seconds=median(row.training_seconds for row in near),
        basis=f"median of {names} ({span} variables)",
    )
