"""Derivative-informed training: fields, their slopes, their tangents, and the design gradient of the functionals.

One exact forward-mode pass (``torch.func.jvp``) along a design direction gives the fields and their material
derivatives; a reverse pass through it gives the gradient in the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from geometries.integration import cell_points, nodal_weights
from surrogate.accuracy import measure
from surrogate.dataset import Dataset
from surrogate.design_surrogate import DesignSurrogate
from surrogate.trainer import Progress, TrainerConfig, TrainingError, run_training


@dataclass(frozen=True)
class TrainingConfig(TrainerConfig):
    """How to train a design surrogate.

    Attributes:
        slope_weight: of the error in the fields' spatial gradients.
        tangent_weight: of the error in material derivatives.
        objective_weight, gradient_weight: of the functionals and of their derivatives along the direction.
    """

    slope_weight: float = 0.3
    tangent_weight: float = 0.5
    objective_weight: float = 0.1
    gradient_weight: float = 0.5


@dataclass(frozen=True)
class _Scales:
    """Root mean squares over the training set by which each part of the loss is made dimensionless."""

    change: Tensor
    slope: Tensor
    tangent: Tensor
    value: Tensor
    derivative: Tensor


def train(
    surrogate: DesignSurrogate,
    data: Dataset,
    held_out: Dataset,
    config: TrainingConfig,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train in place on the fields, slopes and tangents of solved designs; see :func:`surrogate.trainer.run_training`.

    Raises:
        TrainingError: data that are not finite or do not vary, named with the design or the part of the loss; or a
            loss, a gradient or a held-out error that is not finite, named with the step.
    """
    _refuse_non_finite("training", data)
    _refuse_non_finite("held-out", held_out)
    weight = next(surrogate.parameters())
    data, held_out = data.to(weight.device), held_out.to(weight.device)
    scales = _scales(surrogate, data)
    _refuse_constant(scales, surrogate, config)
    return run_training(surrogate, _DesignTask(surrogate, data, held_out, scales, config), config, checkpoint, report)


@dataclass(frozen=True)
class _DesignTask:
    """Derivative-informed learning of solved designs, judged by the design gradient."""

    surrogate: DesignSurrogate
    data: Dataset
    held_out: Dataset
    scales: _Scales
    config: TrainingConfig
    error_name: str = "gradient error"

    def loss(self, step: int) -> Tensor:
        batch, direction = _draw(self.data, self.config, step)
        return _loss(self.surrogate, batch, direction, self.scales, self.config)

    def error(self) -> float:
        return measure(self.surrogate, self.held_out).gradient


def _refuse_non_finite(which: str, data: Dataset) -> None:
    for field in fields(data):
        finite = torch.isfinite(getattr(data, field.name)).flatten(1).all(1)
        if not bool(finite.all()):
            design = int((~finite).nonzero()[0, 0])
            raise TrainingError(
                f"{which} data: {field.name} of design {design} is not finite; sample it again or take it out"
            )


def _refuse_constant(scales: _Scales, surrogate: DesignSurrogate, config: TrainingConfig) -> None:
    """Each part of the loss is divided by its scale."""
    components, functionals = surrogate.space.components, [functional.name for functional in surrogate.functionals]
    parts = (
        ("field", components, scales.change, ""),
        ("slope of field", components, scales.slope, "slope_weight"),
        ("tangent of field", components, scales.tangent, "tangent_weight"),
        ("functional", functionals, scales.value, "objective_weight"),
        ("derivative of functional", functionals, scales.derivative, "gradient_weight"),
    )
    for what, names, scale, key in parts:
        for name, size in zip(names, scale.tolist(), strict=True):
            if (not key or getattr(config, key) > 0) and not size > 0:
                mend = f", or set training.{key} to 0" if key else ""
                raise TrainingError(f"the {what} '{name}' is the same in all training designs; sample more{mend}")


def _draw(data: Dataset, config: TrainingConfig, step: int) -> tuple[Dataset, int]:
    """Batch of a step and which of its tangents to learn.

    Both depend on seed and step alone, so that a resumed run sees the same data.
    """
    per_epoch = max(1, len(data) // config.batch)
    epoch, place = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(data), generator=generator)[place * config.batch : (place + 1) * config.batch]
    batch = data.subset(order.to(data.theta.device))
    return batch, (step + epoch) % batch.directions.shape[1]


def _loss(surrogate: DesignSurrogate, batch: Dataset, which: int, scales: _Scales, config: TrainingConfig) -> Tensor:
    like = next(surrogate.parameters())
    theta, direction = batch.theta.to(like), batch.directions[:, which].to(like)
    (fields, values), (tangent, derivative) = torch.func.jvp(surrogate.evaluate, (theta,), (direction,))
    error = fields - batch.solution.to(like)
    with torch.no_grad():
        nodes = surrogate.shape_map.nodes(theta)
        cells = cell_points(surrogate.shape_map.mesh, nodes)
        weights, cell_weights = nodal_weights(surrogate.shape_map.mesh, nodes), cells.weights
        if surrogate.grading is not None:  # errors count where the latent grid is fine
            weights = weights * surrogate.grading.slopes(nodes).prod(-1)
            cell_weights = cell_weights * surrogate.grading.slopes(cells.points).prod(-1)
        weights = weights / weights.sum(-1, keepdim=True)
        cell_weights = cell_weights / cell_weights.sum((-1, -2), keepdim=True)
    slope = sum(
        ((cells.gradient(error[..., c]) ** 2).sum(-1) * cell_weights).sum((-1, -2)) / scales.slope[c] ** 2
        for c in range(error.shape[-1])
    )
    tangent_error = tangent - batch.tangents[:, which].to(like)
    exact = torch.einsum("bjp,bp->bj", batch.gradients.to(like), direction)
    parts = (
        (1.0, (error**2 * weights[..., None]).sum(1) / scales.change**2),
        (config.slope_weight, slope),
        (config.tangent_weight, (tangent_error**2 * weights[..., None]).sum(1) / scales.tangent**2),
        (config.objective_weight, ((values - batch.values.to(like)) / scales.value) ** 2),
        (config.gradient_weight, ((derivative - exact) / scales.derivative) ** 2),
    )
    return sum(factor * part.mean() for factor, part in parts if factor > 0)


def _scales(surrogate: DesignSurrogate, data: Dataset) -> _Scales:
    like = next(surrogate.parameters())
    part = data.subset(slice(0, 256))
    change = part.solution.to(like) - surrogate.reference
    cells = cell_points(surrogate.shape_map.mesh, surrogate.shape_map.nodes(part.theta.to(like)))
    slope = torch.stack([(cells.gradient(change[..., c]) ** 2).sum(-1).mean().sqrt() for c in range(change.shape[-1])])
    derivative = torch.einsum("sjp,stp->stj", data.gradients, data.directions)
    return _Scales(
        change=change.square().mean((0, 1)).sqrt(),
        slope=slope,
        tangent=part.tangents.to(like).square().mean((0, 1, 2)).sqrt(),
        value=data.values.std(0).to(like),
        derivative=derivative.square().mean((0, 1)).sqrt().to(like),
    )
