"""Tables that commands print."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geometries.catalogue import builtin_families
from geometries.quantities import QUANTITIES
from solvers.physics import PHYSICS
from studies.checks import TaylorTest


def print_certificate(console: Console, certificate: dict[str, Any], folder: Path) -> None:
    """The verdict and its checks."""
    table = Table("check", "value", "", "limit", "", title=f"{certificate['study']}: finite-element certificate")
    for check in certificate["checks"]:
        mark = "[green]ok[/]" if check["satisfied"] else "[red]FAILED[/]"
        value = "no number" if check["value"] is None else f"{check['value']:.3g}"
        table.add_row(check["name"], value, check["relation"], f"{check['limit']:.3g}", mark)
    console.print(table)
    objective = certificate["objective"]
    surrogate = "" if objective["surrogate"] is None else f", surrogate {objective['surrogate']:.8g}"
    console.print(
        f"{escape(objective['name'])}: start {objective['initial_fem']:.8g}, optimum by FEM {objective['fem']:.8g}"
        f" (extrapolated {objective['fem_extrapolated']:.8g}){surrogate} {objective['unit']}"
    )
    for line in [certificate["exit"]["text"], *certificate["reasons"], *certificate["warnings"]]:
        console.print(f"  {line}", highlight=False, markup=False)
    verdict = "[bold green]ACCEPTED[/]" if certificate["accepted"] else "[bold red]NOT ACCEPTED[/]"
    console.print(f"{verdict}; everything is in {escape(str(folder))}")


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
            where = f" (over '{functional.on}')" if functional.on else ""
            table.add_row("objective", functional.name, functional.unit, functional.description + where)
        console.print(table)
    console.print("[bold]geometric quantities[/] for constraints, beside the objectives of the physics")
    table = Table("quantity", "unit", "meaning")
    for name, quantity in QUANTITIES.items():
        table.add_row(name, quantity.unit, quantity.description)
    console.print(table)
