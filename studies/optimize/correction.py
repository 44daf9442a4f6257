"""A cheap model corrected so that at a centre it has the expensive model's values and gradients.

The correction is additive: ``m(z) = s(z) + e(z)``, with ``e`` an estimate of the difference between the models that is
exact to first order at the centre, which makes ``m`` first-order consistent in the sense of N. M. Alexandrov,
R. M. Lewis, Optim. Eng. 2 (2001) 413. Beyond the centre ``e`` interpolates the differences and their gradients at all
designs where the expensive model is known (gradient-enhanced kriging: A. March, K. Willcox, AIAA J. 50 (2012) 1079, for
the error of a cheap model; A. Forrester, A. Keane, Prog. Aerosp. Sci. 45 (2009) 50, for the gradients), so that the
curvature which the cheap model gets wrong is learnt from steps already paid for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]
Evaluate = Callable[[Array], tuple[Array, Array]]
"""(P,) scaled parameters to (F,) values and their (F, P) Jacobian."""
Cheap = Callable[[Array], tuple[Array | float, Array | float]]
"""The same of a model that may be one number everywhere, such as zero."""

LENGTH, NUGGET = 0.4, 1e-9
"""Correlation length of the difference, in parameters scaled to [0, 1]; ridge that bears designs close together, whose
large weights would otherwise cancel to within rounding."""


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
        weights, slopes: (F, n) and (F, n, P) of the kernel and of its derivatives at them, in units of the length.
        length: of the kernel.
        offset, tilt: (F,) and (F, P) of what the interpolation leaves at the centre.
    """

    cheap: Cheap
    centre: Array
    points: Array
    weights: Array
    slopes: Array
    length: float
    offset: Array
    tilt: Array

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """(F,) values and (F, P) Jacobian at z (P,)."""
        values, jacobian = self.cheap(z)
        more, steeper = _interpolate(z, self.points, self.weights, self.slopes, self.length)
        return values + more + self.offset + self.tilt @ (z - self.centre), jacobian + steeper + self.tilt


def corrected(
    cheap: Cheap, centre: Difference, others: Sequence[Difference] = (), lengths: Sequence[float] = (LENGTH,)
) -> Corrected:
    """The cheap model corrected at ``centre``, with what is known of the difference at ``others``.

    Of several correlation lengths the most likely one is taken, each with the variance that suits it best (C. E.
    Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), section 5.4).
    """
    known = [centre, *others] if others else []
    functionals, parameters = centre.gradients.shape
    points = np.array([d.z for d in known]).reshape(-1, parameters)
    values = np.array([d.values - centre.values for d in known]).reshape(-1, functionals)
    gradients = np.array([d.gradients.T for d in known]).reshape(-1, functionals)
    fits = [_fit(points, values, gradients, length) for length in (lengths if known else lengths[-1:])]
    length, found, _ = min(fits, key=lambda fit: fit[2] if math.isfinite(fit[2]) else math.inf)
    weights, slopes = found[:, : len(points)], found[:, len(points) :].reshape(functionals, *points.shape)
    value, slope = _interpolate(centre.z, points, weights, slopes, length)
    return Corrected(cheap, centre.z, points, weights, slopes, length, centre.values - value, centre.gradients - slope)


def _fit(points: Array, values: Array, gradients: Array, length: float) -> tuple[float, Array, float]:
    """How well a length suits the (n, F) values and (n P, F) gradients at (n, P) points.

    Returns:
        the length; weights (F, n + n P) of the Gaussian kernel and of its derivatives by the second argument, in units
        of the length; and minus the logarithm of the data's likelihood, but for a constant.
    """
    count, parameters = points.shape
    right = np.concatenate([values, length * gradients])
    if count == 0:
        return length, right.T, 0.0
    apart = (points[:, None] - points[None]) / length
    kernel = np.exp(-0.5 * (apart**2).sum(-1))
    first = (apart * kernel[..., None]).reshape(count, count * parameters)
    second = (np.eye(parameters) - apart[..., :, None] * apart[..., None, :]) * kernel[..., None, None]
    lower = second.transpose(0, 2, 1, 3).reshape(count * parameters, count * parameters)
    matrix = np.block([[kernel, first], [first.T, lower]])
    factor, _ = cho_factor(matrix + NUGGET * np.eye(len(matrix)), lower=True)
    found = cho_solve((factor, True), right)
    variance = np.maximum((right * found).mean(0), 1e-300)
    units = count * parameters * np.log(length)  # the data are the gradients themselves
    unlikely = 0.5 * len(right) * np.log(variance).mean() + np.log(np.diag(factor)).sum() - units
    return length, found.T, float(unlikely)


def _interpolate(z: Array, points: Array, weights: Array, slopes: Array, length: float) -> tuple[Array, Array]:
    """(F,) values and (F, P) gradients at z of the kernels at (n, P) points."""
    apart = (z - points) / length
    kernel = np.exp(-0.5 * (apart**2).sum(-1))
    terms = (weights + (slopes * apart).sum(-1)) * kernel
    return terms.sum(-1), (np.einsum("fnp,n->fp", slopes, kernel) - terms @ apart) / length
