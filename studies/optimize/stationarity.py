"""First-order optimality conditions of a design, by the finite-element gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch import Tensor

from shapewright.studies.problem.constraints import Functionals, constraint_values
from shapewright.studies.problem.design_setup import DesignSetup

Array = NDArray[np.float64]
BOUND_TOLERANCE = 1e-6
"""A parameter within this share of its range from a bound counts as lying on it."""


VANISHED = 0.05
"""Share of the gradient at the start below which that at an optimum counts as vanishing."""
WIDENING = 0.1
"""Share of a parameter's range by which its bound is thought to move, where its gain is told."""


@dataclass(frozen=True)
class Stop:
    """A bound that stops the search, and what moving it promises to first order, by its multiplier.

    Attributes:
        parameter, side, bound: the bound, ``lower`` or ``upper``.
        unit: of the parameter.
        per_unit: by how much the objective gets better per unit that the bound moves outward, positive.
        moved_to: the bound after it moved by a tenth of its range.
        gain: that this promises, in the objective's unit.
    """

    parameter: str
    side: str
    bound: float
    unit: str
    per_unit: float
    moved_to: float
    gain: float

    def sentence(self, objective: float) -> str:
        """In words, beside the size of the objective."""
        share = f"{100 * self.gain / abs(objective):.2g} %" if objective else f"{self.gain:.2g}"
        return (
            f"{self.parameter} stops at its {self.side} bound {self.bound:.6g}: moving the bound to {self.moved_to:.6g}"
            f" promises {share} more, to first order."
        )


@dataclass(frozen=True)
class Stationarity:
    """First-order conditions at a design, in parameters scaled to their bounds.

    Attributes:
        residual: the relative KKT residual with its floor, see :func:`relative_residual`.
        multipliers: constraint -> change of the optimal objective per unit that the target is raised by.
        stops: bounds that stop the search.
    """

    residual: float
    multipliers: dict[str, float]
    stops: tuple[Stop, ...] = ()


def stationarity(
    setup: DesignSetup, theta: Tensor, gradient: Tensor, at_start: Tensor, functionals: Functionals | None = None
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
        if constraint.active(value):
            direction = -1.0 if constraint.kind == "at_least" else 1.0
            columns.append(direction * row * span)
            low.append(-np.inf if constraint.kind == "equals" else 0.0)
            owners.append((constraint.name, direction))
    z = (theta.numpy() - lower) / span
    matrix = np.stack(columns, -1) if columns else np.zeros((len(z), 0))
    found = least_squares_multipliers(z, objective, matrix, np.array(low))
    residual = relative_residual(found, objective, lambda: float(np.linalg.norm(at_start.numpy() * span)), VANISHED)
    multipliers = {
        name: float(-setup.sign * direction * m)
        for (name, direction), m in zip(owners, found.multipliers, strict=True)
    }
    return Stationarity(residual, multipliers, tuple(_stops(setup, found.walls)))


def _stops(setup: DesignSetup, walls: Array) -> Iterator[Stop]:
    """Of the (P,) gradients that bounds balance, in scaled parameters."""
    for parameter, wall in zip(setup.family.parameters, walls.tolist(), strict=True):
        span = parameter.upper - parameter.lower
        if wall != 0.0:
            side, bound, out = ("lower", parameter.lower, -1.0) if wall > 0 else ("upper", parameter.upper, 1.0)
            unit, moved = parameter.unit, bound + out * WIDENING * span
            yield Stop(parameter.name, side, bound, unit, abs(wall) / span, moved, WIDENING * abs(wall))


@dataclass(frozen=True)
class Balance:
    """How well multipliers balance a gradient.

    Attributes:
        residual: what is left of it, relative to it; None where nothing is active.
        multipliers: (A,) of the active constraints.
        walls: (P,) what each bound holds back: the gradient that it balances, positive at a lower bound and negative
            at an upper one, zero where a parameter is free or leaves its bound.
        remainder: (P,) gradient of the Lagrangian.
    """

    residual: float | None
    multipliers: Array
    walls: Array
    remainder: Array


def relative_residual(balance: Balance, gradient: Array, at_start: Callable[[], float], floor: float) -> float:
    """|gradient of the Lagrangian| over |gradient of the objective|, or over what replaces a vanishing one.

    Where no constraint and no bound is active, the objective's gradient vanishes at an optimum, and the residual is
    relative to the gradient at the start; it is 1 where that vanishes too, which shows nothing. Where some are active
    and the gradient vanishes all the same, as of a mismatch that reaches zero, the residual is relative to ``floor``
    times the gradient at the start.

    The certificate has a floor of :data:`VANISHED`. The trust region has none, because the gradient at the start costs
    a finite-element solution that it seldom needs. So its residual is never less than the certificate's at the same
    design, and what it finds stationary is stationary for the certificate too.

    Args:
        balance: of the gradient, by :func:`least_squares_multipliers`.
        gradient: (P,) of the objective, in scaled parameters.
        at_start: size of that gradient at the start; asked for only where it is needed.
        floor: share of it below which the gradient counts as vanishing.
    """
    size = float(np.linalg.norm(gradient))
    if balance.residual is None:
        return max(size, 1e-300) / max(size, at_start(), 1e-300)
    if floor == 0.0:
        return balance.residual
    return balance.residual * size / max(size, floor * at_start(), 1e-300)


def least_squares_multipliers(z: Array, objective: Array, columns: Array, low: Array) -> Balance:
    """Multipliers (A,), at least ``low`` (A,), that best balance a gradient.

    Args:
        z: (P,) parameters scaled to [0, 1]; those on a bound may be pushed further against it.
        objective: (P,) gradient of what is minimized.
        columns: (P, A) gradients of the active constraints.
        low: (A,) 0 for inequalities, -inf for equalities.
    """
    on_bound = np.flatnonzero((z < BOUND_TOLERANCE) | (z > 1 - BOUND_TOLERANCE))
    outward = np.zeros((len(z), len(on_bound)))
    outward[on_bound, np.arange(len(on_bound))] = np.where(z[on_bound] < 0.5, -1.0, 1.0)
    matrix = np.hstack([columns, outward])
    if matrix.shape[1] == 0:
        return Balance(None, np.zeros(0), np.zeros(len(z)), objective)
    scale = max(float(np.linalg.norm(objective)), 1e-300)
    lengths = np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
    bounds = np.concatenate([low, np.zeros(len(on_bound))]), np.inf
    often = 10 * len(lengths)
    found = lsq_linear(matrix / lengths, -objective / scale, bounds, method="bvls", tol=1e-15, max_iter=often).x
    remainder = objective / scale + matrix / lengths @ found
    multipliers = scale * found / lengths
    walls = -outward @ multipliers[columns.shape[1] :]
    return Balance(
        float(np.linalg.norm(remainder)), multipliers[: columns.shape[1]], walls, scale * remainder
    )
