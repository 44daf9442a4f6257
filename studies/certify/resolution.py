"""Whether meshes resolve the functionals under a constraint well enough to check the constraint."""

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

    A constrained optimum is one only if the mesh that the optimizer moved resolves the constrained functional too. Any
    mesh gives the weight of a bar of given stiffness, but not its stiffness. An inequality is left out where both
    meshes meet it by more than their difference and by more than the error of the finest, because it is inactive then.

    Args:
        rows: constraints at the optimum.
        discretization_error, objective_error: of ``validation``, relative; a looser tolerance of the row replaces them.
    """
    for row in rows:
        if row.evidence is None or _clear(row):
            continue
        error, difference = _errors(row)
        finest = f"{row.quantity} on the finest mesh against its extrapolation: {row.evidence.extrapolation}"
        moved = f"{row.quantity} on the moved mesh, which the optimizer saw, against the re-read CAD"
        limits = max(discretization_error, row.tolerance), max(objective_error, row.tolerance)
        yield Check.of(f"mesh error of '{row.name}'", relative(error, row.scale), "<=", limits[0], finest)
        yield Check.of(f"mapped mesh of '{row.name}'", relative(difference, row.scale), "<=", limits[1], moved)


def _errors(row: ConstraintResult) -> tuple[float, float]:
    """Error on the finest mesh, and difference of the moved mesh; infinite where not known."""
    assert row.evidence is not None
    error, mapped = row.evidence.discretization_error, row.evidence.fem_mapped
    difference = math.inf if mapped is None or row.value is None else abs(mapped - row.value)
    return math.inf if error is None else error, difference


def _clear(row: ConstraintResult) -> bool:
    """Whether an inequality is met with a margin beyond all errors."""
    assert row.evidence is not None
    mapped, band = row.evidence.fem_mapped, row.evidence.grid_convergence_index
    value = row.value
    if row.kind == "equals" or value is None or mapped is None or band is None:
        return False
    sign = 1 if row.kind == "at_least" else -1
    spare = min(sign * (value - row.target), sign * (mapped - row.target))
    return spare > max(band, abs(value - mapped))
