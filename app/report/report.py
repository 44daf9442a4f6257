"""The report of a finished study: one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shapewright.app.formatting import capital, number, percent, unit, with_unit, words
from shapewright.app.report.canvas import Array, Figure
from shapewright.app.report.data import Finished, NodalFields, ReportError, SearchedBy, read_folder
from shapewright.app.report.design_tables import (
    constraints_table,
    design_table,
    model_table,
    parameters_table,
    starts_table,
)
from shapewright.app.report.evidence_tables import (
    cad_table,
    cases_table,
    mesh_table,
    provenance_tables,
    surrogate_table,
)
from shapewright.app.report.field_figures import common_limits, field_figure, peak_text, symmetric_limits
from shapewright.app.report.figures import Trace, convergence_figure, outlines, profile_figure, shape_figures
from shapewright.app.report.pages import render
from shapewright.app.report.robust_tables import robust_figure, robust_tables
from shapewright.app.report.trust_region_tables import infill_table, loop_table, novelty
from shapewright.app.report.verdict import before_and_after, cautions, sentence
from shapewright.solvers.physics.catalogue import Field
from shapewright.studies.certify.model import Objective
from shapewright.studies.files import write_text

__all__ = ["ReportError", "write_report"]

FILES = {
    "optimum.step": "the optimum as CAD (B-spline boundary)",
    "domain.step": "the domain that it is cut out of, as CAD",
    "optimum.brep": "the same in OpenCASCADE's own format",
    "optimum.stl": "the solid as facets",
    "optimum.msh": "finite-element mesh of the optimum",
    "optimum.vtu": "fields at the optimum, for ParaView",
    "initial.vtu": "fields at the start",
    "certificate.json": "the numbers of this report in full precision",
    "history.csv": "all iterations of all starts",
    "resolved.yaml": "the study with all defaults",
}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a finished output folder, whole or not at all.

    Raises:
        ReportError: a file of the folder is missing or incomplete; names it and the command that makes it.
    """
    path = folder / "report.html"
    write_text(path, render("report.html.j2", _content(read_folder(folder))))
    return path


def _content(finished: Finished) -> Mapping[str, Any]:
    certificate = finished.certificate
    return {
        "study": finished.study,
        "name": capital(words(certificate.study)),
        "accepted": certificate.accepted,
        "sentence": sentence(certificate),
        "tiles": _tiles(certificate.objective),
        "reasons": [] if certificate.accepted else certificate.reasons,
        "cautions": cautions(finished),
        "design": certificate.design,
        "design_table": design_table(finished),
        "model": certificate.model,
        "model_table": model_table(finished),
        "shapes": shape_figures(finished.shapes),
        "sizes": _sizes(finished),
        "peak": _peak(finished),
        "profile": _profile(finished),
        "fields": [] if finished.surrogate is None else _surrogate_and_fem(finished, finished.surrogate),
        "start_fields": _start_and_optimum(finished),
        "convergence": _convergence(finished),
        "exit": finished.optimum.exit.text,
        "loop": loop_table(finished),
        "starts": starts_table(finished),
        "constraints": constraints_table(finished),
        "parameters": parameters_table(finished),
        "meshes": mesh_table(finished),
        "cases": cases_table(finished),
        "robust": robust_tables(finished),
        "robust_figure": robust_figure(finished),
        "surrogate": surrogate_table(finished),
        "novelty": novelty(finished),
        "infill": infill_table(finished),
        "cad": cad_table(finished),
        "provenance": provenance_tables(finished),
        "command": finished.run.command,
        "date": finished.run.started[:10],
        "files": {name: text for name, text in FILES.items() if (finished.folder / name).exists()},
        "resolved": finished.resolved,
    }


