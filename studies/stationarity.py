"""First-order optimality conditions of a design, by the finite-element gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear
from torch import Tensor

from studies.optimizer import constraint_values
from studies.setup import Setup

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


def stationarity(setup: Setup, theta: Tensor, gradient: Tensor, at_start: Tensor) -> Stationarity:
    """Least-squares multipliers with their signs, and what they leave of the objective's gradient (P,) at theta.

    Parameters on a bound may be pushed further against it; inequality constraints count when they are active.
    """
    lower, upper = setup.family.bounds.numpy().T
    span = upper - lower
    objective = setup.sign * gradient.numpy() * span
    values, rows = constraint_values(setup, theta.numpy())
    columns, low, owners = [], [], []
    for constraint, value, row in zip(setup.constraints, values, rows, strict=True):
        active = constraint.kind == "equals" or constraint.violation(value) > -1e-4 * max(1.0, abs(constraint.target))
        if active:
            direction = -1.0 if constraint.kind == "at_least" else 1.0
            columns.append(direction * row * span)
            low.append(-np.inf if constraint.kind == "equals" else 0.0)
            owners.append((constraint.name, direction))
    z = (theta.numpy() - lower) / span
    for index in np.flatnonzero((z < BOUND_TOLERANCE) | (z > 1 - BOUND_TOLERANCE)):
        unit = np.zeros(len(z))
        unit[index] = -1.0 if z[index] < 0.5 else 1.0
        columns.append(unit)
        low.append(0.0)
    scale = max(float(np.linalg.norm(objective)), 1e-300)
    if not columns:
        return Stationarity(scale / max(scale, float(np.linalg.norm(at_start.numpy() * span))), {})
    matrix = np.stack(columns, -1)
    found = lsq_linear(matrix, -objective / scale, bounds=(np.array(low), np.inf), tol=1e-14)
    multipliers = {
        name: float(-setup.sign * direction * m * scale)
        for (name, direction), m in zip(owners, found.x[: len(owners)], strict=True)
    }
    return Stationarity(float(np.linalg.norm(objective / scale + matrix @ found.x)), multipliers)
