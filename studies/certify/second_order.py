"""Second-order conditions at a design that meets those of first order: a maximum and a saddle meet them too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space
from torch import Tensor

from shapewright.studies.certify.sensitivity import STEP
from shapewright.studies.optimize.stationarity import BOUND_TOLERANCE, Stationarity
from shapewright.studies.problem.constraints import Functionals, constraint_values
from shapewright.studies.problem.models import FemModel

Array = NDArray[np.float64]

NEGATIVE = 1e-2
"""Curvature that counts as negative, relative to the largest: far above what differences and meshes do to it."""


def gets_better_both_ways(fem: FemModel, theta: Tensor, functionals: Functionals, found: Stationarity) -> bool:
    """Whether the Lagrangian has negative curvature along active constraints and bounds, so that this is no optimum.

    Active constraints and bounds count as held, whatever their multipliers. False where a neighbouring design has no
    solution, because the curvature is unknown then.

    Args:
        fem: of the study.
        theta: (P,) design.
        functionals: there.
        found: first-order conditions there.
    """
    setup, design = fem.setup, theta.numpy()
    lower, upper = setup.family.bounds.numpy().T
    span = upper - lower
    multipliers = np.array([found.multipliers.get(condition.name, 0.0) for condition in setup.constraints])

    def slope(at: Array, known: Functionals) -> Array:
        rows = constraint_values(setup, at, known)[1]
        return setup.sign * (known[1][0] - multipliers @ rows) * span

    steps = np.where(design <= (lower + upper) / 2, STEP, -STEP)
    neighbours = design + np.diag(steps * span)
    here, (values, gradients) = slope(design, functionals), fem.evaluate(neighbours)
    there = [slope(at, known) for at, known in zip(neighbours, zip(values, gradients, strict=True), strict=True)]
    curvature = (np.array(there) - here) / steps[:, None]
    if not np.isfinite(curvature).all():
        return False
    at_design, rows = constraint_values(setup, design, functionals)
    active = [c.active(value) for c, value in zip(setup.constraints, at_design, strict=True)]
    z = (design - lower) / span
    on_bound = (z < BOUND_TOLERANCE) | (z > 1 - BOUND_TOLERANCE)
    held = np.vstack([rows[active] * span, np.eye(len(z))[on_bound]])
    free = null_space(held) if len(held) else np.eye(len(z))
    least = np.linalg.eigvalsh(free.T @ (curvature + curvature.T) @ free / 2).min(initial=0.0)
    return bool(least < -NEGATIVE * np.abs(np.linalg.eigvalsh((curvature + curvature.T) / 2)).max())