def _tiles(objective: Objective) -> list[tuple[str, str, str]]:
    """The key numbers: heading, number, and a word on it."""
    first, last, change = before_and_after(objective)
    goal = f"{'smaller' if objective.sense == 'minimize' else 'larger'} is better"
    error = objective.surrogate_relative_error
    return [
        (f"{capital(words(objective.name))} at the start", first, "by finite elements"),
        ("At the optimum", last, f"by finite elements; {goal}"),
        ("Change", change or "–", "start to optimum"),
        ("Surrogate error", "none used" if error is None else percent(error), "objective, against finite elements"),
        ("Mesh uncertainty", percent(objective.discretization_error), "of the finite-element objective"),
    ]


def _sizes(finished: Finished) -> str:
    """Extent of the part at the start and at the optimum, in a sentence."""
    length = finished.shapes.unit
    moved, _ = outlines(finished.shapes)
    before, after = (
        with_unit(" by ".join(number(size, 3) for size in np.ptp(np.concatenate(points), axis=0).tolist()), length)
        for points in zip(*moved, strict=True)
    )
    ratio = finished.certificate.part.optimum.ratio
    return f"Extent in x by y: {before} at the start, {after} at the optimum (a ratio of {number(ratio, 3)})."


def _peak(finished: Finished) -> str:
    """The true maximum behind a smooth one, in a sentence or two; empty for another objective."""
    objective = finished.certificate.objective
    peak, at_start = objective.peak, objective.peak_at_start
    if peak is None or at_start is None:
        return ""
    where = "in the domain" if peak.on is None else f"along “{peak.on}”"
    flatness = None if peak.flatness is None else abs(peak.flatness)
    text = (
        f"The objective is a smooth maximum, {number(objective.fem, 5)}, with lengths in {finished.shapes.unit}."
        f" The quantity itself, {where} on the finest mesh: largest {number(peak.maximum, 5)}, least"
        f" {number(peak.minimum, 5)}, mean {number(peak.mean, 5)}. The difference between largest"
        f" and least is {percent(flatness)} of the mean. At the start its largest is"
        f" {number(at_start.maximum, 5)}."
    )
    if peak.at_least is None:
        return text
    least = number(peak.at_least, 5)
    if peak.at_most is None:
        return f"{text} The smooth maximum implies that the largest is at least {least}."
    most = number(peak.at_most, 5)
    return f"{text} The smooth maximum and the steepest slope imply that the largest is between {least} and {most}."


def _profile(finished: Finished) -> list[Figure]:
    """The quantity of a smooth maximum around its boundary; nothing for another objective."""
    objective = finished.certificate.objective
    start, optimum = objective.peak_at_start, objective.peak
    if start is None or start.profile is None or optimum is None or optimum.profile is None:
        return []
    before, after = np.array(start.profile), np.array(optimum.profile)
    return [profile_figure(f"The quantity around “{optimum.on}”", before, after)]


def _surrogate_and_fem(finished: Finished, surrogate: SearchedBy) -> list[tuple[str, str, list[Figure]]]:
    """Heading, words and three figures of each component."""
    fields, errors = finished.at_optimum, surrogate.field_errors
    groups = []
    for component, field in finished.fields:
        by = {kind: fields.values[f"{component}_{kind}"] for kind in ("surrogate", "fem", "difference")}
        limits = common_limits(by["surrogate"], by["fem"])
        apart = symmetric_limits(by["difference"])
        label = _label(component, field)
        figures = [
            _figure(finished, "By the surrogate", fields, by["surrogate"], limits, label),
            _figure(finished, "By finite elements", fields, by["fem"], limits, label),
            _figure(finished, "Surrogate − finite elements", fields, by["difference"], apart, label, signed=True),
        ]
        span = float(np.ptp(by["fem"])) or 1.0
        text = (
            f"Relative error over the domain (L2 norm): {percent(errors[component])}. Largest difference at a node:"
            f" {with_unit(number(float(np.abs(by['difference']).max()), 2), field.unit)}, which is"
            f" {percent(float(np.abs(by['difference']).max()) / span)} of the field's range."
        )
        groups.append((_heading(component, field), text, figures))
    return groups


