"""Geometry families: named parameters and the boundary curves that they move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shapewright.geometries.family.checks import fault
from shapewright.geometries.family.parts import FamilyError, FamilyParts


@dataclass(frozen=True)
class Family(FamilyParts):
    """A parametric planar domain bounded by B-spline loops; checked when it is made.

    Attributes:
        origin: name and options of a shipped family as it is made; None of all others, changed copies included.

    Raises:
        FamilyError: says what is wrong with it.
    """

    origin: tuple[str, Mapping[str, Any]] | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = fault(self)
        if found:
            raise FamilyError(f"family '{self.name}': {found}")
