"""Geometry families: named parameters and the boundary curves that they move."""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.geometries.family.checks import fault
from shapewright.geometries.family.parts import FamilyError, FamilyParts


@dataclass(frozen=True)
class Family(FamilyParts):
    """A parametric planar domain bounded by B-spline loops; checked when it is made.

    Raises:
        FamilyError: says what is wrong with it.
    """

    def __post_init__(self) -> None:
        found = fault(self)
        if found:
            raise FamilyError(f"family '{self.name}': {found}")
