"""Tables that commands print."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shapewright.app.formatting import digits_to_show, worst_of_cases
from shapewright.geometries.design.measures import QUANTITIES
from shapewright.geometries.family.catalogue import builtin_families
from shapewright.solvers.physics.catalogue import PHYSICS
from shapewright.studies.certify.taylor import TaylorTest

if TYPE_CHECKING:
    from shapewright.studies.certify.front_model import FrontResult
    from shapewright.studies.certify.model import Certificate, ConstraintResult
    from shapewright.studies.certify.verdict_model import Check, DesignVerdict, Limit, ModelVerdict
    from shapewright.studies.run.verify import Finding


def print_certificate(console: Console, certificate: Certificate, folder: Path) -> None:
    """Both verdicts with their checks, the constraints, and the verdict on the whole."""
    title = f"{certificate.study}: finite-element certificate"
    _print_checks(console, f"{title}, the design", certificate.design, certificate.limits)
    if certificate.constraints:
        console.print(_constraints(certificate))
    model = certificate.model
    if model is not None:
        _print_checks(console, f"{title}, the {model.by} that searched", model, certificate.limits)
    objective = certificate.objective
    by = "surrogate" if model is None else model.by
    surrogate = "" if objective.surrogate is None else f", {by} {objective.surrogate:.8g}"
    values = objective.initial_fem, objective.fem, objective.fem_extrapolated
    start, fem, limit = (_plain(value, 8) for value in values)
    console.print(
        f"{escape(objective.name)}: start {start}, optimum by FEM {fem}"
        f" (extrapolated {limit}, mesh uncertainty {_plain(objective.discretization_error, 2)})"
        f"{surrogate} {objective.unit}"
    )
    cases = objective.cases
    if cases is not None:
        for name, case in cases.each.items():
            found = f"{_plain(case.fem, 8)} (extrapolated {_plain(case.fem_extrapolated, 8)})"
            scenario = {} if case.scenario is None else case.scenario
            at = "".join(f", {key} {value:.4g}" for key, value in scenario.items())
            kind = "load case" if case.scenario is None else "scenario"
            console.print(f"  {kind} {name}{at}: {cases.functional} {found}", highlight=False, markup=False)
        if cases.worst is not None:
            console.print(f"  {worst_of_cases(cases, objective.sense)}", highlight=False, markup=False)
    sentences = [certificate.design.verdict, *([] if model is None else [model.verdict])]
    remarks = [line for line in certificate.warnings if line not in sentences]
    ending = [] if certificate.exit is None else [certificate.exit.text]
    for line in [*ending, *certificate.reasons, *sentences, *remarks]:
        console.print(f"  {line}", highlight=False, markup=False)
    _print_verdict(console, certificate.accepted, certificate.verdict, folder)


def print_front(console: Console, front: FrontResult, folder: Path) -> None:
    """A row for each design, and the verdict on the whole."""
    names = [f"{o.sense} {o.name}" for o in front.objectives]
    table = Table("design", *names, "KKT residual", "solves", "", title=escape(f"{front.study}: front"))
    for point in front.points:
        told = "[green]accepted[/]" if point.accepted else "[red]NOT ACCEPTED[/]"
        told += "" if point.dominated_by is None else f" [red]dominated by {point.dominated_by}[/]"
        values = [_plain(value, 7) for value in point.objectives]
        solves = str(point.search_solves.get("forward", 0))
        table.add_row(str(point.number), *values, _plain(point.kkt_residual, 2), solves, told)
    console.print(table)
    for point in front.points:
        if not point.accepted:
            console.print(f"  design {point.number}: {point.verdict}", highlight=False, markup=False)
    console.print(f"hypervolume {_plain(front.hypervolume, 6)} up to {front.reference}", highlight=False, markup=False)
    _print_verdict(console, front.accepted, front.verdict, folder)


def _print_verdict(console: Console, accepted: bool, verdict: str, folder: Path) -> None:
    head = "Accepted" if accepted else "Not accepted"
    style = "bold green" if accepted else "bold red"
    rest = escape(verdict.removeprefix(head))
    console.print(f"[{style}]{head.upper()}[/]{rest}; everything is in {escape(str(folder))}", highlight=False)


def print_findings(console: Console, findings: Sequence[Finding], folder: Path) -> bool:
    """What `verify` found, and whether all is in order."""
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[bold red]DIFFERS[/]"
        console.print(f"{mark} {escape(finding.what)}: {escape(finding.text)}", highlight=False, soft_wrap=True)
    faults = [finding.what for finding in findings if not finding.ok]
    differing = f"[bold red]NOT AS CERTIFIED[/]: {escape(', '.join(faults))}"
    verdict = differing if faults else "[bold green]AS CERTIFIED[/]"
    console.print(f"{verdict}; {escape(str(folder))}", highlight=False, soft_wrap=True)
    return not faults


def _print_checks(
    console: Console, title: str, verdict: DesignVerdict | ModelVerdict, limits: Sequence[Limit]
) -> None:
    defaults = {limit.name: limit for limit in limits}
    table = Table("check", "value", "", "limit", "default", "", title=title)
    for check in verdict.checks:
        usual = defaults.get(check.name)
        default = "" if usual is None else f"{usual.default:.3g}{' (loosened)' if usual.looser else ''}"
        value = _plain(check.value, 6 if check.name.startswith("gradient cosine") else 3)
        table.add_row(check.name, value, check.relation, f"{check.limit:.3g}", default, _mark(check))
    console.print(table)


def _constraints(certificate: Certificate) -> Table:
    table = Table("constraint", "value", "target", "miss", "allowed", "tolerance", "")
    defaults = {limit.name: limit for limit in certificate.limits}
    for row in certificate.constraints:
        digits = digits_to_show(row.value, row.miss)
        usual = defaults[f"constraint '{row.name}'"]
        tolerance = f"{row.tolerance:.2g}"
        if usual.looser:
            tolerance += f" (loosened, default {usual.default:.2g})"
        numbers = _plain(row.value, digits), _plain(row.target, digits), _plain(row.miss, 2)
        unit = "" if row.unit == "1" else f" {row.unit}"
        table.add_row(row.name, *numbers, f"{row.allowed:.2g}{unit}", tolerance, _mark(row))
    return table


def _mark(entry: Check | ConstraintResult) -> str:
    return "[green]ok[/]" if entry.satisfied else "[red]FAILED[/]"


def _plain(value: float | None, digits: int) -> str:
    return "no number" if value is None else f"{value:.{digits}g}"


def print_taylor_tests(console: Console, tests: Sequence[TaylorTest]) -> bool:
    """The table of ``check``; whether all passed."""
    table = Table("derivative", "order", "relative difference", "steps", "", title="Taylor tests (float64)")
    for test in tests:
        mark = "[green]ok[/]" if test.passed else "[red]FAILED[/]"
        steps = f"{max(test.steps):.0e} to {min(test.steps):.0e}"
        order = "linear" if test.exact else f"{test.order:.3f}"
        table.add_row(escape(test.name), order, f"{test.difference:.1e}", steps, mark)
    console.print(table)
    for test in tests:
        if not test.passed:
            console.print(f"[red]{escape(test.name)}[/]: {escape(test.explanation)}", highlight=False)
    return all(test.passed for test in tests)


def print_catalogue(console: Console) -> None:
    """Families, physics, objectives and quantities."""
    for name, constructor in builtin_families().items():
        family = constructor()
        console.print(f"[bold]family {name}[/]: {family.description}")
        options = inspect.signature(constructor).parameters.values()
        console.print(
            "  options: " + ", ".join(f"{option.name}={option.default}" for option in options),
            highlight=False,
        )
        table = Table("parameter", "default", "bounds", "unit", "meaning")
        for p in family.parameters:
            table.add_row(p.name, f"{p.default:.4g}", f"{p.lower:.4g} to {p.upper:.4g}", p.unit, p.description)
        console.print(table)
    for physics in PHYSICS.values():
        console.print(f"[bold]physics {physics.name}[/]: {physics.description}")
        table = Table("kind", "name", "unit", "meaning")
        for field in physics.fields:
            table.add_row("field", f"{field.name} ({', '.join(field.components)})", field.unit, field.description)
        for coefficient in physics.coefficients:
            meaning = f"{coefficient.description}; default {coefficient.default:g}; {coefficient.allowed.text}"
            table.add_row("coefficient", coefficient.name, coefficient.unit, meaning)
        for functional in physics.functionals:
            needed = functional.region_as is not None
            where = f" ({{name: {functional.name}, on: REGION}})" if needed else ""
            table.add_row("objective", functional.name, functional.unit, functional.description + where)
        console.print(table)
    console.print("A family or a physics of your own: its file and name, such as my_physics.py:Name.", highlight=False)
    console.print("[bold]geometric quantities[/] for constraints, beside the objectives of the physics")
    table = Table("quantity", "unit", "meaning")
    for name, quantity in QUANTITIES.items():
        table.add_row(name, quantity.unit, quantity.description)
    console.print(table)
