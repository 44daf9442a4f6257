"""Whether meshes tell the functionals under a constraint well enough for the constraint to be judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from shapewright.studies.certify.comparison import relative
from shapewright.studies.certify.model import ConstraintResult
from shapewright.studies.certify.verdict_model import Check


def resolution_checks(
    rows: Sequence[ConstraintResult], discretization_error: float, objective_error: float
) -> Iterator[Check]:
    """Two checks for each functional under a constraint, on the limits of the objective or its own tolerance.

    An optimum that a constraint holds is one only where the mesh that the optimizer moved has the constrained value
    too: the weight of a bar of given stiffness is well told by any mesh, and says nothing of the stiffness. An
    inequality that is met on both meshes by more than they are apart, and by more than the error of the finest, holds
    nothing.

    Args:
        rows: constraints at the optimum.
        discretization_error, objective_error: of ``validation``, relative; a looser tolerance takes their place.
    """
    for row in rows:
        if row.evidence is None or _clear(row):
            continue
        error, apart = _errors(row)
        finest = f"{row.quantity} on the finest mesh against its extrapolation: {row.evidence.extrapolation}"
        moved = f"{row.quantity} on the moved mesh, which the optimizer saw, against the re-read CAD"
        limits = max(discretization_error, row.tolerance), max(objective_error, row.tolerance)
        yield Check.of(f"mesh error of '{row.name}'", relative(error, row.scale), "<=", limits[0], finest)
        yield Check.of(f"mapped mesh of '{row.name}'", relative(apart, row.scale), "<=", limits[1], moved)


def _errors(row: ConstraintResult) -> tuple[float, float]:
    """Error on the finest mesh, and difference of the moved mesh; infinite where not known."""
    assert row.evidence is not None
    error, mapped = row.evidence.discretization_error, row.evidence.fem_mapped
    apart = math.inf if mapped is None or row.value is None else abs(mapped - row.value)
    return math.inf if error is None else error, apart


def _clear(row: ConstraintResult) -> bool:
    """Whether an inequality is met by so much that errors do not matter."""
    assert row.evidence is not None
    mapped, band = row.evidence.fem_mapped, row.evidence.grid_convergence_index
    if row.kind == "equals" or None in (row.value, mapped, band):
        return False
    sign = 1 if row.kind == "at_least" else -1
    spare = min(sign * (value - row.target) for value in (row.value, mapped))
    return spare > max(band, abs(row.value - mapped))
