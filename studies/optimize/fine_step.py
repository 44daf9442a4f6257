"""Steps whose change of value is below rounding: found on a quadratic model, evaluated by gradients.

Where the reduction that a model predicts is less than the noise of the values, their ratio is one of rounding (A. R.
Conn, N. I. M. Gould, Ph. L. Toint, Trust-Region Methods (2000), section 17.4.2). Gradients are not: along a step s from
gradient g to gradient h the function changes by (g + h) s / 2 but for O(|s|^3), whose rounding is that of the gradients
times |s| (as in the approximate Wolfe condition of W. W. Hager, H. Zhang, SIAM J. Optim. 16 (2005) 170). What is
evaluated so is the Lagrangian with the multipliers of the centre: a gap that is missed by rounding changes it by
rounding squared.

The step is one of sequential quadratic programming in the null space of the constraints that certainly stay active (J.
Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., sections 18.1 and 18.3): its linear algebra is exact to rounding
relative to the step, however small that is, and the values of a corrected model, as noisy as those of the functions
that it interpolates, are not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.optimize import nnls

from shapewright.studies.optimize.correction import Array, Evaluate

DIFFERENCE = 1e-3
"""Step of the differences for second derivatives, in parameters scaled to [0, 1]: far above the rounding of a network
in single precision, far below the lengths over which functionals turn."""
LEAST_CURVATURE = 1e-8
"""Curvatures below this share of the largest are raised to it."""
LARGEST_REACH = 1e3
"""Curvatures are raised until the step without a box is no longer than this many boxes."""
NORMAL_SHARE = 0.8
"""Of the box, for the step towards the constraints."""


@dataclass(frozen=True)
class Expansion:
    """Second-order expansion of F functions about a design, by displacements s (P,).

    Attributes:
        values, jacobian, hessians: (F,), (F, P) and (F, P, P) there.
    """

    values: Array
    jacobian: Array
    hessians: Array

    def __call__(self, s: Array) -> Array:
        """(F,) values at a displacement."""
        return self.values + (self.jacobian + 0.5 * self.hessians @ s) @ s

    def __getitem__(self, chosen: slice | NDArray[np.bool_]) -> Expansion:
        """Some of the functions."""
        return Expansion(self.values[chosen], self.jacobian[chosen], self.hessians[chosen])

    def joined(self, other: Expansion) -> Expansion:
        """These functions, and the others after them."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Expansion(*(np.concatenate(pair) for pair in pairs))


def expand(evaluate: Evaluate, z: Array, values: Array, jacobian: Array) -> Expansion:
    """Expansion with known ``values`` and ``jacobian`` at z (P,); second derivatives by differences of ``evaluate``."""
    slices = []
    for k in range(len(z)):
        low, high = z.copy(), z.copy()
        low[k], high[k] = max(0.0, z[k] - DIFFERENCE), min(1.0, z[k] + DIFFERENCE)
        slices.append((evaluate(high)[1] - evaluate(low)[1]) / (high[k] - low[k]))
    hessians = np.stack(slices, -1)
    return Expansion(values, jacobian, 0.5 * (hessians + hessians.transpose(0, 2, 1)))


@dataclass(frozen=True)
class FineStep:
    """A displacement (P,) and what the model says of it.

    Attributes:
        step: displacement.
        predicted: reduction of the Lagrangian from the point that meets the constraints to the end of the step.
        offset: reduction, or minus the rise, up to that point.
    """

    step: Array
    predicted: float
    offset: float


def fine_step(
    gradient: Array,
    curvature: Array,
    held: Expansion,
    kept: Expansion,
    fixed: NDArray[np.bool_],
    low: Array,
    high: Array,
) -> FineStep:
    """Minimize a quadratic in a box, towards gaps that are held at zero and away from those that are kept positive.

    Args:
        gradient, curvature: (P,) and (P, P) of the Lagrangian.
        held: gaps of equalities, and of inequalities that certainly stay active.
        kept: gaps of other inequalities.
        fixed: (P,) parameters that certainly stay on their bounds.
        low, high: (P,) box.
    """
    rows = np.vstack([held.jacobian, np.eye(len(low))[fixed]])
    free = null_space(rows) if len(rows) else np.eye(len(low))
    normal = _towards(held, rows, np.zeros(len(low)))
    reach = float(np.maximum(high, -low).max())
    size = float(np.abs(normal).max())
    normal *= min(1.0, NORMAL_SHARE * reach / max(size, 1e-300))
    step = normal + free @ _tangential(gradient + curvature @ normal, curvature, free, _limits(kept, normal, low, high))
    if size <= NORMAL_SHARE * reach:
        step = np.clip(step + _towards(held, rows, step), low, high)  # the constraints are curved
    offset = -float((gradient + 0.5 * curvature @ normal) @ normal)
    in_all = -float((gradient + 0.5 * curvature @ step) @ step)
    return FineStep(step, in_all - offset, offset)


def _towards(held: Expansion, rows: Array, at: Array) -> Array:
    """The shortest displacement (P,) that closes the gaps as they are at a displacement, to first order."""
    gaps = np.concatenate([held(at), np.zeros(len(rows) - len(held.values))])
    return -np.linalg.lstsq(rows, gaps, rcond=None)[0] if len(rows) else np.zeros(len(at))


def _limits(kept: Expansion, normal: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """G and h of the conditions G s >= h on a displacement added to ``normal``, which itself counts as meeting them."""
    gaps = kept.values + kept.jacobian @ normal
    rows = np.vstack([np.eye(len(low)), -np.eye(len(low)), kept.jacobian])
    return rows, -np.maximum(0.0, np.concatenate([normal - low, high - normal, gaps]))


def _tangential(gradient: Array, curvature: Array, free: Array, limits: tuple[Array, Array]) -> Array:
    """(T,) coordinates along the columns of ``free`` (P, T) of the minimum of the quadratic under the limits."""
    slope = free.T @ gradient
    if len(slope) == 0 or not np.any(slope):
        return np.zeros(len(slope))
    rows, right = limits
    values, vectors = np.linalg.eigh(free.T @ curvature @ free)
    reach = max(float(np.abs(right).max()), 1e-300)
    floor = max(LEAST_CURVATURE * float(np.abs(values).max()), float(np.linalg.norm(slope)) / (LARGEST_REACH * reach))
    scaled = vectors / np.sqrt(np.maximum(np.abs(values), floor))  # the quadratic is |y|^2 / 2 + downhill y in it
    downhill = scaled.T @ slope
    across = rows @ free @ scaled
    if (across @ -downhill >= right).all():
        return scaled @ -downhill
    return scaled @ (_least_distance(across, right + across @ downhill) - downhill)


def _least_distance(rows: Array, right: Array) -> Array:
    """The x (T,) of least length with rows x >= right, by non-negative least squares.

    C. L. Lawson, R. J. Hanson, Solving Least Squares Problems (1974), section 23.4.
    """
    lengths = np.linalg.norm(rows, axis=1)
    used = lengths > 1e-12 * lengths.max()
    rows, right = rows[used] / lengths[used, None], right[used] / lengths[used]
    unit = float(np.abs(right).max())
    system = np.vstack([rows.T, right / unit])
    target = np.append(np.zeros(rows.shape[1]), 1.0)
    dual, _ = nnls(system, target, maxiter=30 * len(rows))
    left = system @ dual - target
    return -unit * left[:-1] / left[-1]
