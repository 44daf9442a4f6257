"""The finite-element certificate of an optimum: values, gradients, two verdicts; nothing shared with the surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.family.corners import corners
from shapewright.studies.certify.case_results import case_arrays, describe_cases
from shapewright.studies.certify.checks import cad_checks, fem_checks, improvement_check, uncertainty
from shapewright.studies.certify.comparison import Comparison, Truth, compare, relative, surrogate_checks
from shapewright.studies.certify.convergence import (
    DIVERGING,
    NOT_MONOTONE,
    Extrapolation,
    Refined,
    asked_size,
    extrapolated,
)
from shapewright.studies.certify.export import Exported, field_arrays, write_vtu
from shapewright.studies.certify.final_solutions import Solved, objective_at_start, objective_reference, solve
from shapewright.studies.certify.model import (
    VERSION,
    BoundStop,
    Cad,
    Certificate,
    ConstraintResult,
    Evidence,
    Level,
    NoveltyResult,
    Objective,
    ParameterResult,
    Part,
)
from shapewright.studies.certify.peak import describe_peak
from shapewright.studies.certify.resolution import resolution_checks
from shapewright.studies.certify.sensitivity import tolerances
from shapewright.studies.certify.verdicts import design_verdict, has_fem_in_loop, limits, model_verdict, overall
from shapewright.studies.optimize.stationarity import BOUND_TOLERANCE, Stop, stationarity
from shapewright.studies.problem.constraints import constraint_values
from shapewright.studies.problem.derived_fields import derived_arrays
from shapewright.studies.problem.jumps import jumps
from shapewright.studies.problem.models import SurrogateModel, outside_box
from shapewright.studies.problem.novelty import describe_novelty, novelty_of
from shapewright.studies.problem.samples import stack_fields
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]

WORTH_TELLING = 1e-4
"""Share of the objective's reference that moving a bound has to promise."""


def certify(
    setup: Setup,
    theta: Tensor,
    exported: Exported,
    folder: Path,
    surrogate: SurrogateModel | None,
    correlation: Mapping[str, float] | None = None,
) -> Certificate:
    """Evaluate the design theta (P,) whose CAD lies in ``folder``; writes its fields there as VTU.

    Args:
        setup: study.
        theta: optimum.
        exported: of its CAD.
        folder: with ``optimum.step``.
        surrogate: that found it; None when it was found by finite elements alone.
        correlation: of the surrogate's errors with how far designs are from what it has seen, where it is known.

    Returns:
        the certificate, without what only the run knows.
    """
    solved = solve(setup, theta, folder / "optimum.step")
    objective = setup.problem.objective
    limit = extrapolated(solved.refined, objective, solved.start.values[objective.name])
    compared = None if surrogate is None else compare(setup, surrogate, theta, _truth(setup, solved, limit))
    write_fields(setup, solved, compared, folder)
    known = None
    if surrogate is not None:
        statistics = novelty_of(setup, surrogate.surrogate, surrogate.box)
        known = describe_novelty(statistics, theta) | {"correlation": correlation}
    outside = {} if surrogate is None else outside_box(setup, theta.numpy()[None], surrogate.box)
    return assemble(setup, theta, exported, solved, compared, known, list(outside.values()))


def _truth(setup: Setup, solved: Solved, limit: Extrapolation) -> Truth:
    size = objective_reference(setup, solved)
    fields = stack_fields(solved.mapped, setup)
    return Truth(limit.value, size, solved.gradient, solved.gradient_at_start, fields, solved.mapped.nodes)


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
    at_start = field_arrays(setup, start_fields, "fem") | derived_arrays(setup, start_nodes, start_fields, "fem")
    at_start |= case_arrays(setup, solved.start_mapped)
    write_vtu(folder / "initial.vtu", reference_mesh.moved(solved.start_mapped.nodes), at_start)


