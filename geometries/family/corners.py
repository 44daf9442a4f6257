"""Corners of a boundary loop: where one curve ends and the next begins in another direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.family.spline import Curve

SMOOTH = math.radians(1.0)
"""A loop that turns by less than this at a joint is taken to be smooth there."""


@dataclass(frozen=True)
class Corner:
    """A corner at ``point``, with the angle inside the loop in degrees: below 180 where it is convex."""

    point: tuple[float, float]
    angle: float


def corners(curves: Sequence[Curve], control_points: NDArray[np.float64]) -> list[Corner]:
    """Corners of a counter-clockwise loop of curves with control points (n, 2), in their order.

    A clamped curve leaves its end points along its control polygon (L. Piegl, W. Tiller, *The NURBS Book* (1997),
    section 3.2), and a periodic one is smooth.
    """
    starts = np.cumsum([0, *(curve.count for curve in curves)])
    pieces = [control_points[a:b] for a, b in pairwise(starts)]
    found = []
    for index, curve in enumerate(curves):
        if curve.periodic:
            continue
        after = pieces[(index + 1) % len(pieces)]
        (ax, ay), (bx, by) = pieces[index][-1] - pieces[index][-2], after[1] - after[0]
        turn = math.atan2(ax * by - ay * bx, ax * bx + ay * by)
        if abs(turn) > SMOOTH:
            point = pieces[index][-1]
            found.append(Corner((float(point[0]), float(point[1])), 180.0 - math.degrees(turn)))
    return found
