"""Closed outlines of B-splines and lines, and where the regions of the boundary begin along them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.family.spline import Curve

Array = NDArray[np.float64]
LINE = Curve("boundary", 2, degree=1)
CUBIC = Curve("boundary", 4)
LEAST_ARC = 0.1
"""Share of a smooth loop's parameter that one of its regions takes at least."""


@dataclass(frozen=True)
class Loop:
    """A closed outline.

    Attributes:
        curves: the pieces in order.
        points: (n, 2) control points of all of them, in order; the last of an open piece is the first of the next.
        cuts: ascending positions at which a region begins, k + t / spans for the parameter t of piece k; the loop is
            one region if there are none.
    """

    curves: tuple[Curve, ...]
    points: Array
    cuts: tuple[float, ...] = ()

    @property
    def regions(self) -> int:
        """Number of boundary regions."""
        return max(len(self.cuts), 1)

    def moved(self, matrix: Array, shift: Array) -> Loop:
        """The image under x -> matrix x + shift for a (2, 2) matrix and a (2,) shift."""
        return Loop(self.curves, self.points @ matrix.T + shift, self.cuts)

    def sampled(self, on_line: int, on_span: int) -> tuple[Array, NDArray[np.int64]]:
        """Points (S, 2) in order along the loop, on every line and every span of a spline, and the region of each."""
        points, positions, start = [], [], 0
        for index, curve in enumerate(self.curves):
            own = self.points[start : start + curve.count]
            start += curve.count
            count = on_line if curve.degree == 1 else on_span * curve.spans
            share = np.arange(count) / count
            points.append(curve.basis(share * curve.spans) @ own)
            positions.append(index + share)
        regions = np.searchsorted(self.cuts, np.concatenate(positions), side="right") - 1
        return np.concatenate(points), regions % self.regions


def control_loop(points: Array, cuts: tuple[float, ...] = ()) -> Loop:
    """The periodic cubic B-spline of control points (n, 2)."""
    return Loop((Curve("boundary", len(points), periodic=True),), points, cuts)


def loop_through(points: Array, cuts: tuple[float, ...] = ()) -> Loop:
    """The periodic cubic B-spline that interpolates points (n, 2)."""
    curve = Curve("boundary", len(points), periodic=True)
    return Loop((curve,), np.linalg.solve(curve.basis(np.arange(float(len(points)))), points), cuts)


def joined(pieces: list[Array]) -> Loop:
    """Lines (2, 2) and clamped cubics of control points (n, 2), n > 3, end to end; each a region of its own."""
    curves = tuple(LINE if len(piece) == 2 else Curve("boundary", len(piece)) for piece in pieces)
    return Loop(curves, np.concatenate(pieces), tuple(float(k) for k in range(len(pieces))))


def polygon(corners: Array, roundings: Array) -> Loop:
    """A polygon with its corners (m, 2) rounded; every side is a region, which ends in the middle of the rounding.

    Args:
        corners: in order.
        roundings: (m,) distance from each corner at which its arc begins; a corner with 0 stays sharp. An arc is the
            cubic whose handles are those of a circle's, 4/3 tan(angle / 4) radii long.
    """
    sides = np.roll(corners, -1, 0) - corners
    along = sides / np.linalg.norm(sides, axis=1, keepdims=True)
    curves, points, cuts = [], [], []
    for k, (corner, cut) in enumerate(zip(corners, roundings, strict=True)):
        before, after = along[k - 1], along[k]
        if cut > 0:
            turn = math.acos(np.clip(before @ after, -1, 1))
            handle = 4 / 3 * math.tan(turn / 4) * cut / math.tan(turn / 2)
            first, last = corner - cut * before, corner + cut * after
            points += [first, first + handle * before, last - handle * after, last]
            curves.append(CUBIC)
        cuts.append(len(curves) - (0.5 if cut > 0 else 0.0))
        following = (k + 1) % len(corners)
        points += [corner + cut * after, corners[following] - roundings[following] * after]
        curves.append(LINE)
    return Loop(tuple(curves), np.stack(points), tuple(cuts))


def random_cuts(generator: np.random.Generator, least: int = 2, most: int = 5) -> tuple[float, ...]:
    """Ends of ``least`` to ``most`` arcs of a loop of one curve; each has a tenth of it or more."""
    count = int(generator.integers(least, most + 1))
    shares = LEAST_ARC + (1 - count * LEAST_ARC) * generator.dirichlet(np.ones(count))
    return tuple(np.sort((generator.random() + np.cumsum(shares)) % 1).tolist())
