"""Tables of a managed study: the steps, what the surrogate learnt from them, how familiar the optimum is to it."""

from __future__ import annotations

from typing import Any

from shapewright.app.formatting import capital, number, percent, unit, words
from shapewright.app.report.data import Finished
from shapewright.app.report.design_tables import Table


def loop_table(finished: Finished) -> Table | None:
    """Every finite-element solution of the trust region; None where there was none."""
    history, objective = finished.history, finished.certificate["objective"]
    if "forward" not in history:
        return None
    own = history["start"] == finished.optimum["best_start"]
    columns = ("forward", "objective", "ratio", "radius", "accepted", "kkt_residual")
    rows = [
        (
            str(int(forward)),
            number(value, 7),
            number(ratio, 3),
            number(radius, 3),
            "yes" if accepted else "no",
            number(residual, 2),
        )
        for forward, value, ratio, radius, accepted, residual in zip(
            *(history[name][own] for name in columns), strict=True
        )
    ]
    solves = finished.optimum["fem_solves"]
    note = (
        f"{solves['forward']} solutions and {solves['adjoint']} adjoints led to the optimum. Between them, steps are"
        " taken on the surrogate, corrected so that it has the finite-element value and gradient where a step begins."
        " Ratio: of the change that finite elements find to the one foretold; 1 is perfect, below 0 the step is taken"
        " back. Radius: how far a step may go, in shares of the parameters' ranges. KKT residual: 0 where no small"
        " change of shape improves the design."
    )
    heading = f"#{capital(words(objective['name']))} [{unit(objective['unit']) or '1'}]"
    return Table(("Solution", heading, "#Ratio", "#Radius", "Taken", "#KKT residual"), rows, note)


def infill_table(finished: Finished) -> Table | None:
    """Errors of the surrogate before and after it learnt the trust region's solutions; None where it did not."""
    tuned = finished.certificate["infill"]
    if not tuned:
        return None
    rows: list[tuple[Any, ...]] = []
    designs = {"held_out": "held-out designs", "optimum": "at this optimum, not learnt, but it chose the weights"}
    for where, of in designs.items():
        before, after = tuned[where]["before"], tuned[where]["after"]
        rows += [
            ((f"Field {name}", of), percent(before["field"][name]), percent(after["field"][name]))
            for name in before["field"]
        ]
        rows += [
            ((capital(name), of), percent(before[key]), percent(after[key]))
            for name, key in (("objective", "objective"), ("design gradient", "gradient"))
        ]
    kept = "are kept, for the next study" if tuned["kept"] else "are thrown away: they do no better"
    learnt = f"{tuned['designs']} solutions of the trust region were learnt, beside the original ones"
    note = f"The tuned weights {kept}. {learnt}."
    return Table(("Error", "#Before", "#After"), rows, note)


def novelty(finished: Finished) -> str:
    """How far the optimum is from what the surrogate has seen, in a sentence or two; empty without a surrogate."""
    known = finished.certificate["novelty"]
    if not known:
        return ""
    measured = known["correlation"]
    if measured is None:
        worth = "What that says of its error the model card does not state"
    else:
        worth = (
            f"On {measured['designs']} designs that it was not taught this distance goes with the true error at a rank"
            f" correlation of {number(measured['field_error'], 2)} (fields) and"
            f" {number(measured['gradient_error'], 2)} (design gradient); 1 is perfect, 0 is none"
        )
    return (
        f"Distance of the optimum from the designs the surrogate was trained on: {number(known['distance'], 3)}, where"
        f" {number(known['typical_median'], 3)} is usual and one in twenty is beyond"
        f" {number(known['typical_95_percent'], 3)} (Mahalanobis distance of its latent features). {worth}."
    )
