"""The conditions of a study: on geometric quantities, which are exact, and on functionals of the solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from studies.setup import Setup

Array = NDArray[np.float64]
ACTIVE = 1e-4
"""An inequality that is met by less than this share of its scale counts as active, for every optimizer and judge."""
Functionals = tuple[Array, Array]
"""(J,) values of a problem's functionals at a design, and their (J, P) gradients."""


@dataclass(frozen=True)
class Condition:
    """A condition on a quantity of the design, its target a number.

    Attributes:
        name: quantity and kind, such as ``area equals``.
        quantity: a name of :data:`geometries.quantities.QUANTITIES`, or of a functional.
        kind: equals, at_least or at_most.
        target: in the quantity's unit.
        tolerance: violation that counts as satisfied, relative to ``scale``.
        unit: of the quantity, spelt out.
        functional: its place among the problem's functionals; None for a geometric quantity.
        scale: size of the target, or what takes its place where that is zero, in the quantity's unit; positive.
        entry: its place in the study's list; conditions on a functional of several load cases share one.
    """

    name: str
    quantity: str
    kind: str
    target: float
    tolerance: float
    unit: str
    functional: int | None = None
    scale: float = 1.0
    entry: int = 0

    @property
    def allowed(self) -> float:
        """Largest violation that counts as satisfied, in the quantity's unit."""
        return self.tolerance * self.scale

    def active(self, value: float) -> bool:
        """Whether it holds the design at ``value`` of the quantity."""
        return self.kind == "equals" or -self.violation(value) < ACTIVE * self.scale

    def violation(self, value: float) -> float:
        """By how much ``value`` misses the target; zero or less when it does not."""
        gap = value - self.target
        return abs(gap) if self.kind == "equals" else (-gap if self.kind == "at_least" else gap)

    def satisfied(self, value: float) -> bool:
        """Whether the violation is within the tolerance."""
        return self.violation(value) <= self.allowed


def geometric_values(setup: Setup, theta: Array) -> tuple[Array, Array]:
    """(G,) quantities and (G, P) Jacobian of the study's geometric conditions at a design (P,)."""
    design = torch.from_numpy(np.asarray(theta)).requires_grad_()
    values, rows = [], []
    for condition in setup.constraints:
        if condition.functional is None:
            value = setup.quantity(condition.quantity, design)
            rows.append(torch.autograd.grad(value, design)[0].numpy())
            values.append(float(value.detach()))
    return np.array(values), np.array(rows).reshape(len(values), len(theta))


def constraint_values(setup: Setup, theta: Array, functionals: Functionals | None = None) -> tuple[Array, Array]:
    """(C,) quantities and (C, P) Jacobian of all conditions at a design (P,), in the order of the study.

    ``functionals`` there are needed where a condition is on one of them.
    """
    places = [condition.functional for condition in setup.constraints]
    geometric = np.array([place is None for place in places], dtype=bool)
    values, rows = np.empty(len(places)), np.empty((len(places), len(theta)))
    values[geometric], rows[geometric] = geometric_values(setup, theta)
    if not geometric.all():
        assert functionals is not None
        chosen = [place for place in places if place is not None]
        values[~geometric], rows[~geometric] = functionals[0][chosen], functionals[1][chosen]
    return values, rows


def worst_violation(setup: Setup, values: Array) -> float:
    """Largest violation over the tolerance; 1 or less means that all are satisfied, inf that one is not a number."""
    ratios = [c.violation(float(v)) / c.allowed for c, v in zip(setup.constraints, values, strict=True)]
    worst = float(np.max([0.0, *ratios]))  # not a number if one is not
    return math.inf if math.isnan(worst) else worst


def constraint_gaps(conditions: Sequence[Condition], values: Array, rows: Array) -> tuple[Array, Array]:
    """(C,) signed gaps over their scales, zero or non-negative when met, and their Jacobian (C, P)."""
    factor = np.array([(-1 if c.kind == "at_most" else 1) / c.scale for c in conditions])
    targets = np.array([c.target for c in conditions])
    return factor * (values - targets), factor[:, None] * rows
