"""Derivative-informed training: fields, their gradients, their tangents, and the design gradient of the functionals.

One exact forward-mode pass (``torch.func.jvp``) along a design direction gives the fields and their material
derivatives; a reverse pass through it gives the gradient in the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from shapewright.geometries.forward_mode import jvp
from shapewright.geometries.mesh.integration import CellPoints, cell_points, nodal_weights
from shapewright.surrogate.models.design_surrogate import DesignSurrogate
from shapewright.surrogate.training import processes
from shapewright.surrogate.training.accuracy import measure
from shapewright.surrogate.training.dataset import Dataset
from shapewright.surrogate.training.loop import Progress, TrainerConfig, TrainingError, run_training
from shapewright.surrogate.training.step_graph import GraphedLoss


@dataclass(frozen=True)
class TrainingConfig(TrainerConfig):
    """How to train a design surrogate.

    Attributes:
        field_gradient_weight: of the error in the fields' spatial gradients.
        tangent_weight: of the error in material derivatives.
        tangent_gradient_weight: of the error in their spatial gradients.
        objective_weight, gradient_weight: of the functionals and of their derivatives along the direction.
    """

    field_gradient_weight: float = 0.3
    tangent_weight: float = 0.5
    tangent_gradient_weight: float = 0.0
    objective_weight: float = 0.1
    gradient_weight: float = 0.5


@dataclass(frozen=True)
class LossScales:
    """Mean squares over the training set by which each part of the loss is made dimensionless.

    Those along design directions have a row for every parameter if each direction is along one, else one row: a
    parameter that changes the fields little would otherwise not be learnt beside one that changes them much.
    """

    change: Tensor
    slope: Tensor
    tangent: Tensor
    tangent_slope: Tensor
    value: Tensor
    derivative: Tensor


def train(
    surrogate: DesignSurrogate,
    data: Dataset,
    held_out: Dataset,
    config: TrainingConfig,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    trained: bool = False,
    graphed: bool = False,
) -> list[Progress]:
    """Train in place on the fields, gradients and tangents of solved designs; see :func:`loop.run_training`.

    With ``graphed``, on a GPU, loss and gradients of a step are replayed from a CUDA graph.

    Raises:
        TrainingError: data that are not finite or do not vary, named with the design or the part of the loss; or a
            loss, a gradient or a held-out error that is not finite, named with the step.
    """
    _refuse_non_finite("training", data)
    _refuse_non_finite("held-out", held_out)
    weight = next(surrogate.parameters())
    if min(len(data), config.batch) < processes.count():
        batch = min(len(data), config.batch)
        raise TrainingError(f"{processes.count()} processes train together on batches of {batch}; raise training.batch")
    data, held_out = data.to(weight.device), held_out.to(weight.device)
    scales = loss_scales(surrogate, data)
    _refuse_constant(scales, surrogate, config)
    task = _DesignTask(surrogate, data, held_out, scales, config)
    if graphed:
        check_designs(surrogate, data.theta)
        task = replace(task, replay=graphed_loss(surrogate, data, scales, config))
    return run_training(surrogate, task, config, checkpoint, report, trained)


@dataclass(frozen=True)
class _DesignTask:
    """Derivative-informed learning of solved designs; its held-out error is that of the design gradient."""

    surrogate: DesignSurrogate
    data: Dataset
    held_out: Dataset
    scales: LossScales
    config: TrainingConfig
    error_name: str = "gradient error"
    replay: Callable[..., Tensor] | None = None

    def loss(self, step: int) -> Tensor:
        batch, direction = draw_batch(self.data, self.config, step)
        own, weight = processes.share(len(batch))
        batch = batch.subset(own)
        if self.replay is not None:
            return weight * self.replay(*loss_inputs(self.surrogate, batch, direction))
        return weight * batch_loss(self.surrogate, batch, direction, self.scales, self.config)

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


def _refuse_constant(scales: LossScales, surrogate: DesignSurrogate, config: TrainingConfig) -> None:
    """Each part of the loss is divided by its scale."""
    components, functionals = surrogate.space.components, [functional.name for functional in surrogate.functionals]
    parts = (
        ("field", components, scales.change, ""),
        ("slope of field", components, scales.slope, "field_gradient_weight"),
        ("tangent of field", components, scales.tangent.mean(0), "tangent_weight"),
        ("slope of tangent of field", components, scales.tangent_slope.mean(0), "tangent_gradient_weight"),
        ("functional", functionals, scales.value, "objective_weight"),
        ("derivative of functional", functionals, scales.derivative.mean(0), "gradient_weight"),
    )
    for what, names, scale, key in parts:
        for name, size in zip(names, scale.tolist(), strict=True):
            if (not key or getattr(config, key) > 0) and not size > 0:
                remedy = f", or set training.{key} to 0" if key else ""
                raise TrainingError(f"the {what} '{name}' is the same in all training designs; sample more{remedy}")


def draw_batch(data: Dataset, config: TrainingConfig, step: int) -> tuple[Dataset, int]:
    """Batch of a step and which of its tangents to learn.

    Both depend on seed and step alone, so that a resumed run sees the same data.
    """
    per_epoch = max(1, len(data) // config.batch)
    epoch, position = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(data), generator=generator)[position * config.batch : (position + 1) * config.batch]
    batch = data.subset(order.to(data.theta.device))
    return batch, (step + epoch) % batch.directions.shape[1]


def graphed_loss(surrogate: DesignSurrogate, data: Dataset, scales: LossScales, config: TrainingConfig) -> GraphedLoss:
    """The loss of a step of :func:`train` as a CUDA graph; the surrogate and the data are on the device."""
    inputs = loss_inputs(surrogate, *draw_batch(data, config, 0))
    return GraphedLoss(partial(loss_of_inputs, surrogate, scales, config), inputs, list(surrogate.parameters()))


@torch.no_grad()
def check_designs(surrogate: DesignSurrogate, theta: Tensor) -> None:
    """Check all designs (S, P) once, which a graph cannot.

    Raises:
        OutsideGridError: a design leaves the latent grid.
    """
    for part in theta.to(next(surrogate.parameters())).split(64):
        surrogate.fields(part)


def batch_loss(
    surrogate: DesignSurrogate, batch: Dataset, which: int, scales: LossScales, config: TrainingConfig
) -> Tensor:
    """Loss of a batch of designs along their tangents number ``which``."""
    return loss_of_inputs(surrogate, scales, config, *loss_inputs(surrogate, batch, which))


def loss_inputs(surrogate: DesignSurrogate, batch: Dataset, which: int) -> tuple[Tensor, ...]:
    """What the loss of a batch takes: designs, directions, fields, tangents, functionals and their gradients."""
    like = next(surrogate.parameters())
    parts = batch.theta, batch.directions[:, which], batch.solution, batch.tangents[:, which]
    return tuple(part.to(like) for part in (*parts, batch.values, batch.gradients))


def loss_of_inputs(
    surrogate: DesignSurrogate,
    scales: LossScales,
    config: TrainingConfig,
    theta: Tensor,
    direction: Tensor,
    solution: Tensor,
    tangents: Tensor,
    known: Tensor,
    gradients: Tensor,
) -> Tensor:
    """Loss of what :func:`loss_inputs` gives; it reads no value back from the device."""
    (fields, values), (tangent, derivative) = jvp(surrogate.evaluate, (theta,), (direction,))[:2]
    error, tangent_error = fields - solution, tangent - tangents
    exact = torch.einsum("bjp,bp->bj", gradients, direction)
    norms, row = _norms(surrogate, theta), _row(direction, len(scales.tangent))
    parts = (
        (1.0, norms.fields(error) / scales.change),
        (config.field_gradient_weight, (norms.slopes(error) / scales.slope).sum(-1)),
        (config.tangent_weight, norms.fields(tangent_error) / scales.tangent[row]),
        (config.tangent_gradient_weight, (norms.slopes(tangent_error) / scales.tangent_slope[row]).sum(-1)),
        (config.objective_weight, (values - known) ** 2 / scales.value),
        (config.gradient_weight, (derivative - exact) ** 2 / scales.derivative[row]),
    )
    first, *others = (factor * part.mean() for factor, part in parts if factor > 0)
    return sum(others, start=first)


@dataclass(frozen=True)
class _Norms:
    """Mean squares (B, c) over the shapes of B designs, with quadrature weights that sum to 1."""

    cells: CellPoints
    weights: Tensor
    cell_weights: Tensor

    def fields(self, values: Tensor) -> Tensor:
        """Of nodal values (B, N, c)."""
        return (values**2 * self.weights[..., None]).sum(1)

    def slopes(self, values: Tensor) -> Tensor:
        """Of the spatial gradients of nodal values (B, N, c)."""
        squares = [(self.cells.gradient(component) ** 2).sum(-1) for component in values.unbind(-1)]
        return torch.stack([(square * self.cell_weights).sum((-1, -2)) for square in squares], -1)


@torch.no_grad()
def _norms(surrogate: DesignSurrogate, theta: Tensor) -> _Norms:
    mesh, nodes = surrogate.shape_map.mesh, surrogate.shape_map.nodes(theta)
    cells = cell_points(mesh, nodes)
    weights, cell_weights = nodal_weights(mesh, nodes), cells.weights
    if surrogate.grading is not None:  # errors count where the latent grid is fine
        weights = weights * surrogate.grading.slopes(nodes).prod(-1)
        cell_weights = cell_weights * surrogate.grading.slopes(cells.points).prod(-1)
    return _Norms(
        cells, weights / weights.sum(-1, keepdim=True), cell_weights / cell_weights.sum((-1, -2), keepdim=True)
    )


def _row(directions: Tensor, rows: int) -> Tensor:
    """(...,) row of the scales that belongs to directions (..., P)."""
    along = directions.abs().argmax(-1)
    return along if rows > 1 else torch.zeros_like(along)


def loss_scales(surrogate: DesignSurrogate, data: Dataset) -> LossScales:
    """Scales of the loss, over at most 256 training designs."""
    like = next(surrogate.parameters())
    part = data.subset(slice(0, 256))
    norms = _norms(surrogate, part.theta.to(like))
    change = part.solution.to(like) - surrogate.reference
    single = bool(((part.directions != 0).sum(-1) == 1).all())
    rows = part.directions.shape[-1] if single else 1
    row = _row(part.directions, rows)
    tangents = part.tangents.to(like).unbind(1)
    derivative = torch.einsum("sjp,stp->stj", part.gradients, part.directions)
    return LossScales(
        change=norms.fields(change).mean(0),
        slope=norms.slopes(change).mean(0),
        tangent=_mean_by_row(torch.stack([norms.fields(tangent) for tangent in tangents], 1), row, rows),
        tangent_slope=_mean_by_row(torch.stack([norms.slopes(tangent) for tangent in tangents], 1), row, rows),
        value=data.values.var(0).to(like),
        derivative=_mean_by_row(derivative.square().to(like), row, rows),
    )


def _mean_by_row(squares: Tensor, row: Tensor, rows: int) -> Tensor:
    """(R, k) means of (S, T, k) by row (S, T); of everything for a row that does not occur."""
    parts = [squares[row == r] if bool((row == r).any()) else squares.flatten(0, 1) for r in range(rows)]
    return torch.stack([part.mean(0) for part in parts])
