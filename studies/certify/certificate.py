"""The finite-element certificate of an optimum, in three steps: solve, compare, check.

:func:`final_solutions.solve` makes the finite-element solutions, :func:`comparison.compare` puts the surrogate beside
them, :func:`check` draws the conclusions. The solutions share nothing with the surrogate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shapewright.studies.certify.case_results import case_arrays
from shapewright.studies.certify.checks import cad_checks, fem_checks, improvement_check
from shapewright.studies.certify.comparison import Comparison, compare, surrogate_checks
from shapewright.studies.certify.constraint_rows import constraint_rows, start_violations
from shapewright.studies.certify.design_entries import cad_entry, parameter_entries, part_entry
from shapewright.studies.certify.export import Exported, field_arrays, write_vtu
from shapewright.studies.certify.final_solutions import Solved, solve
from shapewright.studies.certify.model import VERSION, BoundStop, Certificate, ConstraintResult, Part
from shapewright.studies.certify.objective_entry import objective_entry
from shapewright.studies.certify.refinement import step_mesher
from shapewright.studies.certify.remarks import mesh_remarks, reported_stops, start_remarks, stopped
from shapewright.studies.certify.resolution import resolution_checks
from shapewright.studies.certify.verdict_model import Check, ModelVerdict
from shapewright.studies.certify.verdicts import Verdicts, verdicts_of
from shapewright.studies.optimize.stationarity import Stationarity, Stop, stationarity
from shapewright.studies.problem.derived_fields import derived_arrays
from shapewright.studies.problem.jumps import jumps
from shapewright.studies.problem.models import SurrogateModel
from shapewright.studies.problem.operators import StudyOperator
from shapewright.studies.problem.samples import stack_fields
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]


def certify(
    setup: Setup,
    theta: Tensor,
    exported: Exported,
    folder: Path,
    surrogate: SurrogateModel | StudyOperator | None,
    correlation: Mapping[str, float] | None = None,
) -> Certificate:
    """Solve, compare and check the design theta (P,) whose CAD lies in ``folder``; writes its fields there as VTU.

    Args:
        setup: study.
        theta: optimum.
        exported: its CAD.
        folder: with ``optimum.step``.
        surrogate: that searched; None where finite elements alone did.
        correlation: of the surrogate's errors with the novelty of held-out designs, where it was measured.

    Returns:
        the certificate, without what only the run knows.
    """
    solved = solve(setup, theta, step_mesher(setup, theta, folder / "optimum.step"))
    compared = None if surrogate is None else compare(setup, theta, solved, surrogate, correlation)
    write_fields(setup, solved, compared, folder)
    return check(setup, theta, solved, compared, exported)


def write_fields(setup: Setup, solved: Solved, compared: Comparison | None, folder: Path) -> None:
    """Write ``optimum.vtu`` and ``initial.vtu``: fields by FEM, and at the optimum by the surrogate if there is one."""
    fields = stack_fields(solved.mapped, setup)
    arrays = field_arrays(setup, fields, "fem") | case_arrays(setup, solved.mapped)
    if compared is not None:
        arrays |= field_arrays(setup, compared.fields, "surrogate")
        arrays |= field_arrays(setup, compared.fields - fields, "difference")
    reference_mesh = setup.shape_map.mesh
    arrays |= derived_arrays(setup, solved.mapped.nodes, fields, "fem")
    write_vtu(folder / "optimum.vtu", reference_mesh.moved(solved.mapped.nodes), arrays)
    start_fields, start_nodes = stack_fields(solved.start_mapped, setup), solved.start_mapped.nodes
    at_start = field_arrays(setup, start_fields, "fem")
    at_start |= derived_arrays(setup, start_nodes, start_fields, "fem")
    at_start |= case_arrays(setup, solved.start_mapped)
    write_vtu(folder / "initial.vtu", reference_mesh.moved(solved.start_mapped.nodes), at_start)


@dataclass(frozen=True)
class _Findings:
    """What checks and remarks are drawn from.

    Attributes:
        part: size and corners.
        rows: constraints at the optimum.
        violated: constraints that the start violates.
        stationary: first-order conditions at the optimum.
        stops: bounds to report.
    """

    part: Part
    rows: tuple[ConstraintResult, ...]
    violated: list[str]
    stationary: Stationarity
    stops: list[Stop]


def check(
    setup: Setup, theta: Tensor, solved: Solved, compared: Comparison | None, exported: Exported
) -> Certificate:
    """The certificate of what was solved and compared; solves nothing and writes nothing.

    Args:
        setup: study.
        theta: (P,) optimum.
        solved: finite elements.
        compared: the surrogate beside them; None without one.
        exported: CAD of the optimum.
    """
    found = _findings(setup, theta, solved, compared)
    verdicts = _verdicts(setup, solved, compared, exported, found)
    return Certificate(
        version=VERSION,
        study=setup.study.model.name,
        **vars(verdicts),
        **vars(parameter_entries(setup, theta, solved)),
        objective=objective_entry(setup, solved, compared, found.part.corners, not found.violated),
        constraints=found.rows,
        field_relative_l2_error=None if compared is None else compared.field_errors,
        gradient=None if compared is None else compared.gradient,
        kkt_residual=found.stationary.residual,
        multipliers=found.stationary.multipliers,
        bounds_that_stop=tuple(BoundStop(**asdict(stop)) for stop in found.stops),
        novelty=None if compared is None else compared.novelty,
        operator=None if compared is None else compared.operator,
        part=found.part,
        cad=cad_entry(exported),
        warnings=_warnings(setup, solved, compared, found, verdicts),
        fem_solves=solved.solves,
    )


def _findings(setup: Setup, theta: Tensor, solved: Solved, compared: Comparison | None) -> _Findings:
    functionals = solved.values, solved.gradients
    stationary = stationarity(setup, theta, solved.gradient, solved.gradient_at_start, functionals)
    return _Findings(
        part=part_entry(setup, theta),
        rows=constraint_rows(setup, theta, solved, compared),
        violated=start_violations(setup, solved),
        stationary=stationary,
        stops=reported_stops(stationary.stops, solved.reference),
    )


def _verdicts(
    setup: Setup, solved: Solved, compared: Comparison | None, exported: Exported, found: _Findings
) -> Verdicts:
    given, size = setup.study.model.validation, found.part.optimum
    checks: list[Check] = fem_checks(setup, solved, found.stationary)
    checks += resolution_checks(found.rows, given.discretization_error, given.objective_error)
    if not found.violated:
        checks.append(improvement_check(setup.sign, solved.finest, solved.at_start, solved.limit))
    checks += cad_checks(exported, max(size.length, size.height))
    lines = None
    if compared is not None:
        lines = surrogate_checks(compared, given.objective_error, given.field_error, given.gradient_cosine)
    by_operator = compared is not None and compared.operator is not None
    verdicts = verdicts_of(setup, checks, found.rows, lines, "operator" if by_operator else "surrogate")
    return verdicts.extended(stopped(found.stops, solved.reference)) if verdicts.accepted else verdicts


def _warnings(
    setup: Setup, solved: Solved, compared: Comparison | None, found: _Findings, verdicts: Verdicts
) -> tuple[str, ...]:
    """Everything that a reader should know beside the checks."""
    return (
        *(stop.sentence(solved.reference) for stop in found.stops),
        *(() if compared is None else compared.outside),
        *jumps(setup),
        *start_remarks(solved, found.violated, verdicts.design.accepted),
        *mesh_remarks(setup, solved, found.rows),
        *_poor_model(verdicts.model),
    )


def _poor_model(model: ModelVerdict | None) -> tuple[str, ...]:
    """The verdict on a surrogate that is poor, where that decides nothing."""
    return () if model is None or model.accepted or model.decisive else (model.verdict,)
