"""A cheap model corrected so that at a centre it has the expensive model's values and gradients.

The correction is additive: ``m(z) = s(z) + e(z)``, with ``e`` an estimate of the difference between the models that is
exact to first order at the centre, which makes ``m`` first-order consistent in the sense of N. M. Alexandrov,
R. M. Lewis, Optim. Eng. 2 (2001) 413. Beyond the centre ``e`` interpolates the differences and their gradients at all
designs where the expensive model is known (gradient-enhanced kriging: A. March, K. Willcox, AIAA J. 50 (2012) 1079, for
the error of a cheap model; A. Forrester, A. Keane, Prog. Aerosp. Sci. 45 (2009) 50, for the gradients), so that the
curvature which the cheap model gets wrong is learnt from steps already paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]
Evaluate = Callable[[Array], tuple[Array, Array]]
"""(P,) scaled parameters to (F,) values and their (F, P) Jacobian."""

LENGTH, NUGGET = 0.4, 1e-10
"""Correlation length of the difference, in parameters scaled to [0, 1]; ridge that bears designs close together."""


@dataclass(frozen=True)
class Difference:
    """Expensive less cheap model at one design: z (P,), values (F,), gradients (F, P)."""

    z: Array
    values: Array
    gradients: Array


@dataclass(frozen=True)
class Corrected:
    """The cheap model plus the estimated difference.

    Attributes:
        cheap: F functionals.
        centre: where the difference is exact to first order.
        points: (n, P) designs of the interpolation; none for the linear correction alone.
        weights, slopes: (F, n) and (F, n, P) of the kernel and of its derivatives at them.
        offset, tilt: (F,) and (F, P) of what the interpolation leaves at the centre.
    """

    cheap: Evaluate
    centre: Array
    points: Array
    weights: Array
    slopes: Array
    offset: Array
    tilt: Array

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """(F,) values and (F, P) Jacobian at z (P,)."""
        values, jacobian = self.cheap(z)
        more, steeper = _interpolate(z, self.points, self.weights, self.slopes)
        return values + more + self.offset + self.tilt @ (z - self.centre), jacobian + steeper + self.tilt


def corrected(cheap: Evaluate, centre: Difference, others: Sequence[Difference] = ()) -> Corrected:
    """The cheap model corrected at ``centre``, with what is known of the difference at ``others``."""
    known = [centre, *others] if others else []
    functionals, parameters = centre.gradients.shape
    points = np.stack([d.z for d in known]) if known else np.zeros((0, parameters))
    count = len(points)
    right = np.zeros((count * (1 + parameters), functionals))
    for index, difference in enumerate(known):
        right[index] = difference.values - centre.values
        rows = slice(count + index * parameters, count + (index + 1) * parameters)
        right[rows] = LENGTH * difference.gradients.T
    found = _solve(points, right).T
    weights, slopes = found[:, :count], LENGTH * found[:, count:].reshape(functionals, count, parameters)
    value, slope = _interpolate(centre.z, points, weights, slopes)
    return Corrected(cheap, centre.z, points, weights, slopes, centre.values - value, centre.gradients - slope)


def _solve(points: Array, right: Array) -> Array:
    """Weights of the Gaussian kernel and of its derivatives by the second argument, in units of LENGTH."""
    count, parameters = points.shape
    if count == 0:
        return right
    apart = (points[:, None] - points[None]) / LENGTH
    kernel = np.exp(-0.5 * (apart**2).sum(-1))
    first = (apart * kernel[..., None]).reshape(count, count * parameters)
    second = (np.eye(parameters) - apart[..., :, None] * apart[..., None, :]) * kernel[..., None, None]
    lower = second.transpose(0, 2, 1, 3).reshape(count * parameters, count * parameters)
    matrix = np.block([[kernel, first], [first.T, lower]])
    return cho_solve(cho_factor(matrix + NUGGET * np.eye(len(matrix)), lower=True), right)


def _interpolate(z: Array, points: Array, weights: Array, slopes: Array) -> tuple[Array, Array]:
    """(F,) values and (F, P) gradients at z of the kernels at (n, P) points."""
    apart = (z - points) / LENGTH
    kernel = np.exp(-0.5 * (apart**2).sum(-1))
    terms = (weights + (slopes * apart).sum(-1) / LENGTH) * kernel
    return terms.sum(-1), (np.einsum("fnp,n->fp", slopes, kernel) / LENGTH - terms @ apart) / LENGTH