def _start_and_optimum(finished: Finished) -> list[tuple[str, str, list[Figure]]]:
    """Heading, words and two figures of each component, by finite elements."""
    groups = []
    for component, field in finished.fields:
        before, after = (at.values[f"{component}_fem"] for at in (finished.at_start, finished.at_optimum))
        limits = common_limits(before, after)
        label = _label(component, field)
        figures = [
            _figure(finished, "Start", finished.at_start, before, limits, label),
            _figure(finished, "Optimum", finished.at_optimum, after, limits, label),
        ]
        groups.append((_heading(component, field), "", figures))
    return groups + _derived(finished)


def _derived(finished: Finished) -> list[tuple[str, str, list[Figure]]]:
    """Heading, words and two figures of each quantity that the report shows beside the fields, such as a stress."""
    groups = []
    for quantity in finished.derived:
        key, label = f"{quantity.name}_fem", f"{quantity.description} [{unit(quantity.unit)}]"
        if key not in finished.at_start.values or key not in finished.at_optimum.values:
            continue
        peaks, figures = [], []
        for when, at in (("Start", finished.at_start), ("Optimum", finished.at_optimum)):
            values = at.values[key]
            peaks.append(peak_text(when.lower(), at, values, quantity.unit, finished.study.geometry.length_unit))
            limits = common_limits(*(part.values[key] for part in (finished.at_start, finished.at_optimum)))
            figures.append(_figure(finished, when, at, values, limits, label))
        groups.append((quantity.description, f"Largest at a node: {', '.join(peaks)}.", figures))
    return groups


def _figure(
    finished: Finished,
    title: str,
    fields: NodalFields,
    values: Array,
    limits: tuple[float, float],
    label: str,
    signed: bool = False,
) -> Figure:
    return field_figure(title, fields, values, limits, label, finished.study.geometry.length_unit, signed)


def _label(component: str, field: Field) -> str:
    return f"{component} [{unit(field.unit) or '1'}]"


def _heading(component: str, field: Field) -> str:
    along = f", component {'xy'[field.components.index(component)]}" if len(field.components) == 2 else ""
    return f"{component}: {field.description}{along}"


def _convergence(finished: Finished) -> list[Figure]:
    """Objective and largest constraint violation over the iterations."""
    objective, history = finished.certificate.objective, finished.history
    feasible = {entry.start: bool(entry.feasible) for entry in finished.optimum.starts}
    starts = sorted({int(start) for start in history["start"]})
    rows = [history["start"] == start for start in starts]
    best = starts.index(int(finished.optimum.best_start))

    def traces(values: Array) -> list[Trace]:
        return [
            Trace(history["iteration"][row], values[row], feasible.get(start, False))
            for start, row in zip(starts, rows, strict=True)
        ]

    label = f"{words(objective.name)} [{unit(objective.unit) or '1'}]"
    fem = math.nan if objective.fem is None else objective.fem  # which draws no line
    reference = (fem, "FEM at the optimum")
    figures = [convergence_figure("Objective", traces(history["objective"]), best, label, reference)]
    if finished.constraints:
        each = [_violation(finished, index) for index in range(len(finished.constraints))]
        violations = np.fmax.reduce(each, axis=0)  # a search that did not know a constraint has no number of it
        figures.append(
            convergence_figure(
                "Largest constraint violation",
                traces(np.maximum(violations, 1e-4)),
                best,
                "violation / tolerance",
                (1.0, "tolerance"),
                log=True,
            )
        )
    return figures


def _violation(finished: Finished, index: int) -> Array:
    """Of one constraint in units of its tolerance, at every row of the history."""
    constraint, found = finished.constraints[index]
    gap = finished.history[found.name] - found.target
    violation = {"equals": np.abs(gap), "at_least": -gap, "at_most": gap}[constraint.kind]
    return violation / found.allowed
