"""Values and gaps of the conditions of a study: on geometric quantities, which are exact, and on functionals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.studies.problem.conditions import Condition
from shapewright.studies.problem.design_setup import DesignSetup

Array = NDArray[np.float64]
Functionals = tuple[Array, Array]
"""(J,) values of a problem's functionals at a design, and their (J, P) gradients."""


def geometric_values(setup: DesignSetup, theta: Array) -> tuple[Array, Array]:
    """(G,) quantities and (G, P) Jacobian of the study's geometric conditions at a design (P,)."""
    design = torch.from_numpy(np.asarray(theta)).requires_grad_()
    values, rows = [], []
    for condition in setup.constraints:
        if condition.functional is None:
            value = setup.quantity(condition.quantity, design)
            rows.append(torch.autograd.grad(value, design)[0].numpy())
            values.append(float(value.detach()))
    return np.array(values), np.array(rows).reshape(len(values), len(theta))


def constraint_values(setup: DesignSetup, theta: Array, functionals: Functionals | None = None) -> tuple[Array, Array]:
    """(C,) quantities and (C, P) Jacobian of all conditions at a design (P,), in the order of the study.

    ``functionals`` there are needed where a condition is on one of them.
    """
    indices = [condition.functional for condition in setup.constraints]
    geometric = np.array([index is None for index in indices], dtype=bool)
    values, rows = np.empty(len(indices)), np.empty((len(indices), len(theta)))
    values[geometric], rows[geometric] = geometric_values(setup, theta)
    if not geometric.all():
        assert functionals is not None
        chosen = [index for index in indices if index is not None]
        values[~geometric], rows[~geometric] = functionals[0][chosen], functionals[1][chosen]
    return values, rows


def worst_violation(setup: DesignSetup, values: Array) -> float:
    """Largest violation over the tolerance; 1 or less means that all are satisfied, inf that one is not a number."""
    ratios = [c.violation(float(v)) / c.allowed for c, v in zip(setup.constraints, values, strict=True)]
    worst = float(np.max([0.0, *ratios]))  # not a number if one is not
    return math.inf if math.isnan(worst) else worst


def constraint_gaps(conditions: Sequence[Condition], values: Array, rows: Array) -> tuple[Array, Array]:
    """(C,) signed gaps over their scales, zero or non-negative when met, and their Jacobian (C, P)."""
    factor = np.array([(-1 if c.kind == "at_most" else 1) / c.scale for c in conditions])
    targets = np.array([c.target for c in conditions])
    return factor * (values - targets), factor[:, None] * rows
