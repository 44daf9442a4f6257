"""First-order optimality conditions of a design, by the finite-element gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch import Tensor

from studies.constraints import Functionals, constraint_values
from studies.setup import Setup

Array = NDArray[np.float64]
BOUND_TOLERANCE = 1e-6
"""A parameter within this share of its range from a bound counts as lying on it."""


@dataclass(frozen=True)
class Stationarity:
    """First-order conditions at a design, in parameters scaled to their bounds.

    Attributes:
        residual: |gradient of the Lagrangian| over |gradient of the objective|; where no constraint and no bound is
            active the latter vanishes at an optimum, and the one at the start takes its place.
        multipliers: constraint -> change of the optimal objective per unit that the target is raised by.
    """

    residual: float
    multipliers: dict[str, float]


def stationarity(
    setup: Setup, theta: Tensor, gradient: Tensor, at_start: Tensor, functionals: Functionals | None = None
) -> Stationarity:
    """Least-squares multipliers with their signs, and what they leave of the objective's gradient (P,) at theta.

    Parameters on a bound may be pushed further against it; inequality constraints count when they are active. The
    ``functionals`` at theta are needed where a constraint is on one of them.
    """
    lower, upper = setup.family.bounds.numpy().T
    span = upper - lower
    objective = setup.sign * gradient.numpy() * span
    values, rows = constraint_values(setup, theta.numpy(), functionals)
    columns, low, owners = [], [], []
    for constraint, value, row in zip(setup.constraints, values, rows, strict=True):
        active = constraint.kind == "equals" or constraint.violation(value) > -1e-4 * max(1.0, abs(constraint.target))
        if active:
            direction = -1.0 if constraint.kind == "at_least" else 1.0
            columns.append(direction * row * span)
            low.append(-np.inf if constraint.kind == "equals" else 0.0)
            owners.append((constraint.name, direction))
    z = (theta.numpy() - lower) / span
    matrix = np.stack(columns, -1) if columns else np.zeros((len(z), 0))
    residual, found = least_squares_multipliers(z, objective, matrix, np.array(low))
    if residual is None:
        scale = max(float(np.linalg.norm(objective)), 1e-300)
        return Stationarity(scale / max(scale, float(np.linalg.norm(at_start.numpy() * span))), {})
    multipliers = {
        name: float(-setup.sign * direction * m) for (name, direction), m in zip(owners, found, strict=True)
    }
    return Stationarity(residual, multipliers)


def least_squares_multipliers(
    z: Array, objective: Array, columns: Array, low: Array
) -> tuple[float | None, Array]:
    """Multipliers (A,), at least ``low`` (A,), that best balance a gradient.

    Args:
        z: (P,) parameters scaled to [0, 1]; those on a bound may be pushed further against it.
        objective: (P,) gradient of what is minimized.
        columns: (P, A) gradients of the active constraints.
        low: (A,) 0 for inequalities, -inf for equalities.

    Returns:
        |objective + columns m| over |objective|, None where nothing is active; and m.
    """
    on_bound = np.flatnonzero((z < BOUND_TOLERANCE) | (z > 1 - BOUND_TOLERANCE))
    walls = np.zeros((len(z), len(on_bound)))
    walls[on_bound, np.arange(len(on_bound))] = np.where(z[on_bound] < 0.5, -1.0, 1.0)
    matrix = np.hstack([columns, walls])
    scale = max(float(np.linalg.norm(objective)), 1e-300)
    if matrix.shape[1] == 0:
        return None, np.zeros(0)
    bounds = np.concatenate([low, np.zeros(len(on_bound))]), np.inf
    found = lsq_linear(matrix, -objective / scale, bounds=bounds, tol=1e-14).x
    return float(np.linalg.norm(objective / scale + matrix @ found)), scale * found[: columns.shape[1]]