def assemble(
    setup: Setup,
    theta: Tensor,
    exported: Exported,
    solved: Solved,
    compared: Comparison | None,
    known: Mapping[str, Any] | None,
    outside: Sequence[str],
) -> Certificate:
    """The certificate of what was solved and compared; solves nothing.

    Args:
        setup: study.
        theta: (P,) optimum.
        exported: of its CAD.
        solved: finite elements.
        compared: the surrogate beside them; None without one.
        known: how far the design is from what the surrogate has seen.
        outside: warnings of parameters outside the surrogate's training box.
    """
    study, part = setup.study.model, _part(setup, theta)
    levels = solved.refined.levels[setup.problem.objective.name]
    limit = extrapolated(solved.refined, setup.problem.objective, objective_at_start(setup, solved))
    functionals = solved.values, solved.gradients
    stationary = stationarity(setup, theta, solved.gradient, solved.gradient_at_start, functionals)
    rows = constraint_rows(setup, theta, solved, None if compared is None else compared.functionals)
    _, violated = start_values(setup, solved)
    given = study.validation
    checks = fem_checks(setup, solved, limit, stationary)
    checks += resolution_checks(rows, given.discretization_error, given.objective_error)
    if not violated:
        checks.append(improvement_check(setup.sign, levels[-1].value, objective_at_start(setup, solved), limit))
    checks += cad_checks(exported, max(part.optimum.length, part.optimum.height))
    found = limits(study, setup.constraints)
    design = design_verdict(checks, rows, found)
    model = None
    if compared is not None:
        lines = surrogate_checks(compared, given.objective_error, given.field_error, given.gradient_cosine)
        model = model_verdict(lines, not has_fem_in_loop(study), found)
    accepted, verdict, reasons = overall(design, model, found)
    stops = [s for s in stationary.stops if s.gain >= WORTH_TELLING * objective_reference(setup, solved)]
    stops.sort(key=lambda stop: -stop.gain)
    if accepted:
        verdict += stopped(stops, objective_reference(setup, solved))
    warnings = [stop.sentence(objective_reference(setup, solved)) for stop in stops]
    warnings += [*outside, *jumps(setup), *_remarks(setup, solved, limit, rows, violated, design.accepted)]
    if model is not None and not model.accepted and not model.decisive:
        warnings.append(model.verdict)
    return Certificate(
        version=VERSION,
        study=study.name,
        accepted=accepted,
        verdict=verdict,
        reasons=reasons,
        design=design,
        model=model,
        limits=found,
        **_parameters(setup, theta, solved),
        objective=_objective(setup, solved, compared, limit, part, not violated),
        constraints=rows,
        field_relative_l2_error=None if compared is None else compared.field_errors,
        gradient=None if compared is None else compared.gradient,
        kkt_residual=stationary.residual,
        multipliers=stationary.multipliers,
        bounds_that_stop=tuple(BoundStop(**asdict(stop)) for stop in stops),
        novelty=None if known is None else NoveltyResult.model_validate(known),
        part=part,
        cad=_cad(exported),
        warnings=tuple(warnings),
        fem_solves=solved.solves,
    )


def stopped(stops: Sequence[Stop | BoundStop], reference: float) -> str:
    """What a verdict adds where bounds stop the search; nothing where none does."""
    if not stops:
        return ""
    names = ", ".join(f"{stop.parameter} at its {stop.side} bound {stop.bound:.6g}" for stop in stops)
    share = 100 * sum(stop.gain for stop in stops) / (reference or 1.0)
    what = "a bound stops" if len(stops) == 1 else "bounds stop"
    return f"; {what} the search, {names}: a tenth more range promises {share:.2g} % more, to first order"


