"""Finite elements in the loop: steps of the trust region, tuning of the surrogate, novelty of the optimum."""

from __future__ import annotations

from shapewright.app.formatting import capital, number, percent, unit, words
from shapewright.app.report.data import Finished
from shapewright.app.report.design_tables import Row, Table
from shapewright.studies.certify.model import BeforeAndAfter


def loop_table(finished: Finished) -> Table | None:
    """Every finite-element solution of the trust region; None where there was none."""
    history, objective = finished.history, finished.certificate.objective
    if "forward" not in history:
        return None
    own = history["start"] == finished.optimum.best_start
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
    solves = finished.optimum.fem_solves
    note = (
        f"{solves['forward']} solutions and {solves['adjoint']} adjoints led to the optimum. Between them, steps are"
        " taken on the surrogate, corrected to the finite-element value and gradient where the step begins."
        " Ratio: actual over predicted change; 1 is perfect, and a step with a ratio below 0 is rejected."
        " Radius: largest step, in shares of the parameters' ranges. KKT residual: 0 at a design that no small change"
        " of shape improves."
    )
    heading = f"#{capital(words(objective.name))} [{unit(objective.unit) or '1'}]"
    return Table(("Solution", heading, "#Ratio", "#Radius", "Taken", "#KKT residual"), rows, note)


def infill_table(finished: Finished) -> Table | None:
    """Errors of the surrogate before and after its tuning to the trust region's solutions; None without a tuning."""
    tuned = finished.certificate.infill
    if tuned is None:
        return None
    rows = [
        *_tuning_rows("held-out designs", tuned.held_out),
        *_tuning_rows("at this optimum, which was not learnt but chose the weights", tuned.optimum),
    ]
    kept = "are kept for the next study" if tuned.kept else "are discarded: their errors are no smaller"
    learnt = f"{tuned.designs} solutions of the trust region were learnt in addition to the original ones"
    return Table(("Error", "#Before", "#After"), rows, f"The tuned weights {kept}. {learnt}.")


def _tuning_rows(where: str, errors: BeforeAndAfter) -> list[Row]:
    before, after = errors.before, errors.after
    pairs = {f"Field {name}": (error, after.field[name]) for name, error in before.field.items()}
    pairs |= {"Objective": (before.objective, after.objective), "Design gradient": (before.gradient, after.gradient)}
    return [((name, where), percent(first), percent(second)) for name, (first, second) in pairs.items()]


def novelty(finished: Finished) -> str:
    """Distance of the optimum from the training designs, in a sentence or two; empty without a surrogate."""
    known = finished.certificate.novelty
    if known is None:
        return ""
    measured = known.correlation
    if measured is None:
        correlation = "The model card does not state how this distance correlates with the error"
    else:
        correlation = (
            f"On {measured.designs} held-out designs the rank correlation of this distance with the true error is"
            f" {number(measured.field_error, 2)} (fields) and {number(measured.gradient_error, 2)} (design gradient);"
            " 1 is perfect, 0 is none"
        )
    return (
        f"Distance of the optimum from the training designs of the surrogate: {number(known.distance, 3)}. Among"
        f" designs drawn as the training designs were, the median is {number(known.typical_median, 3)} and the 95th"
        f" percentile {number(known.typical_95_percent, 3)} (Mahalanobis distance of latent features). {correlation}."
    )
