"""The command that says what an optimum of a study would cost by each model."""

from __future__ import annotations

import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shapewright.studies.run.plan import Plan, Way


def as_json(plan: Plan) -> str:
    """Indented JSON of all of it."""
    return json.dumps(plan.as_data(), indent=2)


def print_plan(console: Console, plan: Plan) -> None:
    """A row for each way, the times that were measured, and the choice."""
    table = Table(
        "way", "FEM solves", "operator calls", "time", "before", "pays from", "gap",
        title=escape(f"{plan.study}: one optimum, {plan.variables} design variables"),
    )  # fmt: skip
    for way in plan.ways:
        table.add_row(*map(escape, _row(way)))
    console.print(table, highlight=False)
    times = plan.times
    call = "none fits" if times.operator is None else _time(times.operator)
    lines = [
        *(f"{way.method}: {way.title}. Solves: {way.basis}." for way in plan.ways),
        f"Measured here, for one design: solve {_time(times.solve)}, adjoints {_time(times.adjoint)}, operator {call}.",
        "Time: solves and operator calls of one optimum. Before: samples and training. Pays from: number of optima from"
        " which on it takes less time than finite elements alone. Gap: of the objective to theirs.",
        f"`model: auto` would take {plan.chosen}. {plan.why}.",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _row(way: Way) -> tuple[str, ...]:
    known = way.seconds is not None
    if way.method == "fem":
        pays = ""
    elif not known:
        pays = "not known"
    else:
        pays = "never" if way.pays_after is None else f"optimum {way.pays_after}"
    before = f"{_time(way.before)}, {way.before_solves} solves" if way.before_solves else "nothing"
    return (
        way.method,
        "not measured" if way.solves is None else f"{way.solves:.3g}",
        "" if way.calls is None else f"{way.calls:.3g}",
        "not known" if way.seconds is None else _time(way.seconds),
        before if known else "",
        pays,
        "" if way.gap is None else f"{way.gap:.1g}",
    )


def _time(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
