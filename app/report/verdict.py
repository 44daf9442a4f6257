"""The verdict of a certificate in words: one sentence, and what a reader should know beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shapewright.app.formatting import NOTHING, capital, digits_for, limit, number, percent, signed, with_unit, words
from shapewright.app.report.data import Finished
from shapewright.studies.certify.model import Certificate, Objective
from shapewright.studies.certify.verdict_model import Check, Limit


@dataclass(frozen=True)
class Explained:
    """A check of the certificate: what it means, and how its value is written."""

    meaning: str
    style: str


CHECKS = {
    "mesh error": Explained(
        "Finite-element objective on the finest mesh, against the value extrapolated to cells of size zero.", "percent"
    ),
    "mapped mesh": Explained(
        "Finite elements on the mesh that the optimizer moved, against fresh meshes of the CAD file read back.",
        "percent",
    ),
    "objective": Explained("Objective by the surrogate, against finite elements at the same shape.", "percent"),
    "fields": Explained(
        "Largest error of a field by the surrogate over the whole domain (relative L2 norm), against finite elements.",
        "percent",
    ),
    "gradient cosine": Explained(
        "Whether the surrogate's derivatives of the objective by the design parameters point where those of finite"
        " elements do: 1 is the same direction.",
        "cosine",
    ),
    "gradient cosine at the start": Explained(
        "Whether the surrogate's derivatives of the objective by the design parameters point where those of finite"
        " elements do, at the start: at this optimum they vanish, so that their direction says nothing.",
        "cosine",
    ),
    "gradient error": Explained(
        "Difference between the surrogate's derivatives and those of finite elements, over the size of the latter at"
        " the start.",
        "percent",
    ),
    "KKT residual": Explained(
        "Share of the objective's finite-element gradient that constraints and bounds do not balance: 0 where no small"
        " change of shape improves it (the Karush-Kuhn-Tucker conditions).",
        "plain",
    ),
    "CAD measure": Explained("Area or volume of the STEP file read back, relative to the design's own.", "plain"),
    "CAD deviation": Explained(
        "Largest distance between the curve read back and the design's, relative to the part's size.", "plain"
    ),
    "CAD domain": Explained(
        "Area or volume of domain.step read back, the domain that the part is cut out of, relative to its own.", "plain"
    ),
    "CAD valid": Explained("OpenCASCADE finds the part read back valid: closed, and not crossing itself.", "yes"),
    "STL closed": Explained("The STL surface is watertight and its facets all face outward.", "yes"),
    "improvement": Explained(
        "Objective by finite elements at the optimum against the start; positive is better, and a loss is allowed only"
        " where the meshes leave it open.",
        "percent",
    ),
}
"""Checks by their names in the certificate; one that is not here is shown with its own words."""


def check_rows(
    checks: Sequence[Check], limits: Sequence[Limit]
) -> list[tuple[str, str, str, str, str, str]]:
    """Name, meaning, value, limit, the limit's default, and pass or FAIL of each check.

    ``limits`` are those of the certificate; a check that no key of the study limits has no default.
    """
    defaults = {limit.name: limit for limit in limits}
    rows = []
    for check in checks:
        known = CHECKS.get(check.name, Explained(capital(check.meaning), "plain"))
        relation = {"<=": "≤", ">=": "≥"}[check.relation]
        chosen = None if check.name != "improvement" else 2  # which the meshes set, and nobody chose
        value, bound = _written(check.value, known.style, 3), _written(check.limit, known.style, chosen)
        required = bound if known.style == "yes" else f"{relation} {bound}"
        usual = defaults.get(check.name)
        default = NOTHING if usual is None else _written(usual.default, known.style, None)
        if usual is not None and usual.looser:
            default += ", loosened"
        result = pass_or_fail(check.satisfied)
        rows.append((capital(check.name), known.meaning, value, required, default, result))
    return rows


def pass_or_fail(satisfied: bool) -> str:
    """In words, so that the table reads without colours."""
    return "pass" if satisfied else "FAIL"


def _written(value: float | None, style: str, digits: int | None) -> str:
    if style == "yes" and value is not None:
        return "yes" if value >= 1.0 else "no"
    scale = 100.0 if style == "percent" and value is not None else 1.0
    if value is not None:
        value = scale * value
    text = limit(value or 0.0) if digits is None else number(value, 6 if style == "cosine" else digits)
    return f"{text} %" if style == "percent" and value is not None else text


def before_and_after(objective: Objective) -> tuple[str, str, str]:
    """Objective by finite elements at the start and at the optimum, and the change, each with its unit."""
    digits = digits_for(objective.discretization_error)
    first, last = objective.initial_fem, objective.fem
    change = "" if not first or last is None else f"{signed(100 * (last - first) / abs(first), 3)} %"
    return (
        with_unit(number(first, digits), objective.unit),
        with_unit(number(last, digits), objective.unit),
        change,
    )


def sentence(certificate: Certificate) -> tuple[str, str]:
    """The verdict in one sentence: 'Accepted' or 'Not accepted', and why, with the key numbers."""
    objective = certificate.objective
    first, last, change = before_and_after(objective)
    name = f"the {words(objective.name)}"
    change = f" ({change})" if change else ""
    uncertainty = percent(objective.discretization_error)
    if objective.surrogate is None:
        error = "no surrogate was used"
    else:
        error = f"the surrogate's value is {percent(objective.surrogate_relative_error)} off"
    course = f"{name} {_verb(objective)} from {first} to {last}{change} by finite elements"
    numbers = f"{course}; {error}, and the mesh uncertainty is {uncertainty}."
    head = "Accepted" if certificate.accepted else "Not accepted"
    rest = certificate.verdict.removeprefix(head)
    if certificate.accepted:
        return head, f"{rest}{';' if rest else ':'} {numbers}"
    return head, f"{rest}, so do not rely on this shape; {numbers}"


def _verb(objective: Objective) -> str:
    first, last = objective.initial_fem, objective.fem
    if first is None or last is None or first == last:
        return "goes"
    return "rises" if last > first else "falls"


def cautions(finished: Finished) -> list[str]:
    """Warnings of the certificate, an unusual end of the search, and an order of convergence that was not observed."""
    certificate = finished.certificate
    objective = certificate.objective
    notes = list(certificate.warnings)
    if finished.optimum.exit.reason not in ("CONVERGED", "STATIONARY"):
        notes.append(f"The optimizer did not converge in the ordinary way. {finished.optimum.exit.text}")
    if objective.observed_order is None:
        notes.append(f"No order of mesh convergence was observed: {objective.extrapolation}.")
    return notes
