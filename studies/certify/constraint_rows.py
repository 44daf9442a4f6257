"""The certificate's entries of the constraints, at the start and at the optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shapewright.studies.certify.comparison import Comparison
from shapewright.studies.certify.convergence import extrapolated
from shapewright.studies.certify.final_solutions import Solved
from shapewright.studies.certify.model import ConstraintResult, Evidence
from shapewright.studies.certify.objective_entry import level_entries
from shapewright.studies.problem.conditions import Condition
from shapewright.studies.problem.constraints import constraint_values
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]


def constraint_rows(
    setup: Setup, theta: Tensor, solved: Solved, compared: Comparison | None
) -> tuple[ConstraintResult, ...]:
    """Every condition at the optimum theta (P,); one on a functional by fresh meshes of the re-read CAD.

    The optimizer has not seen these meshes.
    """
    mapped = _quantities(setup, theta, solved.values)
    triples = zip(setup.constraints, start_values(setup, solved), mapped, strict=True)
    return tuple(
        _row(condition, start, _found(setup, solved, compared, condition, value))
        for condition, start, value in triples
    )


def start_values(setup: Setup, solved: Solved) -> list[float]:
    """Each constrained quantity at the start.

    Functionals are those on the mesh that the optimizer moves, which set targets such as ``initial``.
    """
    names = [functional.name for functional in setup.problem.functionals]
    return _quantities(setup, setup.initial, np.array([solved.start_mapped.values[name] for name in names]))


def start_violations(setup: Setup, solved: Solved) -> list[str]:
    """Constraints that the start violates, with the violation of each."""
    pairs = zip(setup.constraints, start_values(setup, solved), strict=True)
    return [f"{c.name} by {c.violation(v):.2g} {c.unit}" for c, v in pairs if not c.satisfied(v)]


def _quantities(setup: Setup, theta: Tensor, functionals: Array) -> list[float]:
    """Value of each constrained quantity at theta, where the functionals are known."""
    blank = np.zeros((len(functionals), len(theta)))
    return constraint_values(setup, theta.numpy(), (functionals, blank))[0].tolist()


@dataclass(frozen=True)
class _Found:
    """Value of a constrained quantity at the optimum, with the evidence of a functional."""

    value: float
    evidence: Evidence | None


def _found(
    setup: Setup, solved: Solved, compared: Comparison | None, condition: Condition, mapped: float
) -> _Found:
    """``mapped`` is the value on the mesh that the optimizer moved, which is exact for a geometric quantity."""
    if condition.functional is None:
        return _Found(mapped, None)
    functional = setup.problem.functionals[condition.functional]
    limit = extrapolated(solved.refined, functional, solved.start.values[functional.name])
    evidence = Evidence(
        surrogate=None if compared is None else float(compared.functionals[condition.functional]),
        fem_mapped=mapped,
        fem_levels=level_entries(solved.refined, condition.quantity),
        observed_order=limit.order,
        discretization_error=limit.error,
        grid_convergence_index=limit.gci,
        extrapolation=limit.note,
    )
    return _Found(limit.value, evidence)


def _row(condition: Condition, start: float, found: _Found) -> ConstraintResult:
    return ConstraintResult(
        name=condition.name,
        quantity=condition.quantity,
        kind=condition.kind,
        unit=condition.unit,
        at_start=start,
        value=found.value,
        target=condition.target,
        miss=condition.violation(found.value),
        tolerance=condition.tolerance,
        scale=condition.scale,
        allowed=condition.allowed,
        satisfied=condition.satisfied(found.value),
        evidence=found.evidence,
    )
