"""Tables of the design: checks, starts, constraints, parameters; every number is already written for reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shapewright.app.formatting import NOTHING, capital, digits_to_show, limit, number, percent, signed, unit, words
from shapewright.app.report.data import Finished
from shapewright.app.report.verdict import check_rows, pass_or_fail
from shapewright.geometries.design.measures import QUANTITIES
from shapewright.geometries.family.catalogue import builtin_families
from shapewright.studies.certify.model import ConstraintResult
from shapewright.studies.certify.verdict_model import DesignVerdict, ModelVerdict
from shapewright.studies.run.optimum import StartResult
from shapewright.studies.schema.study import Constraint

Row = tuple[str | Markup | tuple[str, str], ...]
"""Cells of a table; a pair is a name and its explanation."""
RELATIONS = {"equals": "=", "at_least": "≥", "at_most": "≤"}


@dataclass(frozen=True)
class Table:
    """Written cells.

    Attributes:
        columns: headings; one that starts with ``#`` is of numbers, which stand to the right.
        rows: cells, the first of them a name or a pair (name, explanation).
        note: below the table.
    """

    columns: tuple[str, ...]
    rows: Sequence[Row]
    note: str = ""


COLUMNS = ("Check", "#Found", "#Required", "#Default", "Result")


def design_table(finished: Finished) -> Table:
    """Every line of the verdict on the design, constraints among them."""
    rows = _check_rows(finished, finished.certificate.design)
    constraints = finished.certificate.constraints
    if constraints:
        met = sum(found.satisfied for found in constraints)
        meaning = "Each is in the table of constraints below, with its tolerance."
        result = pass_or_fail(met == len(constraints))
        rows.append((("Constraints", meaning), f"{met} met", f"all {len(constraints)}", NOTHING, result))
    return Table(COLUMNS, rows)


def model_table(finished: Finished) -> Table | None:
    """Every line of the verdict on the surrogate that searched; None without one."""
    model = finished.certificate.model
    return None if model is None else Table(COLUMNS, _check_rows(finished, model))


def _check_rows(finished: Finished, verdict: DesignVerdict | ModelVerdict) -> list[Row]:
    return [
        ((name, meaning), value, required, default, result)
        for name, meaning, value, required, default, result in check_rows(
            verdict.checks, finished.certificate.limits
        )
    ]


def constraints_table(finished: Finished) -> Table:
    """Constraints at the start and at the optimum, by how much they are missed, and what each costs."""
    objective, prices = finished.certificate.objective, finished.certificate.multipliers
    defaults = {limit.name: limit for limit in finished.certificate.limits}
    rows = []
    for constraint, found in finished.constraints:
        target, value = found.target, found.value
        digits = digits_to_show(value, found.miss)
        heading, meaning = _quantity(finished, constraint, found)
        usual = defaults[f"constraint '{found.name}'"]
        if usual.looser:
            meaning += f"{'; ' if meaning else ''}tolerance loosened, default {limit(usual.default)}"
        rows.append(
            (
                (heading, meaning),
                number(found.at_start, 6),
                number(value, digits),
                f"{RELATIONS[constraint.kind]} {_target(target, found.miss, digits)}",
                number(found.miss, 2),
                number(found.allowed, 2),
                limit(found.tolerance),
                pass_or_fail(found.satisfied),
                "none" if found.name not in prices else signed(prices[found.name], 3),
            )
        )
    note = (
        "Miss: violation of the constraint; a negative one is a margin. Allowed miss: the relative tolerance times the"
        f" scale of the quantity. Price: change of the optimal {words(objective.name)}, to first order, when the"
        f" required value is raised by one unit (in {unit(objective.unit) or '1'} per unit); an inactive constraint has"
        " none. Quantities that depend on the solution are by finite elements on the re-read CAD."
    )
    columns = (
        *("Quantity", "#Start", "#Optimum", "#Required", "#Miss", "#Allowed miss"),
        *("#Tolerance", "Result", "#Price"),
    )
    return Table(columns, rows, note)


def _target(target: float, miss: float | None, digits: int) -> str:
    """A required value: as it was chosen where that has few digits, else with as many as the value beside it."""
    rounding = abs(float(f"{target:.6g}") - target)
    return limit(target) if rounding <= 1e-2 * abs(miss or 0.0) else number(target, digits)


def _quantity(finished: Finished, constraint: Constraint, found: ConstraintResult) -> tuple[str, str]:
    functionals = {functional.name: functional for functional in finished.physics.functionals}
    known = QUANTITIES.get(constraint.name) or functionals.get(constraint.name)
    name = found.unit
    heading = capital(words(found.quantity)) + (f" [{unit(name)}]" if unit(name) else "")
    return heading, capital(known.description) if known else ""


def parameters_table(finished: Finished) -> Table:
    """Design parameters between their bounds, with the objective's derivatives by finite elements."""
    objective, geometry = finished.certificate.objective, finished.study.geometry
    families = builtin_families()
    known = families[geometry.family](**geometry.options).parameters if geometry.family in families else ()
    meanings = {parameter.name: capital(parameter.description) for parameter in known}
    rows: list[Row] = []
    for name, entry in finished.certificate.parameters.items():
        lower, upper = entry.lower, entry.upper
        heading = name + (f" [{unit(entry.unit)}]" if unit(entry.unit) else "")
        rows.append(
            (
                (heading, meanings.get(name, "")),
                number(entry.initial, 4),
                number(entry.value, 5),
                f"{number(lower, 4)} to {number(upper, 4)}",
                _track(lower, upper, entry.initial, entry.value),
                "on its bound" if entry.bound_hit else "within",
                signed(entry.sensitivity, 3),
                NOTHING if entry.tolerance is None else f"± {number(entry.tolerance, 2)}",
            )
        )
    for name, value in geometry.fixed.items():
        at = number(value, 5)
        rows.append(((name, meanings.get(name, "")), at, at, NOTHING, "", "held fixed", NOTHING, NOTHING))
    share = finished.certificate.joint_tolerance
    together = f" If all are off at once, each may be off by {percent(share)} of its tolerance." if share else ""
    note = (
        f"Sensitivity: change of the {words(objective.name)} per unit of the parameter at the optimum"
        f" (in {unit(objective.unit) or '1'} per unit), by the finite-element adjoint. At a constrained optimum it"
        " is not zero, but balanced by the constraints. Tolerance: how far this parameter alone may be off in the part"
        f" for a change of {percent(finished.study.validation.manufacturing)}, by slope and curvature.{together}"
        " In the bar, the open mark is the start, the full one the optimum."
    )
    columns = ("Parameter", "#Start", "#Optimum", "#Bounds", "Position", "Bound", "#Sensitivity", "#Tolerance")
    return Table(columns, rows, note)


def _track(lower: float, upper: float, start: float, value: float) -> Markup:
    shares = [100 * min(1.0, max(0.0, (at - lower) / (upper - lower))) for at in (start, value)]
    return Markup(
        '<span class="track"><i class="open" style="left:{:.1f}%"></i><i style="left:{:.1f}%"></i></span>'
    ).format(*shares)


def _role(entry: StartResult, finished: Finished) -> str:
    if finished.study.optimizer.method == "trust_region" and entry.by == "fem":
        return " (best of these, with FEM in the loop)"
    return " (best)" if entry.start == finished.optimum.best_start else ""


def starts_table(finished: Finished) -> Table:
    """How the search went from each start."""
    rows = [
        (
            f"{entry.start}{_role(entry, finished)}",
            number(entry.objective, 6),
            str(entry.iterations),
            "yes" if entry.feasible else "no",
            words(entry.reason).lower(),
        )
        for entry in finished.optimum.starts
    ]
    objective = finished.certificate.objective
    heading = f"#{capital(words(objective.name))} [{unit(objective.unit) or '1'}]"
    return Table(("Start", heading, "#Iterations", "Constraints met", "Ended"), rows)
