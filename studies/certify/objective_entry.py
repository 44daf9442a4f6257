"""The certificate's entry of the objective: values on fresh meshes, extrapolation, errors and gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from shapewright.studies.certify.case_results import describe_cases
from shapewright.studies.certify.comparison import Comparison, relative
from shapewright.studies.certify.convergence import DIVERGING, NOT_MONOTONE, Refined
from shapewright.studies.certify.final_solutions import Solved
from shapewright.studies.certify.model import Corner, Level, Objective
from shapewright.studies.certify.peak import describe_peak
from shapewright.studies.problem.setup import Setup


def objective_entry(
    setup: Setup, solved: Solved, compared: Comparison | None, corners: Sequence[Corner], feasible: bool
) -> Objective:
    """The objective by finite elements, and by the surrogate if there is one.

    Args:
        setup: study.
        solved: finite elements.
        compared: surrogate beside them.
        corners: of the part at the optimum.
        feasible: whether the start meets all constraints.
    """
    objective, limit, size, start = solved.objective, solved.limit, solved.reference, solved.at_start
    return Objective(
        name=objective.name,
        unit=objective.unit,
        sense="minimize" if setup.sign > 0 else "maximize",
        initial_fem=start,
        surrogate=None if compared is None else float(compared.functionals[0]),
        fem=solved.finest,
        fem_mapped=float(solved.values[0]),
        fem_levels=level_entries(solved.refined, objective.name),
        fem_extrapolated=limit.value,
        reference=size,
        observed_order=limit.order,
        discretization_error=relative(limit.error, size),
        grid_convergence_index=relative(limit.gci, size),
        extrapolation=limit.note + corner_note(limit.note, [corner.angle for corner in corners]),
        surrogate_relative_error=None if compared is None else compared.objective_error,
        improvement=None if start == 0 else -setup.sign * (solved.finest - start) / abs(start),
        start_feasible=feasible,
        peak=describe_peak(objective, solved.refined.finest),
        peak_at_start=describe_peak(objective, solved.start),
        cases=describe_cases(setup, solved.refined, solved.start.values),
    )


def level_entries(refined: Refined, name: str) -> tuple[Level, ...]:
    """Values of a functional on the fresh meshes, from the coarsest to the finest."""
    return tuple(Level(**asdict(level)) for level in refined.levels[name])


def corner_note(note: str, angles: Sequence[float]) -> str:
    """Addition to the note of an extrapolation without an order, where the part has corners; empty otherwise.

    Solutions may be less smooth at corners. ``angles`` are theirs in degrees.
    """
    if note not in (NOT_MONOTONE, DIVERGING) or not angles:
        return ""
    written = " and ".join(f"{angle:.0f}" for angle in angles)
    return f"; the part has {'corners' if len(angles) > 1 else 'a corner'} of {written} degrees, which may be why"
