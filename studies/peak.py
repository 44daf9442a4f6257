"""The true maximum behind a smooth one, with what the smooth one says of it."""

from __future__ import annotations

from typing import Any

from solvers.fem import FemSolution
from solvers.problem import Functional


def describe_peak(functional: Functional, solution: FemSolution) -> dict[str, Any] | None:
    """What the certificate says of a smooth maximum on the finest mesh; None of a functional that is none.

    ``at_least`` and ``at_most`` bound the maximum by the functional's value alone: the first by the measure of the
    region, the second by the largest slope that the quantity shows along a boundary. None where no bound is known.
    """
    if functional.maximum_of is None:
        return None
    profile = solution.profile(functional.maximum_of, functional.on)
    least = largest = None
    if functional.bounds is not None:
        measure = float(profile.weights.sum())
        least, largest = functional.bounds(solution.values[functional.name], measure, profile.slope)
    return {
        "on": functional.on,
        "maximum": profile.maximum,
        "minimum": profile.minimum,
        "mean": profile.mean,
        "flatness": profile.flatness,
        "place": profile.place_of_maximum.tolist(),
        "at_least": least,
        "at_most": largest,
    }
