"""Quadrature in the reference simplices."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import roots_jacobi

from shapewright.geometries.mesh.simplex import Array


@lru_cache  # asked for at every call of a model; the arrays are shared, and nobody writes into them
def gauss_quadrature(dimension: int, points_per_side: int = 3) -> tuple[Array, Array]:
    """Points (n^d, d) and weights (n^d,) of the reference simplex, exact to degree 2 n - 1 for n points a side.

    The product of Gauss-Jacobi rules collapsed to the simplex; the weights are positive and sum to 1/d!.
    A. H. Stroud, *Approximate Calculation of Multiple Integrals* (1971), section 2.4; G. E. Karniadakis, S. Sherwin,
    *Spectral/hp Element Methods*, 2nd ed., section 4.1.1.
    """
    a, weight_a = np.polynomial.legendre.leggauss(points_per_side)
    points, weights = ((1 + a) / 2)[:, None], weight_a / 2
    for power in range(1, dimension):
        b, weight_b = roots_jacobi(points_per_side, float(power), 0.0)
        shrunk = points[:, None, :] * ((1 - b) / 2)[None, :, None]
        last = np.broadcast_to(((1 + b) / 2)[None, :, None], (*shrunk.shape[:2], 1))
        points = np.concatenate([shrunk, last], -1).reshape(-1, power + 1)
        weights = np.outer(weights, weight_b).ravel() / 2 ** (power + 1)
    return points, weights


def random_triangle_quadrature(generator: np.random.Generator, pairs: int = 1) -> tuple[Array, Array]:
    """A rule in the triangle, exact to degree 2 with positive weights, but at random points, 6 a pair.

    A pair is two random points with their images under the three rotations of the triangle. Means over such an orbit
    are exact for linear functions, and miss those of quadratic ones in proportion to S - 1/2 with S the sum of squares
    of the barycentric coordinates; two orbits on either side of 1/2 are weighed so that this cancels.
    """
    points, weights = [], []
    for _ in range(pairs):
        drawn = generator.dirichlet((1.0, 1.0, 1.0), 64)
        size = (drawn**2).sum(1)
        inner, outer = drawn[size < 0.5][0], drawn[size > 0.5][0]
        low, high = (inner**2).sum(), (outer**2).sum()
        share = (high - 0.5) / (high - low)
        for orbit, weight in ((inner, share), (outer, 1 - share)):
            points += [np.roll(orbit, turn)[:2] for turn in range(3)]
            weights += 3 * [weight / (6 * pairs)]
    return np.stack(points), np.array(weights)
