"""What a certificate says beside its checks: bounds that stop the search, an optimal start, meshes too coarse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shapewright.studies.certify.checks import uncertainty
from shapewright.studies.certify.final_solutions import Solved
from shapewright.studies.certify.model import BoundStop, ConstraintResult
from shapewright.studies.certify.refinement import asked_size
from shapewright.studies.optimize.stationarity import Stop
from shapewright.studies.problem.setup import Setup

LEAST_GAIN = 1e-4
"""Share of the objective's reference that moving a bound has to promise for the bound to be reported."""


def reported_stops(stops: Sequence[Stop], reference: float) -> list[Stop]:
    """Bounds whose move promises a gain that matters beside the objective's reference, the largest gain first."""
    return sorted((stop for stop in stops if stop.gain >= LEAST_GAIN * reference), key=lambda stop: -stop.gain)


def stopped(stops: Sequence[Stop | BoundStop], reference: float) -> str:
    """Addition to a verdict where bounds stop the search; empty where none does."""
    if not stops:
        return ""
    names = ", ".join(f"{stop.parameter} at its {stop.side} bound {stop.bound:.6g}" for stop in stops)
    share = 100 * sum(stop.gain for stop in stops) / (reference or 1.0)
    what = "a bound stops" if len(stops) == 1 else "bounds stop"
    return f"; {what} the search, {names}: a tenth more range promises {share:.2g} % more, to first order"


def start_remarks(solved: Solved, violated: Sequence[str], accepted: bool) -> Iterator[str]:
    """About the start: ``violated`` are its constraints, ``accepted`` is the verdict on the design."""
    if violated:
        yield f"The start violates {', '.join(violated)}: its objective measures no gain."
    elif accepted and abs(solved.finest - solved.at_start) <= uncertainty(solved.limit):
        yield "The start was already optimal: its objective is that of the optimum to within the mesh uncertainty."


def mesh_remarks(setup: Setup, solved: Solved, rows: Sequence[ConstraintResult]) -> Iterator[str]:
    """About meshes that were too coarse for the part, or for a constraint."""
    asked, size = asked_size(setup), solved.levels[0].size
    if size < asked:
        yield (
            f"Cells of size {asked:g} are too large for this part: the certificate's meshes begin with cells of size"
            f" {size:.3g}."
        )
    for row in rows:
        if row.evidence is not None and (row.evidence.discretization_error or 0.0) > row.allowed:
            yield (
                f"The mesh uncertainty of {row.quantity} ({row.evidence.discretization_error:.2g} {row.unit}) is larger"
                f" than what constraint '{row.name}' allows ({row.allowed:.2g})."
            )
