"""What the surrogate that searched claims at the optimum, beside finite elements there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.studies.certify.model import Gradient
from shapewright.studies.certify.verdict_model import Check
from shapewright.studies.optimize.stationarity import VANISHED
from shapewright.studies.problem.models import SurrogateModel
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.training.accuracy import field_errors

Array = NDArray[np.float64]

@dataclass(frozen=True)
class Truth:
    """Finite elements at the optimum, on the mesh that the optimizer moved.

    Attributes:
        objective: at the optimum, from fresh meshes of its CAD.
        reference: what errors of the objective are relative to.
        gradient, gradient_at_start: (P,) of the objective.
        fields: (N, c) at the nodes.
        nodes: (N, 2) of the moved mesh.
    """

    objective: float
    reference: float
    gradient: Tensor
    gradient_at_start: Tensor
    fields: Array
    nodes: Array


@dataclass(frozen=True)
class Comparison:
    """The surrogate against the truth.

    Attributes:
        functionals: (J,) by the surrogate at the optimum.
        objective_error: relative.
        field_errors: component -> relative L2 error over the domain.
        gradient: by directions and sizes.
        fields: (N, c) by the surrogate.
    """

    functionals: Array
    objective_error: float
    field_errors: dict[str, float]
    gradient: Gradient
    fields: Array


def compare(setup: Setup, surrogate: SurrogateModel, theta: Tensor, truth: Truth) -> Comparison:
    """Values, fields and gradient of the surrogate at the optimum theta (P,), and its gradient at the start."""
    values, gradients = surrogate.evaluate(torch.stack([theta, setup.initial]).numpy())
    predicted = surrogate.fields(theta)
    weights = nodal_weights(setup.shape_map.mesh, torch.from_numpy(truth.nodes))
    errors = field_errors(predicted[None], torch.from_numpy(truth.fields)[None], weights[None])[0]
    bounds = setup.family.bounds
    span = bounds[:, 1] - bounds[:, 0]
    ours, ours_at_start = torch.from_numpy(gradients[:, 0]) * span
    there, at_start = truth.gradient * span, truth.gradient_at_start * span
    gradient = Gradient(
        cosine=float(torch.cosine_similarity(ours, there, dim=0)),
        cosine_at_start=float(torch.cosine_similarity(ours_at_start, at_start, dim=0)),
        relative_error=float((ours - there).norm() / there.norm()),
        size_to_start=float(there.norm() / at_start.norm()),
        error_to_start=float((ours - there).norm() / at_start.norm()),
    )
    return Comparison(
        values[0],
        relative(float(values[0, 0]) - truth.objective, truth.reference),
        dict(zip(setup.space.components, errors.tolist(), strict=True)),
        gradient,
        predicted.numpy(),
    )


def relative(difference: float, size: float) -> float:
    """Size of ``difference`` over ``size``; infinite where that is zero and the difference is not."""
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return abs(difference) / size


def surrogate_checks(found: Comparison, objective: float, field: float, cosine: float) -> list[Check]:
    """The lines of the verdict on a surrogate, with the limits of the study."""
    worst = float(np.max(list(found.field_errors.values())))  # not a number if one is not
    return [
        Check.of("objective", found.objective_error, "<=", objective, "surrogate against FEM"),
        Check.of("fields", worst, "<=", field, "surrogate against FEM, L2"),
        *gradient_checks(found.gradient, cosine),
    ]


def gradient_checks(gradient: Gradient, cosine: float) -> list[Check]:
    """The surrogate's gradient at the optimum against the finite-element adjoint's, by its direction.

    Where the gradient itself vanishes at the optimum, as that of a peak stress at its minimax, its direction is that of
    rounding and not worth comparing. Then the direction is judged at the start, and at the optimum the error beside the
    gradient at the start: up to the share that, at a right angle, would turn that by the angle allowed.
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
