"""The isoparametric 6-node triangle and 3-node edge: shape functions and quadrature, in reference coordinates.

Node order: vertices (0,0), (1,0), (0,1), then the middles of the edges 0-1, 1-2, 2-0.
Formulas: O. C. Zienkiewicz, R. L. Taylor, *The Finite Element Method*, 5th ed., volume 1, chapter 8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_jacobi

Array = NDArray[np.float64]

NODES: Array = np.array([[0, 0], [1, 0], [0, 1], [0.5, 0], [0.5, 0.5], [0, 0.5]], dtype=float)

VERTICES = NODES[:3]

# The four straight triangles into which a 6-node triangle divides, by local node.
SUBTRIANGLES = np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]])


def shape_functions(points: Array) -> Array:
    """(Q, 6) values at reference points (Q, 2)."""
    xi, eta = points[:, 0], points[:, 1]
    zeta = 1 - xi - eta
    vertices = [zeta * (2 * zeta - 1), xi * (2 * xi - 1), eta * (2 * eta - 1)]
    return np.stack([*vertices, 4 * zeta * xi, 4 * xi * eta, 4 * eta * zeta], -1)


def shape_gradients(points: Array) -> Array:
    """(Q, 6, 2) derivatives with respect to the reference coordinates."""
    xi, eta = points[:, 0], points[:, 1]
    zeta, zero = 1 - xi - eta, np.zeros_like(xi)
    d_xi = [1 - 4 * zeta, 4 * xi - 1, zero, 4 * (zeta - xi), 4 * eta, -4 * eta]
    d_eta = [1 - 4 * zeta, zero, 4 * eta - 1, -4 * xi, 4 * xi, 4 * (zeta - eta)]
    return np.stack([np.stack(d_xi, -1), np.stack(d_eta, -1)], -1)


def triangle_quadrature(points_per_side: int = 3) -> tuple[Array, Array]:
    """Points (Q, 2) and weights (Q,), summing to 1/2: collapsed Gauss-Jacobi, exact to degree 2 n - 1.

    G. E. Karniadakis, S. Sherwin, *Spectral/hp Element Methods*, 2nd ed., section 4.1.1.
    """
    a, weight_a = np.polynomial.legendre.leggauss(points_per_side)
    b, weight_b = roots_jacobi(points_per_side, 1.0, 0.0)
    xi = 0.25 * np.outer(1 + a, 1 - b)
    eta = np.broadcast_to((1 + b) / 2, xi.shape)
    return np.stack([xi.ravel(), eta.ravel()], -1), np.outer(weight_a, weight_b).ravel() / 8

def random_triangle_quadrature(generator: np.random.Generator, pairs: int = 1) -> tuple[Array, Array]:
    """As :func:`triangle_quadrature`, exact to degree 2 with positive weights, but at random points, 6 a pair.

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


def edge_shape_functions(s: Array) -> Array:
    """(Q, 3) values of the 3-node edge (first, second, middle) at s in [0, 1]."""
    return np.stack([(1 - s) * (1 - 2 * s), s * (2 * s - 1), 4 * s * (1 - s)], -1)


def edge_shape_slopes(s: Array) -> Array:
    """(Q, 3) derivatives with respect to s."""
    return np.stack([4 * s - 3, 4 * s - 1, 4 - 8 * s], -1)


def hat_functions(points: Array) -> Array:
    """(Q, 6) piecewise linear partition of unity on the four subtriangles: nodal weights that stay positive."""
    values = np.zeros((len(points), 6))
    for triangle in SUBTRIANGLES:
        a, b, c = NODES[triangle]
        local = np.linalg.solve(np.stack([b - a, c - a], -1), (points - a).T).T
        barycentric = np.concatenate([1 - local.sum(-1, keepdims=True), local], -1)
        inside = (barycentric > -1e-12).all(-1) & (values.sum(-1) < 0.5)  # on a shared edge the first one counts
        values[np.ix_(inside, triangle)] = barycentric[inside]
    return values
