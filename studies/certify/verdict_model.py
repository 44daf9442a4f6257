"""Entries of a certificate that decide: checks, the two verdicts, and the limits of the study."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class Entry(BaseModel):
    """Base of all parts of a certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Check(Entry):
    """One line of a verdict: ``value`` must be ``relation`` to ``limit``."""

    name: str
    value: Number
    """Null where it is no number, which satisfies nothing."""
    relation: Literal["<=", ">="]
    limit: float
    meaning: str
    satisfied: bool

    @classmethod
    def of(cls, name: str, value: float, relation: Literal["<=", ">="], limit: float, meaning: str) -> Self:
        """A check with its result."""
        satisfied = value <= limit if relation == "<=" else value >= limit
        return cls(name=name, value=value, relation=relation, limit=limit, meaning=meaning, satisfied=satisfied)

    @property
    def reason(self) -> str:
        """Why it fails, in a line."""
        found = "no number" if self.value is None else f"{self.value:.3g}"
        return f"{self.name}: {found} is not {self.relation} {self.limit:.3g} ({self.meaning})"


class DesignVerdict(Entry):
    """Of the design: finite elements, CAD, constraints and first-order conditions; nothing of the surrogate in it."""

    accepted: bool
    verdict: str
    """In a sentence."""
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    """Checks and constraints that fail; empty where none does."""


class ModelVerdict(Entry):
    """Of the surrogate that searched, against finite elements at the optimum."""

    by: Literal["surrogate", "operator"]
    decisive: bool
    """Whether the design is accepted only if this is: where no finite elements were in the loop of the search."""
    accepted: bool
    verdict: str
    """In a sentence."""
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]


class Limit(Entry):
    """A limit of the study beside its default."""

    key: str
    """Of the study file."""
    name: str
    """Check or constraint that it is the limit of."""
    value: float
    default: float
    relation: Literal["<=", ">="]
    looser: bool
    """Whether it lets through what the default does not."""
    decisive: bool
    """Whether the verdict on the whole depends on it."""
