"""What a study with scatter shows: its optimum beside the one for the mean values alone, scenario by scenario."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from shapewright.app.formatting import capital, number, percent, unit, words
from shapewright.app.report.canvas import AFTER, BEFORE, Figure, drawn
from shapewright.app.report.data import Finished
from shapewright.app.report.design_tables import Table
from shapewright.studies.run.robust import DesignSummary, RobustResult


def robust_tables(finished: Finished) -> list[Table]:
    """Both designs over all scenarios, and in each; none of a study without the comparison."""
    found = finished.robust
    if found is None:
        return []
    return [_summary(found), _scenarios(found)]


def _summary(found: RobustResult) -> Table:
    first, second = found.nominal, found.robust
    start, end = (found.scenarios["nominal"].nominal, found.scenarios["nominal"].robust)
    rows = [
        ("For the mean values alone", *_pair(start, end)),
        ("Mean over the scenarios", *_pair(first.mean, second.mean)),
        ("Standard deviation", *_pair(first.deviation, second.deviation)),
        (f"Worst (in {_where(first, second)})", *_pair(first.worst, second.worst)),
    ]
    name = capital(words(found.functional)) + (f" [{unit(found.unit)}]" if unit(found.unit) else "")
    sense = "smaller" if found.sense == "minimize" else "larger"
    note = f"By finite elements on the moved mesh; {sense} is better. Change: from the nominal design to this optimum."
    return Table((name, "#Nominal design", "#This optimum", "#Change"), rows, note)


def _where(first: DesignSummary, second: DesignSummary) -> str:
    return first.worst_in if first.worst_in == second.worst_in else f"{first.worst_in}, {second.worst_in}"


def _pair(before: float | None, after: float | None) -> tuple[str, str, str]:
    change = (after - before) / abs(before) if before and after is not None else None
    sign = "+" if change is not None and change > 0 else ""
    return number(before, 5), number(after, 5), f"{sign}{percent(change)}"


def _scenarios(found: RobustResult) -> Table:
    names = list(next(iter(found.scenarios.values())).values)
    rows = [
        (
            name,
            *(number(scenario.values[variable], 4) for variable in names),
            number(scenario.weight, 4),
            *_pair(scenario.nominal, scenario.robust),
        )
        for name, scenario in found.scenarios.items()
    ]
    values = ("#Weight", "#Nominal design", "#This optimum", "#Change")
    return Table(("Scenario", *(f"#{words(name)}" for name in names), *values), rows)


def robust_figure(finished: Finished) -> list[Figure]:
    """Values of both designs in all scenarios, in the order of the nominal design's."""
    found = finished.robust
    if found is None:
        return []
    pairs = np.array([[_known(s.nominal), _known(s.robust)] for s in found.scenarios.values()])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_axes((0.19, 0.255, 0.77, 0.69))
        at = np.arange(1, len(pairs) + 1)
        axes.vlines(at, *pairs.T, color="#d9dee4", lw=1.0, zorder=1)
        axes.plot(at, pairs[:, 0], color=BEFORE, marker="o", mfc="white", ms=4, ls="none", label="nominal design")
        axes.plot(at, pairs[:, 1], color=AFTER, marker="o", ms=4, ls="none", label="this optimum")
        axes.set_xlabel("scenarios, by the nominal design's value", labelpad=1)
        axes.set_ylabel(f"{words(found.functional)} [{unit(found.unit) or '1'}]", labelpad=2)
        axes.set_xticks([])
        canvas.legend(loc="lower center", ncols=2, columnspacing=1.2, handlelength=1.6)

    alt = f"{words(found.functional)} of the nominal design and of this optimum in {len(pairs)} scenarios"
    return [drawn("Both designs in all scenarios", alt, 2.9, draw)]


def _known(value: float | None) -> float:
    return np.nan if value is None else value
