"""Curves and surfaces of degree 5 through images of given ones, refined until they are within a tolerance.

A curve (one axis) or surface (two) is interpolated at the Greville points of its knots. Between them the images are
compared with it, along each axis for itself; spans with a larger error are halved. All fits ask for their points
together, so that a map that is fast for many points is called a few times only.
C. de Boor, *A Practical Guide to Splines* (2001), chapters 9, 13 and 17.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline

from shapewright.geometries.mesh.simplex import Array

DEGREE = 5
MOST_SPANS = 200
"""Largest number of spans along an axis."""
BETWEEN = np.array([0.15, 0.5, 0.85])
"""Where in a span the error is looked for."""

Map = Callable[[Array], Array]
"""Images (n, 3) of points (n, 3)."""


class FitError(RuntimeError):
    """A curve or surface that would need more spans than are allowed."""


@dataclass(frozen=True)
class Axis:
    """Knots along one parameter.

    Attributes:
        breaks: ends of the spans, ascending.
        multiplicities: of the inner ones of them.
    """

    breaks: tuple[float, ...]
    multiplicities: tuple[int, ...]

    @property
    def knots(self) -> Array:
        """Clamped knot vector with repetitions."""
        ends = DEGREE + 1
        return np.repeat(self.breaks, [ends, *self.multiplicities, ends])

    @property
    def greville(self) -> Array:
        """Interpolation points: means of DEGREE successive knots; the first and the last are the ends exactly."""
        knots = self.knots
        found = np.array([knots[i + 1 : i + DEGREE + 1].mean() for i in range(len(knots) - DEGREE - 1)])
        found[[0, -1]] = self.breaks[0], self.breaks[-1]
        return found

    @property
    def between(self) -> Array:
        """(3 spans,) points between the knots."""
        return np.concatenate([a + BETWEEN * (b - a) for a, b in pairwise(self.breaks)])

    def spans_of(self, parameters: Array) -> NDArray[np.int64]:
        """Index of the span that holds each parameter."""
        return np.clip(np.searchsorted(self.breaks, parameters, side="right") - 1, 0, len(self.breaks) - 2)

    def halved(self, spans: set[int]) -> Axis:
        """The axis with a new simple knot in the middle of these spans."""
        breaks, multiplicities = [self.breaks[0]], []
        for index, (a, b) in enumerate(pairwise(self.breaks)):
            if index in spans:
                breaks.append((a + b) / 2)
                multiplicities.append(1)
            breaks.append(b)
            multiplicities += [self.multiplicities[index]] if index < len(self.multiplicities) else []
        return Axis(tuple(breaks), tuple(multiplicities))

    def matrix(self, parameters: Array) -> Array:
        """(n, poles) basis functions; parameters outside are taken to the ends."""
        inside = np.clip(parameters, self.breaks[0], self.breaks[-1])
        return BSpline.design_matrix(inside, self.knots, DEGREE).toarray()


@dataclass
class Fit:
    """One curve or surface on its way.

    Attributes:
        name: for messages.
        axes: one or two.
        evaluate: points (m, 3) of the original at parameters (m, axes).
        tolerance: largest error.
        samples: (m, axes) parameters at which it is compared besides, as along trimming curves.
        poles: (n_1[, n_2], 3) the result.
        error: largest error found.
        done: whether it is within the tolerance.
    """

    name: str
    axes: tuple[Axis, ...]
    evaluate: Callable[[Array], Array]
    tolerance: float
    samples: Array
    poles: Array = field(default_factory=lambda: np.zeros(0))
    error: float = np.inf
    done: bool = False
    sample_points: Array | None = None

    def grids(self) -> list[tuple[Array, ...]]:
        """Parameters of the grids of one round: for interpolation, for the error along each axis, and between all."""
        at, between = [axis.greville for axis in self.axes], [axis.between for axis in self.axes]
        along = [tuple(between[k] if k == axis else at[k] for k in range(len(at))) for axis in range(len(at))]
        return [tuple(at), *along, *([tuple(between)] if len(at) > 1 else [])]

    def points(self) -> Array:
        """(n, 3) points of the original that the map is needed at in this round."""
        if self.sample_points is None:
            self.sample_points = self.evaluate(self.samples)
        grids = [np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, len(grid)) for grid in self.grids()]
        return np.concatenate([self.evaluate(np.concatenate(grids)), self.sample_points])

    def update(self, images: Array) -> None:
        """Interpolate, compare, and halve the spans whose error is too large.

        Raises:
            FitError: there are too many spans.
        """
        grids = self.grids()
        sizes = [int(np.prod([len(axis) for axis in grid])) for grid in grids]
        *parts, of_samples = np.split(images, np.cumsum(sizes))
        shaped = [part.reshape(*map(len, grid), 3) for part, grid in zip(parts, grids, strict=True)]
        self.poles = _interpolate(self.axes, grids[0], shaped[0])
        count = len(self.axes)
        gaps = [np.linalg.norm(self.at_grid(grid) - own, axis=-1) for grid, own in zip(grids, shaped, strict=True)]
        split: list[set[int]] = []
        for axis in range(count):
            worst = gaps[1 + axis].max(axis=tuple(k for k in range(count) if k != axis))
            split.append(set((np.nonzero(worst.reshape(-1, len(BETWEEN)).max(1) > self.tolerance)[0]).tolist()))
        beside = np.linalg.norm(self.at(self.samples) - of_samples, axis=-1)
        self.error = float(max([gap.max() for gap in gaps] + ([beside.max()] if len(beside) else [])))
        self.done = self.error <= self.tolerance
        if self.done:
            return
        if not any(split):  # along the axes it is good enough, but not between
            self._split_at(split, grids[-1], gaps[-1], beside)
        axes = tuple(axis.halved(spans) for axis, spans in zip(self.axes, split, strict=True))
        if max(len(axis.breaks) for axis in axes) > MOST_SPANS + 1:
            raise FitError(
                f"{self.name} would need more than {MOST_SPANS} spans of a B-spline: the error is {self.error:.2g},"
                f" allowed is {self.tolerance:.2g} (wider zones around the faces that stay need fewer)"
            )
        self.axes = axes

    def _split_at(self, split: list[set[int]], grid: tuple[Array, ...], gap: Array, beside: Array) -> None:
        for axis, spans in enumerate(split):
            index = np.nonzero(gap > self.tolerance)[axis]
            spans |= set(self.axes[axis].spans_of(grid[axis][index]).tolist())
            spans |= set(self.axes[axis].spans_of(self.samples[beside > self.tolerance, axis]).tolist())

    def at_grid(self, grid: tuple[Array, ...]) -> Array:
        """(n_1[, n_2], 3) points of the result at a parameter grid."""
        value = self.poles
        for index, (axis, parameters) in enumerate(zip(self.axes, grid, strict=True)):
            value = np.moveaxis(np.tensordot(axis.matrix(parameters), value, (1, index)), 0, index)
        return value

    def at(self, parameters: Array) -> Array:
        """(m, 3) points of the result at parameters (m, axes)."""
        if not len(parameters):
            return np.zeros((0, 3))
        value = np.tensordot(self.axes[0].matrix(parameters[:, 0]), self.poles, (1, 0))
        if len(self.axes) == 1:
            return value
        return np.einsum("mj,mjk->mk", self.axes[1].matrix(parameters[:, 1]), value)


def _interpolate(axes: Sequence[Axis], grid: Sequence[Array], values: Array) -> Array:
    for index, (axis, parameters) in enumerate(zip(axes, grid, strict=True)):
        spline = make_interp_spline(parameters, values, k=DEGREE, t=axis.knots, axis=index)
        values = np.moveaxis(spline.c, 0, index)
    return values


def fit_all(fits: Sequence[Fit], move: Map) -> None:
    """Take all fits to their tolerance, with one call of the map for all that are not there yet.

    Raises:
        FitError: see :meth:`Fit.update`.
    """
    left = [fit for fit in fits if not fit.done]
    while left:
        asked = [fit.points() for fit in left]
        images = np.split(move(np.concatenate(asked)), np.cumsum([len(points) for points in asked])[:-1])
        for fit, image in zip(left, images, strict=True):
            fit.update(image)
        left = [fit for fit in left if not fit.done]
