"""Tables of the evidence: mesh refinement, errors of the surrogate, CAD read back, provenance."""

from __future__ import annotations

import math

from shapewright.app.formatting import (
    NOTHING,
    capital,
    digits_for,
    limit,
    number,
    percent,
    seconds,
    signed,
    unit,
    with_unit,
    words,
    worst_of_cases,
)
from shapewright.app.provenance import Provenance
from shapewright.app.report.data import Finished
from shapewright.app.report.design_tables import Row, Table
from shapewright.studies.certify.model import CaseResult
from shapewright.studies.schema.study import StudyModel
from shapewright.surrogate.models.model_card import Accuracy, ModelCard
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard


def mesh_table(finished: Finished) -> Table:
    """The objective on refined meshes of the CAD file, with its extrapolation."""
    objective = finished.certificate.objective
    name, digits = objective.unit, digits_for(objective.discretization_error)
    levels: list[tuple[str, str, float | None]]
    levels = [(number(level.h, 3), str(level.dofs), level.value) for level in objective.fem_levels]
    if objective.fem_extrapolated != objective.fem_levels[-1].value:
        levels.append(("extrapolated to 0", NOTHING, objective.fem_extrapolated))
    before = [None, *(value for *_, value in levels)]
    rows: list[Row] = [
        (h, dofs, number(value, digits + 1), _change(last, value))
        for (h, dofs, value), last in zip(levels, before, strict=False)
    ]
    order, how = objective.observed_order, objective.extrapolation
    observed = "No order observed" if order is None else f"Observed order {number(order, 3)}"
    index = percent(objective.grid_convergence_index)
    band = f" Grid-convergence index (Roache): the limit is expected within ± {index} of it."
    if objective.reference != abs(objective.fem or 0.0):
        band += " Both are relative to the change from the start, which is larger than the value."
    note = (
        f"{observed}: {how}. Mesh uncertainty of the finest value: {percent(objective.discretization_error)}.{band}"
        " The meshes are made afresh from the STEP file read back, with curved cells."
    )
    length = finished.study.geometry.length_unit
    return Table(
        (
            f"Cell size [{length}]",
            "#Unknowns",
            f"#{capital(words(objective.name))} [{unit(name) or '1'}]",
            "#Change",
        ),
        rows,
        note,
    )


def cases_table(finished: Finished) -> Table | None:
    """The objective's functional in every load case on the CAD file; None of a study without cases."""
    objective = finished.certificate.objective
    cases = objective.cases
    if cases is None:
        return None
    rows: list[Row] = [
        (
            (name, _of_case(case)),
            *(number(level.value, 6) for level in case.fem_levels),
            number(case.fem_extrapolated, 6),
            number(case.discretization_error, 2),
        )
        for name, case in cases.each.items()
    ]
    levels = [f"#h = {number(level.h, 3)}" for level in objective.fem_levels]
    scatter = finished.study.scatter is not None
    columns = ("Scenario" if scatter else "Load case", *levels, "#Extrapolated", "#Mesh uncertainty")
    note = f"{capital(words(cases.functional))} by finite elements. {worst_of_cases(cases, objective.sense)}"
    return Table(columns, rows, note)


def _of_case(case: CaseResult) -> str:
    """Weight of a case, and its values of what scatters."""
    scenario = {} if case.scenario is None else case.scenario
    parts = [f"{words(name)} {number(value, 4)}" for name, value in scenario.items()]
    return ", ".join([*parts, *([] if case.weight is None else [f"weight {number(case.weight, 4)}"])])


def _change(before: float | None, after: float | None) -> str:
    return f"{signed(100 * (after - before) / abs(after))} %" if before is not None and after else NOTHING


def surrogate_table(finished: Finished) -> Table | None:
    """Errors of the surrogate or operator on what it was not trained on, and at the optimum; None without one."""
    surrogate, certificate, limits = finished.surrogate, finished.certificate, finished.study.validation
    if surrogate is None:
        return None
    card, gradient = surrogate.card, surrogate.gradient
    held_out = card.held_out if isinstance(card, ModelCard) else _UNKNOWN
    rows: list[Row] = [
        (
            (f"Field {name}", "Relative L2 error over the domain"),
            percent(held_out.field.get(name)),
            percent(error),
            f"≤ {limit(100 * limits.field_error)} %",
        )
        for name, error in surrogate.field_errors.items()
    ]
    vanished = any(check.name == "gradient error" for check in surrogate.verdict.checks)
    where = " at the start, as the gradient vanishes here" if vanished else ""
    beside = "; at this optimum, where they vanish, beside their size at the start" if vanished else ""
    rows += [
        (
            (capital(words(certificate.objective.name)), "Relative error of the objective"),
            percent(held_out.objective),
            percent(certificate.objective.surrogate_relative_error),
            f"≤ {limit(100 * limits.objective_error)} %",
        ),
        (
            ("Design gradient", f"Relative error of the objective's derivatives by the parameters{beside}"),
            percent(held_out.gradient),
            percent(gradient.error_to_start if vanished else gradient.relative_error),
            NOTHING,
        ),
        (
            ("Direction of the gradient", f"Cosine of the angle to the true one{where}; 1 is the same direction"),
            number(held_out.cosine, 5),
            number(gradient.cosine_at_start if vanished else gradient.cosine, 5),
            f"≥ {limit(limits.gradient_cosine)}",
        ),
    ]
    machine = ", ".join(f"{words(key)} {value}" for key, value in card.hardware.items())
    if not isinstance(card, ModelCard):
        found = [(name, optimum, limit) for name, _, optimum, limit in rows]
        return Table(("Error", "#At this optimum", "#Limit"), found, _of_operator(finished, card, machine))
    note = (
        f"Trained on {card.designs} finite-element solutions in {seconds(card.seconds)} ({machine});"
        f" data {card.data_hash}."
    )
    return Table(
        ("Error", f"#Mean of {held_out.designs} held-out designs", "#At this optimum", "#Limit"), rows, note
    )


