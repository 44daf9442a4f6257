"""What an optimization leaves behind: every iterate as CSV, and the optimum with how each start ended."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import fields
from typing import Any

from shapewright.studies.optimize.optimizer import FemStep, Optimum
from shapewright.studies.problem.setup import Setup


def history_table(setup: Setup, optimum: Optimum) -> str:
    """All iterates of all starts as CSV; a parameter with the name of another column is called ``parameter NAME``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [constraint.name for constraint in setup.constraints]
    parameters = [parameter.name for parameter in setup.family.parameters]
    managed = any(i.fem is not None for search in optimum.searches for i in search.history)
    fem = [field.name for field in fields(FemStep)] if managed else []
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


def optimum_data(setup: Setup, optimum: Optimum) -> dict[str, Any]:
    """What ``optimum.json`` holds."""
    driver = setup.study.model.optimizer.on
    names = [parameter.name for parameter in setup.family.parameters]
    return {
        "parameters": dict(zip(names, optimum.best.theta.tolist(), strict=True)),
        "objective": optimum.best.objective,
        "exit": {"reason": optimum.best.reason.name, "text": optimum.best.reason.value},
        "best_start": optimum.best.start,
        "starts": [
            {
                "start": search.start,
                "by": "fem" if search.history and search.history[-1].fem is not None else driver,
                "objective": search.objective,
                "feasible": search.violation <= 1.0,
                "iterations": len(search.history),
                "reason": search.reason.name,
            }
            for search in optimum.searches
        ],
    }
