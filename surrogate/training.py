"""Derivative-informed training: fields, their slopes, their tangents, and the design gradient of the functionals.

One exact forward-mode pass (``torch.func.jvp``) along a design direction gives the fields and their material
derivatives; a reverse pass through it gives the gradient in the weights.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from geometries.integration import cell_points, nodal_weights
from surrogate.accuracy import measure
from surrogate.dataset import Dataset
from surrogate.design_surrogate import DesignSurrogate
from surrogate.parameter_groups import parameter_groups
from surrogate.tensor_galore import TensorGaLore


class TrainingError(RuntimeError):
    """Training cannot go on; the text says at which step and what to change."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        optimizer: adamw, or tensor_galore, whose moments take less memory.
        rank, update_gap, moments: of :class:`surrogate.tensor_galore.TensorGaLore`; AdamW has no use for them.
        steps, batch, learning_rate, weight_decay: with warm-up and cosine decay to zero.
        slope_weight: of the error in the fields' spatial gradients.
        tangent_weight: of the error in material derivatives.
        objective_weight, gradient_weight: of the functionals and of their derivatives along the direction.
        check_every: steps between looks at the held-out design gradient; the best weights are kept.
        patience: looks without improvement after which training stops.
        checkpoint_every: steps between checkpoints.
        seed: of the initial weights and of the order of the data.
    """

    optimizer: str = "adamw"
    rank: float = 0.25
    update_gap: int = 200
    moments: str = "full"
    steps: int = 3000
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-5
    slope_weight: float = 0.3
    tangent_weight: float = 0.5
    objective_weight: float = 0.1
    gradient_weight: float = 0.5
    check_every: int = 250
    patience: int = 8
    checkpoint_every: int = 250
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands; ``gradient_error`` is the held-out one, from the last look."""

    step: int
    steps: int
    loss: float
    gradient_error: float


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
    """Train in place; ends with the weights that had the least held-out design-gradient error.

    With ``checkpoint`` (a file) the state is saved there and a later call with the same configuration goes on
    from it, step for step as if it had not been broken off. The file is the caller's to keep apart by data and
    network: it holds neither.

    Returns:
        the history, one entry per look at the held-out set.

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
    optimizer = make_optimizer(surrogate, config)
    state = _State(best_error=math.inf, best_weights=_copy(surrogate), history=[], stale=0)
    start = _resume(checkpoint, config, surrogate, optimizer, state)
    for step in range(start, config.steps):
        if state.stale >= config.patience:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config.steps)
        batch, direction = _draw(data, config, step)
        loss = _loss(surrogate, batch, direction, scales, config)
        value = _finite("loss", float(loss.detach()), step, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(surrogate.parameters(), 1.0)
        _finite("gradient of the loss", float(norm), step, config)  # before the weights and a checkpoint have it
        optimizer.step()
        last = step + 1 == config.steps
        if last or (step + 1) % config.check_every == 0:
            error = _finite("held-out gradient error", measure(surrogate, held_out).gradient, step, config)
            _look(surrogate, state, Progress(step + 1, config.steps, value, error))
        if checkpoint and (last or (step + 1) % config.checkpoint_every == 0):
            _save(checkpoint, config, step + 1, surrogate, optimizer, state)
        error = state.history[-1].gradient_error if state.history else math.nan
        report(Progress(step + 1, config.steps, value, error))
    surrogate.load_state_dict(state.best_weights)
    return state.history


def _finite(what: str, value: float, step: int, config: TrainingConfig) -> float:
    if math.isfinite(value):
        return value
    raise TrainingError(
        f"the {what} is {value} at step {step}; lower training.learning_rate (now {config.learning_rate:g})"
        " or look for designs with extreme values in the samples"
    )


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


def make_optimizer(surrogate: DesignSurrogate, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the configuration names.

    Raises:
        ValueError: there is none of that name.
    """
    common = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(surrogate.parameters(), **common)
    if config.optimizer == "tensor_galore":
        own = {"rank": config.rank, "update_gap": config.update_gap, "moments": config.moments}
        return TensorGaLore(parameter_groups(surrogate), **common, **own)
    raise ValueError(f"optimizer is '{config.optimizer}'; allowed are adamw and tensor_galore")


@dataclass
class _State:
    """What changes from step to step beside the weights and the optimizer."""

    best_error: float
    best_weights: dict[str, Tensor]
    history: list[Progress]
    stale: int


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


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
        weights = nodal_weights(surrogate.shape_map.mesh, nodes)
        weights = weights / weights.sum(-1, keepdim=True)
        cells = cell_points(surrogate.shape_map.mesh, nodes)
        cell_weights = cells.weights / cells.weights.sum((-1, -2), keepdim=True)
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


def _look(surrogate: DesignSurrogate, state: _State, progress: Progress) -> None:
    """Enter a look at the held-out designs; the weights are kept if they are the best so far."""
    state.history.append(progress)
    if progress.gradient_error < state.best_error:
        state.best_error, state.best_weights, state.stale = progress.gradient_error, _copy(surrogate), 0
    else:
        state.stale += 1


def _copy(surrogate: DesignSurrogate) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in surrogate.state_dict().items()}


def _save(
    path: Path,
    config: TrainingConfig,
    step: int,
    surrogate: DesignSurrogate,
    optimizer: torch.optim.Optimizer,
    state: _State,
) -> None:
    part = path.with_name(path.name + ".part")
    content = {
        "config": asdict(config),
        "step": step,
        "weights": surrogate.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best_error": state.best_error,
        "best_weights": state.best_weights,
        "history": [asdict(progress) for progress in state.history],
        "stale": state.stale,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    part.write_bytes(buffer.getvalue())  # an OSError that names the cause, where torch.save would raise its own
    part.replace(path)


def _resume(
    path: Path | None,
    config: TrainingConfig,
    surrogate: DesignSurrogate,
    optimizer: torch.optim.Optimizer,
    state: _State,
) -> int:
    if path is None or not path.exists():
        return 0
    content = torch.load(path, weights_only=True, map_location=next(surrogate.parameters()).device)
    if content["config"] != asdict(config):
        return 0
    surrogate.load_state_dict(content["weights"])
    optimizer.load_state_dict(content["optimizer"])
    state.best_error, state.best_weights, state.stale = content["best_error"], content["best_weights"], content["stale"]
    state.history = [Progress(**entry) for entry in content["history"]]
    return int(content["step"])