_UNKNOWN = Accuracy(field={}, objective=math.nan, gradient=math.nan, cosine=math.nan, designs=0)
"""An operator's card states errors in the energy norm only, of problems that are not of this study."""
_FORMS = {
    "lagrangian": "that of the Lagrangian, with the predicted fields held",
    "through_operator": "exactly that of the predicted objective, through the operator",
}
"""Form of an operator's design gradient -> in words."""


def _of_operator(finished: Finished, card: ShapeOperatorCard, machine: str) -> str:
    """What the operator for all shapes is, and its own errors."""
    used = finished.certificate.operator
    assert used is not None  # the folder's card is of this kind where it is given
    learnt = f"{card.solves} finite-element solutions" if card.solves else "the energy alone, without a solution"
    own = "; ".join(
        f"{words(name)} {', '.join(f'{words(key)} {number(value, 3)}' for key, value in errors.items())}"
        for name, errors in card.held_out.items()
    )
    errors = f" Errors in the energy norm on problems that it was not trained on: {own}." if own else ""
    where = "inside" if used.outside_by is None else f"outside by {used.outside_by}"
    return (
        f"Operator {used.name} for all shapes of a physics: this study needed no samples and no training. Its design"
        f" gradient is {_FORMS[used.gradient]}. Novelty of the optimum {number(used.novelty, 3)} ({where}): distance"
        f" from the range of the problems that it was trained on, in shares of that range. Trained on {learnt} in"
        f" {seconds(card.seconds)} ({machine}).{errors}"
    )


def cad_table(finished: Finished) -> Table:
    """What the CAD file holds when it is read back."""
    cad, length = finished.certificate.cad, finished.study.geometry.length_unit
    solid = cad.kind == "solid"
    name, power = ("Volume", "^3") if solid else ("Area", "^2")
    thickness = finished.study.geometry.thickness
    kind = f"solid, extruded by {with_unit(limit(thickness), length)}" if solid and thickness else cad.kind
    measure = length + power
    rows = [
        ("File", cad.file),
        ("Kind", kind),
        ("Valid by OpenCASCADE's own check", "yes" if cad.valid else "NO"),
        (f"{name}, file read back", with_unit(number(cad.area_or_volume_reread, 7), measure)),
        (f"{name}, the design's own", with_unit(number(cad.area_or_volume_design, 7), measure)),
        ("Relative difference of the two", number(cad.relative_error, 2)),
        ("Largest distance of the curves", with_unit(number(cad.max_deviation, 2), length)),
        ("B-spline edges", str(cad.b_spline_edges)),
    ]
    stl = cad.stl
    if stl is not None:
        watertight = "watertight" if stl.watertight else "NOT watertight"
        volume = with_unit(number(stl.volume, 5), measure)
        rows.append(("STL (facets, for printing)", f"{watertight}, volume {volume} (its facets cut corners)"))
    else:
        rows.append(("STL", "none: geometry.thickness is not given, so the part is a face"))
    note = "The file holds the B-spline of the design itself, not facets."
    if cad.domain_relative_error is not None:
        note += (
            " The part is the hole or body alone; domain.step holds the domain around it: the plate with its hole, the"
            f" channel around the body (relative error {number(cad.domain_relative_error, 2)} when read back)."
        )
    return Table(("The part as CAD", "Value"), rows, note)


def machine_table(run: Provenance, study: StudyModel) -> Table:
    """Machine, versions and seeds."""
    hardware = run.hardware
    packages = ", ".join(f"{name} {version}" for name, version in run.packages.items())
    seeds = {
        "run": run.seed,
        "sampling": study.sampling.seed,
        "training": study.training.seed,
        "starts": study.optimizer.seed,
    }
    return Table(
        ("Made with", "Value"),
        [
            ("Shapewright", f"{run.shapewright} on Python {run.python}"),
            ("Packages", packages),
            ("Processor", f"{hardware.processor}, {hardware.cores} cores"),
            ("Memory", f"{hardware.memory_gib:g} GiB" if hardware.memory_gib else NOTHING),
            ("GPU", hardware.gpu or "none used"),
            ("Device of the surrogate", run.device),
            ("Seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())),
            ("Started", run.started.replace("T", " ").replace("+00:00", " UTC")),
        ],
    )


def provenance_tables(finished: Finished) -> list[Table]:
    """Machine, versions, and where the time went."""
    certificate = finished.certificate
    solves = ", ".join(f"{count} {kind}" for kind, count in certificate.fem_solves.items())
    spent = Table(
        ("Stage", "#Time"),
        [(capital(stage), seconds(spent)) for stage, spent in certificate.timings.items()],
        f"Finite-element solves of optimizer and certificate: {solves}."
        " The time of a stage that an earlier run finished is that of the earlier run.",
    )
    return [machine_table(finished.run, finished.study), spent]