def start_values(setup: Setup, solved: Solved) -> tuple[list[float], list[str]]:
    """Each constrained quantity at the start, and which constraints it violates there, by how much.

    Functionals are those on the mesh that the optimizer moves, from which targets such as ``initial`` come.
    """
    names = [functional.name for functional in setup.problem.functionals]
    functionals = np.array([solved.start_mapped.values[name] for name in names])
    values = _quantities(setup, setup.initial, functionals)
    pairs = zip(setup.constraints, values, strict=True)
    return values, [f"{c.name} by {c.violation(v):.2g} {c.unit}" for c, v in pairs if not c.satisfied(v)]


def _quantities(setup: Setup, theta: Tensor, functionals: Array) -> list[float]:
    """Value of each constrained quantity at theta, where the functionals are known."""
    blank = np.zeros((len(functionals), len(theta)))
    return constraint_values(setup, theta.numpy(), (functionals, blank))[0].tolist()


def _remarks(
    setup: Setup,
    solved: Solved,
    limit: Extrapolation,
    rows: Sequence[ConstraintResult],
    violated: Sequence[str],
    accepted: bool,
) -> list[str]:
    """What a reader should know beside the checks."""
    remarks = []
    levels, start = solved.refined.levels[setup.problem.objective.name], objective_at_start(setup, solved)
    if violated:
        remarks.append(f"The start violates {', '.join(violated)}: its objective measures no gain.")
    elif accepted and abs(levels[-1].value - start) <= uncertainty(limit):
        remarks.append(
            "The start was already optimal: its objective is that of the optimum to within the mesh uncertainty."
        )
    asked = asked_size(setup)
    if levels[0].size < asked:
        remarks.append(
            f"Cells of size {asked:g} are too large for this part: the certificate's meshes begin with cells of size"
            f" {levels[0].size:.3g}."
        )
    remarks += [
        f"The mesh uncertainty of {row.quantity} ({row.evidence.discretization_error:.2g} {row.unit}) is larger than"
        f" what constraint '{row.name}' allows ({row.allowed:.2g})."
        for row in rows
        if row.evidence is not None and (row.evidence.discretization_error or 0.0) > row.allowed
    ]
    return remarks


def constraint_rows(
    setup: Setup, theta: Tensor, solved: Solved, claimed: Array | None
) -> tuple[ConstraintResult, ...]:
    """Each condition; one on a functional is evaluated on the re-read CAD, whose mesh the optimizer has not seen.

    ``claimed`` holds the (J,) functionals by the surrogate.
    """
    mapped = _quantities(setup, theta, solved.values)
    at_start, _ = start_values(setup, solved)
    rows = []
    for condition, value, start in zip(setup.constraints, mapped, at_start, strict=True):
        evidence = None
        if condition.functional is not None:
            functional = setup.problem.functionals[condition.functional]
            limit = extrapolated(solved.refined, functional, solved.start.values[functional.name])
            evidence = Evidence(
                surrogate=None if claimed is None else float(claimed[condition.functional]),
                fem_mapped=value,
                fem_levels=_levels(solved.refined, condition.quantity),
                observed_order=limit.order,
                discretization_error=limit.error,
                grid_convergence_index=limit.gci,
                extrapolation=limit.note,
            )
            value = limit.value
        rows.append(
            ConstraintResult(
                name=condition.name,
                quantity=condition.quantity,
                kind=condition.kind,
                unit=condition.unit,
                at_start=start,
                value=value,
                target=condition.target,
                miss=condition.violation(value),
                tolerance=condition.tolerance,
                scale=condition.scale,
                allowed=condition.allowed,
                satisfied=condition.satisfied(value),
                evidence=evidence,
            )
        )
    return tuple(rows)


def _levels(refined: Refined, name: str) -> tuple[Level, ...]:
    return tuple(Level(**asdict(level)) for level in refined.levels[name])


