"""Compare: the surrogate that searched beside finite elements at the optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.studies.certify.final_solutions import Solved
from shapewright.studies.certify.model import Gradient, NoveltyResult, OperatorResult
from shapewright.studies.certify.verdict_model import Check
from shapewright.studies.optimize.stationarity import VANISHED
from shapewright.studies.problem.models import SurrogateModel, outside_box
from shapewright.studies.problem.novelty import describe_novelty, novelty_of
from shapewright.studies.problem.operators import StudyOperator
from shapewright.studies.problem.samples import stack_fields
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.training.accuracy import field_errors

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The surrogate beside finite elements at the optimum.

    Attributes:
        functionals: (J,) by the surrogate.
        objective_error: relative.
        field_errors: component -> relative L2 error over the domain.
        gradient: by directions and sizes.
        fields: (N, c) by the surrogate.
        novelty: distance of the optimum from the training designs; None of an operator.
        operator: what it is, if an operator for all shapes searched.
        outside: a warning for each parameter outside the surrogate's training box.
    """

    functionals: Array
    objective_error: float
    field_errors: dict[str, float]
    gradient: Gradient
    fields: Array
    novelty: NoveltyResult | None
    operator: OperatorResult | None
    outside: tuple[str, ...]


def compare(
    setup: Setup,
    theta: Tensor,
    solved: Solved,
    surrogate: SurrogateModel | StudyOperator,
    correlation: Mapping[str, float] | None = None,
) -> Comparison:
    """Values, fields and gradient of the surrogate at the optimum theta (P,), and its gradient at the start.

    ``correlation`` is that of the surrogate's errors with the novelty of held-out designs, where it was measured.
    """
    values, gradients = surrogate.evaluate(torch.stack([theta, setup.initial]).numpy())
    predicted = surrogate.fields(theta)
    weights = nodal_weights(setup.shape_map.mesh, torch.from_numpy(solved.mapped.nodes))
    fields = torch.from_numpy(stack_fields(solved.mapped, setup))
    errors = field_errors(predicted[None], fields[None], weights[None])[0]
    novelty, operator, outside = _training_range(setup, surrogate, theta, correlation)
    return Comparison(
        functionals=values[0],
        objective_error=relative(float(values[0, 0]) - solved.limit.value, solved.reference),
        field_errors=dict(zip(setup.space.components, errors.tolist(), strict=True)),
        gradient=_gradient(setup, solved, gradients[:, 0]),
        fields=predicted.numpy(),
        novelty=novelty,
        operator=operator,
        outside=outside,
    )


def _training_range(
    setup: Setup, surrogate: SurrogateModel | StudyOperator, theta: Tensor, correlation: Mapping[str, float] | None
) -> tuple[NoveltyResult | None, OperatorResult | None, tuple[str, ...]]:
    """How far the optimum is from what the surrogate or operator was trained on, and warnings where it is outside."""
    if not isinstance(surrogate, StudyOperator):
        known = describe_novelty(novelty_of(setup, surrogate.surrogate, surrogate.box), theta)
        novelty = NoveltyResult.model_validate(known | {"correlation": correlation})
        return novelty, None, tuple(outside_box(setup, theta.numpy()[None], surrogate.box).values())
    outside = surrogate.outside(theta)
    operator = OperatorResult(
        name=surrogate.name,
        gradient=surrogate.model.gradient,
        novelty=outside.share,
        outside_by=outside.descriptor,
    )
    warning = f"The optimum lies outside the population that operator {surrogate.name} was trained on ({outside})."
    return None, operator, () if outside.descriptor is None else (warning,)


def _gradient(setup: Setup, solved: Solved, gradients: Array) -> Gradient:
    """The surrogate's gradients (2, P) at the optimum and at the start, beside those of finite elements."""
    bounds = setup.family.bounds
    span = bounds[:, 1] - bounds[:, 0]
    ours, ours_at_start = torch.from_numpy(gradients) * span
    there, at_start = solved.gradient * span, solved.gradient_at_start * span
    return Gradient(
        cosine=float(torch.cosine_similarity(ours, there, dim=0)),
        cosine_at_start=float(torch.cosine_similarity(ours_at_start, at_start, dim=0)),
        relative_error=float((ours - there).norm() / there.norm()),
        size_to_start=float(there.norm() / at_start.norm()),
        error_to_start=float((ours - there).norm() / at_start.norm()),
    )


def relative(difference: float, size: float) -> float:
    """Size of ``difference`` over ``size``; infinite where that is zero and the difference is not."""
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return abs(difference) / size


def surrogate_checks(found: Comparison, objective: float, field: float, cosine: float) -> list[Check]:
    """Checks of a surrogate, with the limits of the study."""
    worst = float(np.max(list(found.field_errors.values())))  # not a number if one is not
    return [
        Check.of("objective", found.objective_error, "<=", objective, "surrogate against FEM"),
        Check.of("fields", worst, "<=", field, "surrogate against FEM, L2"),
        *gradient_checks(found.gradient, cosine),
    ]


def gradient_checks(gradient: Gradient, cosine: float) -> list[Check]:
    """The surrogate's gradient at the optimum against the finite-element adjoint's, by its direction.

    Where the gradient vanishes at the optimum, as that of a peak stress at its minimax, its direction is that of
    rounding. Then the directions are compared at the start, and at the optimum the error relative to the gradient at
    the start: it may reach the share that, at a right angle, would turn that gradient by the angle allowed.
    """
    there, at_start = _number(gradient.cosine), _number(gradient.cosine_at_start)
    if not _number(gradient.size_to_start) < VANISHED:
        return [Check.of("gradient cosine", there, ">=", cosine, "surrogate against FEM adjoint")]
    meaning = "surrogate against FEM adjoint; it vanishes here, so this is beside the gradient at the start"
    start = "surrogate against FEM adjoint at the start; at the optimum the gradient vanishes"
    return [
        Check.of("gradient cosine at the start", at_start, ">=", cosine, start),
        Check.of("gradient error", _number(gradient.error_to_start), "<=", math.sqrt(1 - cosine**2), meaning),
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
