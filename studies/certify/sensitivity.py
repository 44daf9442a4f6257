"""Manufacturing tolerances by the first and second derivatives of the objective, by finite elements."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.studies.problem.models import FemModel

STEP = 1e-4
"""Difference step of the gradient, relative to the parameter's range."""


def hessian(fem: FemModel, theta: Tensor, gradient: Tensor) -> NDArray[np.float64]:
    """(P, P) second derivatives of the objective, each parameter in its own unit.

    Differences of the adjoint gradient (P,) at theta, one solve per parameter, towards the farther bound; rows and
    columns that are not numbers where the neighbouring design has no solution.
    """
    bounds = fem.setup.family.bounds
    middle, step = bounds.mean(1), STEP * (bounds[:, 1] - bounds[:, 0])
    steps = torch.where(theta <= middle, step, -step)
    _, neighbours = fem.evaluate((theta + torch.diag(steps)).numpy())
    rows = (neighbours[:, 0] - gradient.numpy()) / steps.numpy()[:, None]
    return (rows + rows.T) / 2


def tolerance_for(slope: float, curvature: float, allowed: float) -> float | None:
    """Deviation t > 0 at which ``|slope| t + |curvature| t^2 / 2`` is what the objective is ``allowed`` to change.

    None where neither derivative bounds it, or the curvature is not known.
    """
    slope, curvature = abs(slope), abs(curvature)
    if math.isnan(curvature) or allowed <= 0 or slope + curvature == 0:
        return None
    return 2 * allowed / (slope + math.sqrt(slope**2 + 2 * curvature * allowed))  # the root that does not cancel


def tolerances(
    gradient: NDArray[np.float64], curvature: NDArray[np.float64], allowed: float
) -> tuple[list[float | None], float | None]:
    """Deviation of each parameter alone, and the share of all of them that is allowed at once, whatever their signs.

    Args:
        gradient, curvature: (P,) and (P, P) derivatives of the objective.
        allowed: change of the objective.
    """
    alone = [tolerance_for(g, c, allowed) for g, c in zip(gradient, np.diagonal(curvature), strict=True)]
    if np.isnan(curvature).any():
        return alone, None
    size = np.array([t or 0.0 for t in alone])  # a parameter without influence has no limit
    return alone, tolerance_for(np.abs(gradient) @ size, size @ np.abs(curvature) @ size, allowed)