def _objective(
    setup: Setup,
    solved: Solved,
    compared: Comparison | None,
    limit: Extrapolation,
    part: Part,
    feasible: bool,
) -> Objective:
    objective, size = setup.problem.objective, objective_reference(setup, solved)
    fine, start = solved.refined.levels[objective.name][-1].value, objective_at_start(setup, solved)
    return Objective(
        name=objective.name,
        unit=objective.unit,
        sense="minimize" if setup.sign > 0 else "maximize",
        initial_fem=start,
        surrogate=None if compared is None else float(compared.functionals[0]),
        fem=fine,
        fem_mapped=float(solved.values[0]),
        fem_levels=_levels(solved.refined, objective.name),
        fem_extrapolated=limit.value,
        reference=size,
        observed_order=limit.order,
        discretization_error=relative(limit.error, size),
        grid_convergence_index=relative(limit.gci, size),
        extrapolation=limit.note + _invalid_smoothness(limit.note, [corner.angle for corner in part.corners]),
        surrogate_relative_error=None if compared is None else compared.objective_error,
        improvement=None if start == 0 else -setup.sign * (fine - start) / abs(start),
        start_feasible=feasible,
        peak=describe_peak(objective, solved.refined.finest),
        peak_at_start=describe_peak(objective, solved.start),
        cases=describe_cases(setup, solved.refined, solved.start.values),
    )


def _part(setup: Setup, theta: Tensor) -> Part:
    """Size of the part at the optimum and at the start, and corners of the optimum."""
    family = setup.family
    described: dict[str, Any] = {}
    for name, design in (("initial", setup.initial), ("optimum", theta)):
        outline = family.outline(family.control_points(design).numpy(), family.part)
        length, height = np.ptp(outline, axis=0).tolist()
        described[name] = {"length": length, "height": height, "ratio": length / height}
    found = corners(family.loops[family.part], family.part_points(theta).numpy())
    unit = setup.study.model.geometry.length_unit
    return Part.model_validate(described | {"corners": [asdict(corner) for corner in found], "unit": unit})


def _invalid_smoothness(note: str, angles: Sequence[float]) -> str:
    """What corners of the part, where solutions may be less smooth, add to a note that no order is observed."""
    if note not in (NOT_MONOTONE, DIVERGING) or not angles:
        return ""
    written = " and ".join(f"{angle:.0f}" for angle in angles)
    return f"; the part has {'corners' if len(angles) > 1 else 'a corner'} of {written} degrees, which may be why"


def _cad(exported: Exported) -> Cad:
    return Cad(
        file="optimum.step",
        kind="solid" if exported.check.solid else "face",
        valid=exported.check.valid,
        area_or_volume_reread=exported.check.measure,
        area_or_volume_design=exported.measure,
        relative_error=exported.relative_error,
        max_deviation=exported.check.max_deviation,
        b_spline_edges=exported.check.b_spline_edges,
        stl=exported.stl,
        domain_relative_error=exported.domain_error,
    )


def _parameters(setup: Setup, theta: Tensor, solved: Solved) -> dict[str, Any]:
    """Each parameter with slope, curvature and tolerance alone; and the share of all tolerances allowed at once."""
    table = {}
    allowed = setup.study.model.validation.manufacturing * objective_reference(setup, solved)
    alone, together = tolerances(solved.gradients[0], solved.curvature, allowed)
    slopes, bends = solved.gradients[0].tolist(), np.diagonal(solved.curvature).tolist()
    columns = theta.tolist(), setup.initial.tolist(), slopes, bends, alone
    for parameter, value, start, slope, bend, deviation in zip(setup.family.parameters, *columns, strict=True):
        edge = BOUND_TOLERANCE * (parameter.upper - parameter.lower)
        table[parameter.name] = ParameterResult(
            value=value,
            lower=parameter.lower,
            upper=parameter.upper,
            initial=start,
            unit=parameter.unit,
            bound_hit=not parameter.lower + edge < value < parameter.upper - edge,
            sensitivity=slope,
            curvature=bend,
            tolerance=deviation,
        )
    return {"parameters": table, "joint_tolerance": together}
