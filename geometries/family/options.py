"""Checks of the options that a family is built with: a fault names the option, what was found and what is allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from shapewright.geometries.family.parts import LARGEST, FamilyError

MOST_POINTS = 100_000
"""Control points of a family at most; long before, its matrices are too large (:mod:`family.effort`)."""

SMALLEST = 1e-30
"""Smallest size of a number other than zero, whose square and cube do not vanish."""


def numbers(family: str, **options: object) -> None:
    """Refuse options that are no finite numbers.

    Raises:
        FamilyError: names the first.
    """
    for name, value in options.items():
        size = _size(value)
        if not (size == 0 or SMALLEST <= size <= LARGEST):
            raise FamilyError(
                f"{family}: option {name} is {_shown(value)}; allowed is a finite number,"
                f" zero or of size {SMALLEST:g} to {LARGEST:g}"
            )


def whole_numbers(family: str, **options: object) -> None:
    """Refuse options that are no whole numbers, or larger than :data:`MOST_POINTS`.

    Raises:
        FamilyError: names the first.
    """
    for name, value in options.items():
        if not isinstance(value, Integral) or not _size(value) <= MOST_POINTS:
            raise FamilyError(
                f"{family}: option {name} is {_shown(value)}; allowed is a whole number, {MOST_POINTS} at most"
            )


def _size(value: object) -> Any:
    """|value| of any real number; NaN of anything else, truth values included."""
    return abs(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def pair(family: str, name: str, value: object) -> tuple[float, float]:
    """Two finite numbers from an option that is a list of them.

    Raises:
        FamilyError: it is something else.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise FamilyError(f"{family}: option {name} is {_shown(value)}; allowed is a list of two numbers [x, y]")
    numbers(family, **{f"{name}[{k}]": entry for k, entry in enumerate(value)})
    return float(value[0]), float(value[1])


def truth(family: str, **options: object) -> None:
    """Refuse options that are neither true nor false.

    Raises:
        FamilyError: names the first.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            raise FamilyError(f"{family}: option {name} is {_shown(value)}; allowed is true or false")


def _shown(value: object) -> str:
    """The value, cut short: a whole number may have thousands of digits."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"a whole number of {len(str(abs(value))) if abs(value) < 10**4000 else 'more than 4000'} digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
