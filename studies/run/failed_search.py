"""Whether a search has led to a valid design, and if not, why."""

from __future__ import annotations

import torch

from shapewright.geometries.design.measures import ShapeError, check_design
from shapewright.solvers.errors import SolveError
from shapewright.studies.certify.second_order import gets_better_both_ways
from shapewright.studies.certify.verdicts import least_residual
from shapewright.studies.optimize.optimizer import ExitReason, Optimum, Search
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup


class OptimizationError(RuntimeError):
    """No start led to a valid design; the text is the exit reason."""


def check_optimum(setup: Setup, optimum: Optimum) -> None:
    """Refuse what is no optimum and no valid shape.

    Raises:
        OptimizationError: with the reason, and what to change.
    """
    best = optimum.best
    stayed = best.reason is ExitReason.STATIONARY and not any(i.fem and i.fem.accepted for i in best.history[1:])
    if (stayed or not optimum.ok) and not _start_is_optimal(setup, best):
        reason = ExitReason.DID_NOT_MOVE if stayed else best.reason
        raise OptimizationError(f"optimize: {_failure_at_start(setup) or reason.value}")
    try:
        check_design(setup.shape_map, torch.from_numpy(best.theta))
    except ShapeError as error:
        raise OptimizationError(
            f"optimize: the optimum is no valid shape ({error});"
            " add a constraint such as {quantity: jacobian, at_least: 0.1}"
        ) from error


def _start_is_optimal(setup: Setup, best: Search) -> bool:
    """Whether a search did not leave a start that, by finite elements, constraints and bounds hold where it is.

    A start of equal radii is stationary whichever sense the objective has, so that curvatures count too.
    """
    ends = ExitReason.DID_NOT_MOVE, ExitReason.OBJECTIVE_UNCHANGED, ExitReason.STATIONARY
    if best.reason not in ends or best.violation > 1.0:
        return False
    theta = torch.from_numpy(best.theta)
    fem = FemModel(setup)
    try:
        values, gradients, _ = fem.functionals(theta)
    except SolveError:
        return False
    gradient = torch.from_numpy(gradients[0])
    _, limit, _ = least_residual(setup.study.model)
    found = stationarity(setup, theta, gradient, gradient, (values, gradients))
    return found.residual <= limit and not gets_better_both_ways(fem, theta, (values, gradients), found)


def _failure_at_start(setup: Setup) -> str:
    """Why finite elements fail at the start; empty where they do not, and then another start may help."""
    try:
        FemModel(setup).functionals(setup.initial)
    except SolveError as error:
        return f"finite elements fail at the start: {error}."
    return ""
