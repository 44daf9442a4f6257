"""What an optimization leaves behind: the optimum with how each start ended, and every iterate as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shapewright.studies.files import write_json
from shapewright.studies.optimize.optimizer import FemStep, Optimum
from shapewright.studies.problem.setup import Setup


@dataclass(frozen=True)
class Exit:
    """Why the search ended that found the optimum: name and text of an :class:`optimizer.ExitReason`."""

    reason: str
    text: str


@dataclass(frozen=True, kw_only=True)
class StartResult:
    """How the search from one start ended.

    Attributes:
        start: its number.
        by: what drove it, ``surrogate`` or ``fem``.
        objective: where it ended; None where it is no number.
        feasible: whether all constraints are met there.
        iterations: lines of the history.
        reason: name of an :class:`optimizer.ExitReason`.
    """

    start: int
    by: str = "surrogate"
    objective: float | None
    feasible: bool
    iterations: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FoundOptimum:
    """Content of ``optimum.json``.

    Attributes:
        parameters: name -> value.
        objective: at the optimum, by what drove the search.
        exit: why the search ended.
        best_start: number of the start that led to the optimum.
        starts: how each ended.
        fem_solves: finite-element solves of the search by kind.
        solved: files of the solutions that a trust region asked for, in their order.
    """

    parameters: Mapping[str, float]
    objective: float | None
    exit: Exit
    best_start: int
    starts: tuple[StartResult, ...]
    fem_solves: Mapping[str, int] = field(default_factory=dict)
    solved: tuple[str, ...] = ()

    @property
    def theta(self) -> Tensor:
        """(P,) design parameters in the order of the family."""
        return torch.tensor(list(self.parameters.values()), dtype=torch.float64)

    def as_data(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> FoundOptimum:
        """Of :meth:`as_data`.

        Raises:
            TypeError, KeyError, AttributeError: an entry is missing, or is unknown, or of another kind.
        """
        starts = tuple(StartResult(**start) for start in data["starts"])
        return cls(**{**data, "exit": Exit(**data["exit"]), "starts": starts, "solved": tuple(data.get("solved", ()))})


def found_optimum(
    setup: Setup, optimum: Optimum, fem_solves: Mapping[str, int], solved: tuple[str, ...]
) -> FoundOptimum:
    """What is kept of a search, with its finite-element solves by kind and the files of its solutions."""
    driver = setup.study.model.optimizer.on
    names = [parameter.name for parameter in setup.family.parameters]
    best = optimum.best
    return FoundOptimum(
        parameters=dict(zip(names, best.theta.tolist(), strict=True)),
        objective=_number(best.objective),
        exit=Exit(best.reason.name, best.reason.value),
        best_start=best.start,
        starts=tuple(
            StartResult(
                start=search.start,
                by="fem" if search.history and search.history[-1].fem is not None else driver,
                objective=_number(search.objective),
                feasible=bool(search.violation <= 1.0),
                iterations=len(search.history),
                reason=search.reason.name,
            )
            for search in optimum.searches
        ),
        fem_solves=dict(fem_solves),
        solved=solved,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_optimum(path: Path, found: FoundOptimum) -> None:
    """Write ``optimum.json``, whole or not at all."""
    write_json(path, found.as_data())


def read_optimum(path: Path) -> FoundOptimum:
    """Read ``optimum.json``.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError, TypeError, KeyError, AttributeError: it is not what :func:`write_optimum` wrote.
    """
    return FoundOptimum.of_data(json.loads(path.read_text(encoding="utf-8")))


def history_table(setup: Setup, optimum: Optimum) -> str:
    """All iterates of all starts as CSV; a parameter with the name of another column is called ``parameter NAME``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [constraint.name for constraint in setup.constraints]
    parameters = [parameter.name for parameter in setup.family.parameters]
    by_trust_region = any(i.fem is not None for search in optimum.searches for i in search.history)
    fem = [column.name for column in fields(FemStep)] if by_trust_region else []
    scalars = ["start", "iteration", "evaluations", "objective", "objective_scaled", "gradient_norm"]
    others = [*scalars, *fem, *names]
    writer.writerow([*others, *(f"parameter {name}" if name in others else name for name in parameters)])
    for search in optimum.searches:
        size = abs(search.history[0].objective) or 1.0 if search.history else 1.0
        for i in search.history:
            steps = [math.nan if i.fem is None else float(getattr(i.fem, name)) for name in fem]
            numbers = (i.objective / size, i.gradient_norm, *steps, *i.quantities, *i.theta)
            writer.writerow([i.start, i.iteration, i.evaluations, repr(i.objective), *(f"{n:.12g}" for n in numbers)])
    return text.getvalue()
