"""Numbers and units as a person reads them: sensible digits, true minus signs, powers raised."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shapewright.studies.certify.model import Cases

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOTHING = "–"


def number(value: float | None, digits: int = 4) -> str:
    """``value`` to so many significant digits; powers of ten where it is very large or very small."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < max(digits, 6):
        text = f"{value:.{max(0, digits - 1 - power)}f}"
    else:
        text = f"{mantissa}×10{str(power).translate(SUPERSCRIPTS)}"
    return text.replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """:func:`number` with its sign always written."""
    return f"+{number(value, digits)}" if value is not None and value > 0 else number(value, digits)


def limit(value: float) -> str:
    """A limit that a person chose: no more digits than it has."""
    mantissa = f"{value:.6g}".split("e")[0].strip("-").replace(".", "").strip("0")
    return number(value, max(1, len(mantissa)))


def percent(value: float | None, digits: int = 2) -> str:
    """A ratio in percent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{number(100 * value, digits)} %"


def unit(text: str) -> str:
    """``m^2`` as m²; the unit one is left out."""
    return "" if text == "1" else re.sub(r"\^(-?\d+)", lambda m: m[1].translate(SUPERSCRIPTS), text).replace(" ", "·")


def with_unit(text: str, name: str) -> str:
    """A written number with its unit, if it has one."""
    return f"{text}\u00a0{unit(name)}" if unit(name) and text != NOTHING else text


def digits_for(relative_error: float | None, least: int = 4, most: int = 7) -> int:
    """Significant digits of a value known to ``relative_error``: one more than are certain."""
    if relative_error is None or not math.isfinite(relative_error) or relative_error <= 0:
        return most
    return min(most, max(least, math.ceil(-math.log10(relative_error)) + 1))


def digits_to_show(value: float | None, miss: float | None, least: int = 6, most: int = 10) -> int:
    """Significant digits of a value at which ``miss``, a difference from another one, is seen with two of its own."""
    if not value or not miss or not math.isfinite(value) or not math.isfinite(miss):
        return least
    return min(most, max(least, math.ceil(math.log10(abs(value / miss))) + 2))


def seconds(value: float) -> str:
    """A duration."""
    if value < 100:
        return f"{number(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def words(name: str) -> str:
    """A name of the study file as words."""
    return name.replace("_", " ")


def capital(text: str) -> str:
    """With its first letter upper case; the rest, such as FEM, stays."""
    return text[:1].upper() + text[1:]


def worst_of_cases(cases: Cases, sense: str) -> str:
    """The true worst load case beside the smooth one, in a sentence; empty where the objective is a sum."""
    worst = cases.worst
    if worst is None:
        return ""
    what, beside = ("maximum", "below") if sense == "minimize" else ("minimum", "above")
    return (
        f"The worst case is {worst.case}: the true {what} is {number(worst.value, 6)}, the smooth one that was"
        f" sought lies {number(worst.smooth_off, 3)} {beside} it (at most"
        f" {number(worst.smooth_off_at_most, 3)} by its sharpness, {number(worst.sharpness, 3)})."
    )
