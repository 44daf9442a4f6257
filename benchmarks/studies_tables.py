"""The tables of :mod:`benchmarks.studies`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NEAR = 1e-4
"""A gap that is as good as none."""


@dataclass(frozen=True)
class Row:
    """One line: where a method got to by finite elements, and what it took.

    Attributes:
        objective_fem: by finite elements at the design found; the mean of a sweep.
        gap_to_fem_alone: relative, positive is worse; the largest of a sweep.
        violation: largest of a constraint by finite elements, in its tolerances; up to 1 is met.
        fem_solves, adjoint_solves: of the search; judging its result is not counted.
        solves_until_near: forward solves until a design meets all constraints and is within :data:`NEAR` of what FEM
            alone found; None in sweeps, from many starts, and where finite elements are not asked on the way.
        seconds: of the search; training_seconds, training_solves: of the surrogate that it used, held-out designs too.
    """

    study: str
    method: str
    objective_fem: float
    gap_to_fem_alone: float
    violation: float
    fem_solves: int
    adjoint_solves: int
    solves_until_near: int | None
    seconds: float
    training_seconds: float
    training_solves: int


def as_markdown(rows: Sequence[Row], fronts: Sequence[dict[str, Any]], machine: dict[str, Any]) -> str:
    """All tables, with the machine they were measured on."""
    on = machine["hardware"]
    head = [
        "# Studies: what an optimum costs",
        "",
        f"Measured by `python -m benchmarks.studies` on {on['processor']}, {on['cores']} cores,",
        f"{on['memory_gib']} GiB, {machine['started'][:10]}, torch {machine['packages']['torch']},"
        f" Python {machine['python']}.",
        "",
        "Objective: by finite elements on the moved mesh, at the design found; in a sweep, the mean over the values.",
        "Gap: to FEM alone (SLSQP on its adjoint gradient, from the study's start), relative, positive is worse; in a",
        "sweep, the largest. Off: largest violation of a constraint by finite elements, in its tolerances; up to 1 is",
        f"met. Near: forward solves until a design meets the constraints and is within {NEAR:.2%} of FEM alone's",
        "objective. Training: seconds that the surrogate once took; its solves: those it learnt from and was judged",
        "by, with adjoints and tangents. Both serve every line of a study. Seconds are processor time on one thread,",
        "the wall time of a machine that does nothing else; those of training are wall time.",
        "",
        "| study | method | objective | gap | off | FEM solves | adjoints | near | seconds | training | its solves |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines = [
        f"| {r.study} | {r.method} | {r.objective_fem:.7g} | {round(100 * r.gap_to_fem_alone, 4) + 0.0:+.4f} %"
        f" | {r.violation:.2g} | {r.fem_solves} | {r.adjoint_solves} | {r.solves_until_near or ''} | {r.seconds:.1f}"
        f" | {r.training_seconds:.0f} | {r.training_solves} |"
        for r in rows
    ]
    return "\n".join([*head, *lines, *reached(rows), *front_table(fronts)]) + "\n"


def reached(rows: Sequence[Row]) -> Iterator[str]:
    """What was to be reached, study by study."""
    yield from (
        "",
        "## Reach",
        "",
        "Asked: managed within 0.01 % of FEM alone with at most a third of its solves; surrogate only within 1 %, all",
        "constraints met. The share of solves in brackets is that of those until near. What the trust region saves",
        "without a surrogate is not the surrogate's merit. All gaps are on the mesh that moves, whose own error the",
        "certificate states.",
        "",
        "| study | managed: gap | share of solves | without surrogate | surrogate only: gap | off |",
        "|---|---|---|---|---|---|",
    )
    found = {(row.study, row.method): row for row in rows}
    for study in dict.fromkeys(row.study for row in rows):
        needed = ("FEM alone", "managed", "trust region without surrogate", "surrogate only")
        if any((study, method) not in found for method in needed):
            continue
        alone, both, blind, only = (found[study, method] for method in needed)
        near = (
            "never near"
            if both.solves_until_near is None or alone.solves_until_near is None
            else f"{both.solves_until_near / alone.solves_until_near:.0%}"
        )
        yield (
            f"| {study} | {both.gap_to_fem_alone:+.4%} | {both.fem_solves / alone.fem_solves:.0%} ({near})"
            f" | {blind.fem_solves / alone.fem_solves:.0%}, gap {blind.gap_to_fem_alone:+.4%}"
            f" | {only.gap_to_fem_alone:+.3%} | {only.violation:.2g} |"
        )


def front_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every fifth value of the fronts; all of them are in the JSON."""
    if not found:
        return
    factors = found[0]["target_factors"]
    chosen = [*range(0, len(factors) - 1, 5), len(factors) - 1]
    yield from ("", "## Pareto fronts", "", "Objective by finite elements over the target of the first equality.", "")
    yield "| study | method | " + " | ".join(f"{factors[k]:.3f}" for k in chosen) + " |"
    yield "|---|---" + "|---" * len(chosen) + "|"
    for front in found:
        values = " | ".join(f"{front['objectives'][k]:.6g}" for k in chosen)
        yield f"| {front['study']} | {front['method'].partition(',')[0]} | {values} |"
