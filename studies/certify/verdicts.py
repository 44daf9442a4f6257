"""From checks, constraints and limits to two verdicts: of the design, and of the surrogate that searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shapewright.studies.certify.model import ConstraintResult
from shapewright.studies.certify.verdict_model import Check, DesignVerdict, Limit, ModelVerdict
from shapewright.studies.problem.conditions import Condition
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.study import Constraint, Optimizer, StudyModel, Validation


@dataclass(frozen=True)
class Verdicts:
    """Entries of a certificate that conclude.

    Attributes:
        accepted, verdict, reasons: on the whole, see :func:`overall`.
        design, model: of the design, and of the surrogate that searched, if one did.
        limits: that decide or inform.
    """

    accepted: bool
    verdict: str
    reasons: tuple[str, ...]
    design: DesignVerdict
    model: ModelVerdict | None
    limits: tuple[Limit, ...]

    def extended(self, text: str) -> Verdicts:
        """With an addition to the verdict's sentence."""
        return replace(self, verdict=self.verdict + text)


def verdicts_of(
    setup: Setup,
    checks: Sequence[Check],
    rows: Sequence[ConstraintResult],
    of_model: Sequence[Check] | None,
    by: Literal["surrogate", "operator"] = "surrogate",
) -> Verdicts:
    """Verdicts by the checks of the design, its constraints, and the checks of the model ``by`` which was searched."""
    study = setup.study.model
    found = limits(study, setup.constraints)
    design = design_verdict(checks, rows, found)
    model = None if of_model is None else model_verdict(of_model, not has_fem_in_loop(study), found, by)
    return Verdicts(*overall(design, model, found), design, model, found)


def least_residual(study: StudyModel) -> tuple[str, float, float]:
    """Key, limit and its default of the KKT residual: a trust region must reach its own tolerance."""
    keys = [("validation.kkt_residual", study.validation.kkt_residual, Validation().kkt_residual)]
    if study.optimizer.method == "trust_region":
        keys.append(("optimizer.kkt_tolerance", study.optimizer.kkt_tolerance, Optimizer().kkt_tolerance))
    key, value, _ = min(keys, key=lambda entry: entry[1])
    return key, value, min(default for *_, default in keys)


def has_fem_in_loop(study: StudyModel) -> bool:
    """Whether finite elements decided every step of the search, so that the result does not depend on a surrogate."""
    return study.optimizer.on == "fem" or study.optimizer.method == "trust_region"


def limits(study: StudyModel, conditions: Sequence[Condition]) -> tuple[Limit, ...]:
    """All limits that decide or inform, beside their defaults."""
    return (*_validation_limits(study), *map(_tolerance, conditions))


def _validation_limits(study: StudyModel) -> Iterator[Limit]:
    given, default, by_itself = study.validation, Validation(), has_fem_in_loop(study)
    key, residual, usual = least_residual(study)
    error = "validation.discretization_error"
    yield _limit(error, "mesh error", given.discretization_error, default.discretization_error)
    yield _limit("validation.objective_error", "mapped mesh", given.objective_error, default.objective_error)
    yield _limit(key, "KKT residual", residual, usual)
    if study.optimizer.on == "fem":
        return
    for name, entry in (("objective", "objective_error"), ("fields", "field_error")):
        yield _limit(f"validation.{entry}", name, getattr(given, entry), getattr(default, entry), "<=", not by_itself)
    cosine = "validation.gradient_cosine"
    yield _limit(cosine, "gradient cosine", given.gradient_cosine, default.gradient_cosine, ">=", not by_itself)


def _tolerance(condition: Condition) -> Limit:
    usual = Constraint.model_fields["tolerance"].default
    key = f"constraints.{condition.entry}.tolerance"
    return _limit(key, f"constraint '{condition.name}'", condition.tolerance, usual)


def _limit(
    key: str, name: str, value: float, default: float, relation: Literal["<=", ">="] = "<=", decisive: bool = True
) -> Limit:
    looser = value > default if relation == "<=" else value < default
    return Limit(
        key=key, name=name, value=value, default=default, relation=relation, looser=looser, decisive=decisive
    )


def loosened(found: Sequence[Limit]) -> str:
    """Limits that are looser than their defaults, each key once; empty where none is."""
    texts = {limit.key: f"{limit.key} {limit.value:g} (default {limit.default:g})" for limit in found if limit.looser}
    return ", ".join(texts.values())


def design_verdict(
    checks: Sequence[Check], constraints: Sequence[ConstraintResult], found: Sequence[Limit]
) -> DesignVerdict:
    """Of the design: every check and every constraint."""
    failed = [check.name for check in checks if not check.satisfied]
    missed = [row for row in constraints if not row.satisfied]
    names = [*failed, *(f"constraint '{row.name}'" for row in missed)]
    own = {check.name for check in checks} | {f"constraint '{row.name}'" for row in constraints}
    loose = loosened([limit for limit in found if limit.name in own])
    if names:
        verdict = f"The design is not accepted: {', '.join(names)} failed."
    else:
        verdict = f"The design is accepted{f' with loosened limits: {loose}' if loose else ''}."
    reasons = [check.reason for check in checks if not check.satisfied]
    return DesignVerdict(
        accepted=not names, verdict=verdict, checks=tuple(checks), reasons=(*reasons, *map(_missed, missed))
    )


def _missed(row: ConstraintResult) -> str:
    found = "no number" if row.value is None else f"{row.value:.9g}"
    miss = "" if row.miss is None else f", a miss of {row.miss:.3g} where {row.allowed:.3g} is allowed"
    return f"constraint '{row.name}': {found} against {row.target:.9g}{miss}"


def model_verdict(
    checks: Sequence[Check],
    decisive: bool,
    found: Sequence[Limit],
    by: Literal["surrogate", "operator"] = "surrogate",
) -> ModelVerdict:
    """Of the surrogate or operator that searched."""
    failed = [check.name for check in checks if not check.satisfied]
    names = ("objective", "fields", "gradient cosine")
    loose = loosened([limit for limit in found if limit.name in names])
    if not failed:
        verdict = f"The {by} that searched agrees with finite elements at the optimum"
        verdict += f" within loosened limits: {loose}." if loose else "."
    elif decisive:
        verdict = f"The {by} that searched is poor at the optimum ({', '.join(failed)}), and the search relied"
        verdict += " on it alone."
    else:
        verdict = f"The {by} that searched is poor at the optimum ({', '.join(failed)}); finite elements in the"
        verdict += " loop of the search decided every step, so that the design does not depend on it."
    return ModelVerdict(
        by=by,
        decisive=decisive,
        accepted=not failed,
        verdict=verdict,
        checks=tuple(checks),
        reasons=tuple(check.reason for check in checks if not check.satisfied),
    )


def overall(
    design: DesignVerdict, model: ModelVerdict | None, found: Sequence[Limit]
) -> tuple[bool, str, tuple[str, ...]]:
    """Whether the design is accepted, that in a sentence, and the reasons."""
    poor = model is not None and model.decisive and not model.accepted
    reasons = (*design.reasons, *(model.reasons if model is not None and poor else ()))
    if design.accepted and not poor:
        loose = loosened([limit for limit in found if limit.decisive])
        verdict = f"Accepted with loosened limits: {loose}" if loose else "Accepted"
        return True, verdict, ("all checks passed",)
    names = ", ".join(reason.partition(":")[0] for reason in reasons)
    return False, f"Not accepted: {names} failed", reasons
