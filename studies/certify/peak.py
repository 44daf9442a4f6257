"""The true maximum behind a smooth one, with its bounds by the smooth one."""

from __future__ import annotations

import numpy as np

from shapewright.geometries.fields.problem import Functional
from shapewright.geometries.fields.sampled import Profile
from shapewright.solvers.fem.load_cases import CaseSolution
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.certify.model import Peak

LEAST_SHOWN = 360
"""Points of a profile that are kept, at most about twice as many."""
LONGER = 1.05
"""Largest length of the polygon through a profile's points by angle, relative to the boundary."""


def describe_peak(functional: Functional, solution: FemSolution | CaseSolution) -> Peak | None:
    """The true maximum on a mesh behind a smooth one, None of other functionals.

    ``at_least`` and ``at_most`` bound the maximum by the functional's value alone: the first by the measure of the
    region, the second by the largest slope of the quantity along a boundary. None where no bound is known.
    ``profile`` holds the quantity around a boundary: angle about its middle in degrees, and value.
    """
    if functional.maximum_of is None:
        return None
    profile = solution.profile(functional.maximum_of, functional.on)
    least = largest = None
    if functional.bounds is not None:
        measure = float(profile.weights.sum())
        least, largest = functional.bounds(solution.values[functional.name], measure, profile.slope)
    return Peak(
        on=functional.on,
        maximum=profile.maximum,
        minimum=profile.minimum,
        mean=profile.mean,
        flatness=profile.flatness,
        point=tuple(profile.point_of_maximum.tolist()),
        at_least=least,
        at_most=largest,
        profile=None if functional.on is None else _around(profile),
    )


def _around(profile: Profile) -> tuple[tuple[float, float], ...] | None:
    """(angle in degrees, value) about the middle of a boundary, by angle; None if it is not once around that."""
    x, y = (profile.points - profile.weights @ profile.points / profile.weights.sum()).T
    angle = np.degrees(np.arctan2(y, x)) % 360
    order = np.argsort(angle)
    steps = np.diff(profile.points[order], axis=0, append=profile.points[order[:1]])
    if np.linalg.norm(steps, axis=1).sum() > LONGER * profile.weights.sum():
        return None
    order = order[:: max(1, len(order) // LEAST_SHOWN)]
    pairs = zip(angle[order].tolist(), profile.values[order].tolist(), strict=True)
    return tuple((float(f"{where:.7g}"), float(f"{value:.7g}")) for where, value in pairs)
