"""The training loop for any task: schedule, clipping, evaluation of held-out errors, checkpoints, resumption."""

from __future__ import annotations

import hashlib
import io
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from shapewright.geometries.files import written_whole
from shapewright.surrogate.optim.subspace import Rank
from shapewright.surrogate.optim.tensor_galore import TensorGaLore
from shapewright.surrogate.training import processes
from shapewright.surrogate.training.interruption import Interruption, TrainingInterrupted
from shapewright.surrogate.training.parameter_groups import parameter_groups

MAGIC = b"shapewright checkpoint 1\n"
"""First bytes of a checkpoint; the SHA-256 of the rest follows."""
RENAMED_OPTIONS = {
    "slope_weight": "field_gradient_weight",
    "tangent_slope_weight": "tangent_gradient_weight",
    "average": "ema_decay",
    "discarded": "residual_weight",
}
"""Option in the configuration of a checkpoint as it was -> name now."""


class TrainingError(RuntimeError):
    """Training cannot go on; the text says at which step and what to change."""


@dataclass(frozen=True)
class TrainerConfig:
    """How the loop runs.

    Attributes:
        optimizer: tensor_galore, whose moments take less memory, or adamw.
        rank, rank_rule, update_gap, scale, residual_weight, moments: of :class:`tensor_galore.TensorGaLore`; AdamW
            has no use for them. A mapping as rank gives shares of modes by name, see
            :func:`parameter_groups.parameter_groups`.
        steps, batch, learning_rate, weight_decay: with warm-up and cosine decay to zero.
        check_every: steps between evaluations of the held-out error; the best weights are kept.
        patience: evaluations without improvement after which training stops.
        checkpoint_every: steps between checkpoints; an interrupted training is saved besides.
        ema_decay: decay of the running average of the weights that is evaluated and kept, B. Polyak and A. Juditsky,
            *Acceleration of Stochastic Approximation by Averaging* (1992); 0 for the weights themselves.
        seed: of the initial weights and of the order of the data.
    """

    optimizer: str = "tensor_galore"
    rank: Rank | Mapping[str, float] = field(default_factory=lambda: {"channels_in": 0.25})
    rank_rule: str = "spectrum"
    update_gap: int = 200
    scale: float | None = None
    residual_weight: float = 1.0
    moments: str = "full"
    steps: int = 3000
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-5
    check_every: int = 250
    patience: int = 8
    checkpoint_every: int = 250
    ema_decay: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step, steps: how many are done, of how many at most.
        loss: of the step.
        error: held out, from the last evaluation.
        refreshing: share of the time so far that went into refreshes of subspaces; None of an optimizer without any.
    """

    step: int
    steps: int
    loss: float
    error: float
    refreshing: float | None = field(default=None, compare=False)


class Task(Protocol):
    """What is learnt."""

    @property
    def error_name(self) -> str:
        """What the error on held-out data is, for messages."""
        ...

    def loss(self, step: int) -> Tensor:
        """The loss of a step; its data depend on the step alone, so that a resumed run sees the same.

        Where processes train together, the mean over them is the loss of the batch, see :mod:`training.processes`.
        """
        ...

    def error(self) -> float:
        """Error on held-out data, by which the best weights are chosen."""
        ...


def run_training(
    network: nn.Module,
    task: Task,
    config: TrainerConfig,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    trained: bool = False,
) -> list[Progress]:
    """Train in place; ends with the weights that had the least held-out error, of a ``trained`` network the first.

    With ``checkpoint`` (a file) the state is saved there and a later call with the same configuration goes on
    from it, step for step as if it had not been broken off; Ctrl-C and SIGTERM save it at the end of their step. The
    file is the caller's to keep apart by data and network: it holds neither. Processes that train together call this
    alike; the first one saves and reports.

    Returns:
        the history, one entry for each evaluation of the held-out data.

    Raises:
        TrainingError: a loss, a gradient or a held-out error is not finite, named with the step; or another process of
            the training has ended, or has found another checkpoint.
        TrainingInterrupted: by Ctrl-C or SIGTERM, a KeyboardInterrupt that says where the training is saved.
    """
    try:
        with processes.losses_reported():
            return _run(network, task, config, checkpoint, report, trained)
    except processes.PeerLostError as error:
        raise TrainingError(str(error)) from error


def _run(
    network: nn.Module,
    task: Task,
    config: TrainerConfig,
    checkpoint: Path | None,
    report: Callable[[Progress], None],
    trained: bool,
) -> list[Progress]:
    optimizer, began = make_optimizer(network, config), time.monotonic()
    averaged = _copy(network) if config.ema_decay else {}
    state = _State(math.inf, best_weights=_copy(network), averaged=averaged, history=[], stale=0)
    start = _resume(checkpoint, config, network, optimizer, state)
    _agree(start, network)
    if trained and start == 0:
        state.best_error = _error(network, task, 0, config)
    loss_of, first = processes.together(task.loss, network), processes.is_first()
    with Interruption() as interruption:
        for step in range(start, config.steps):
            if state.stale >= config.patience:
                break
            ends = interruption.noted is not None
            value, ends = _step(network, loss_of, config, optimizer, step, ends)
            _average(network, state, min(config.ema_decay, (step + 1) / (step + 10)))
            last = step + 1 == config.steps
            if last or (step + 1) % config.check_every == 0:
                with _averaged(network, state):
                    error = _error(network, task, step, config)
                    _evaluated(network, state, Progress(step + 1, config.steps, value, error))
            due = last or (step + 1) % config.checkpoint_every == 0
            if checkpoint and first and due:
                _save(checkpoint, config, step + 1, network, optimizer, state)
            error = state.history[-1].error if state.history else math.nan
            try:
                if first:
                    report(Progress(step + 1, config.steps, value, error, _refreshing(optimizer, began)))
            except KeyboardInterrupt as interrupt:
                interruption.noted = getattr(interrupt, "signal_number", signal.SIGINT)
            if ends or (interruption.noted is not None and processes.count() == 1):  # several end at the same step
                if checkpoint and first and not due:
                    _save(checkpoint, config, step + 1, network, optimizer, state)
                saved = f"the training is saved at step {step + 1} of {config.steps}" if checkpoint else ""
                raise TrainingInterrupted(saved, interruption.noted or signal.SIGINT)
    network.load_state_dict(state.best_weights)
    return state.history


def _step(
    network: nn.Module,
    loss_of: nn.Module,
    config: TrainerConfig,
    optimizer: torch.optim.Optimizer,
    step: int,
    ends: bool,
) -> tuple[float, bool]:
    """Take one step in place; the loss before it, and whether any of the processes is to end."""
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * _schedule(step, config.steps)
    loss = loss_of(step)
    value, share_ending = processes.means(loss.detach(), float(ends))
    _finite("loss", value, step, config)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    _finite("gradient of the loss", float(norm), step, config)  # before the weights and a checkpoint have it
    optimizer.step()
    return value, share_ending > 0


def make_optimizer(network: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """The optimizer that the configuration names.

    Raises:
        ValueError: there is none of that name.
        TrainingError: an option does not fit the network's tensors.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    if config.optimizer == "tensor_galore":
        try:
            return TensorGaLore(
                parameter_groups(network, config.rank),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                rank_rule=config.rank_rule,
                update_gap=config.update_gap,
                scale=config.scale,
                residual_weight=config.residual_weight,
                moments=config.moments,
            )
        except ValueError as error:
            raise TrainingError(f"training: {error}") from error
    raise ValueError(f"optimizer is '{config.optimizer}'; allowed are tensor_galore and adamw")


def _error(network: nn.Module, task: Task, step: int, config: TrainerConfig) -> float:
    """Held-out error, the same for all processes."""
    error = processes.of_first(task.error, next(network.parameters()))
    return _finite(f"held-out {task.error_name}", error, step, config)


def _agree(start: int, network: nn.Module) -> None:
    """Refuse processes that go on from different steps."""
    first = processes.of_first(lambda: float(start), next(network.parameters()))
    apart, _ = processes.means(next(network.parameters()).new_tensor(abs(first - start)), 0.0)
    if apart > 0:
        raise TrainingError(
            "processes that train together find different checkpoints; the output folder has to be the same on all"
            " machines (--out)"
        )


def _refreshing(optimizer: torch.optim.Optimizer, began: float) -> float | None:
    return optimizer.refresh_seconds / (time.monotonic() - began) if isinstance(optimizer, TensorGaLore) else None


@dataclass
class _State:
    """What changes from step to step beside the weights and the optimizer."""

    best_error: float
    best_weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    history: list[Progress]
    stale: int


def _finite(what: str, value: float, step: int, config: TrainerConfig) -> float:
    if math.isfinite(value):
        return value
    raise TrainingError(
        f"the {what} is {value} at step {step}; lower the learning_rate of this training (now {config.learning_rate:g})"
        " or look for designs with extreme values in the samples"
    )


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _average(network: nn.Module, state: _State, memory: float) -> None:
    """Let the averages follow the weights; buffers stay as they are, since no step changes them."""
    parameters = dict(network.named_parameters())
    for name in parameters.keys() & state.averaged.keys():
        state.averaged[name].mul_(memory).add_(parameters[name].detach(), alpha=1 - memory)


@contextmanager
def _averaged(network: nn.Module, state: _State) -> Iterator[None]:
    """The network with its averaged weights, for a while, if they are averaged at all."""
    if not state.averaged:
        yield
        return
    current = _copy(network)
    network.load_state_dict(state.averaged)
    try:
        yield
    finally:
        network.load_state_dict(current)


def _evaluated(network: nn.Module, state: _State, progress: Progress) -> None:
    """Record an evaluation on held-out data; the weights are kept if they are the best so far."""
    state.history.append(progress)
    if progress.error < state.best_error:
        state.best_error, state.best_weights, state.stale = progress.error, _copy(network), 0
    else:
        state.stale += 1


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _save(
    path: Path,
    config: TrainerConfig,
    step: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: _State,
) -> None:
    content = {
        "config": asdict(config),
        "step": step,
        "weights": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best_error": state.best_error,
        "best_weights": state.best_weights,
        "averaged": state.averaged,
        "history": [asdict(progress) for progress in state.history],
        "stale": state.stale,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    with written_whole(path) as part:  # an OSError that names the cause, where torch.save would raise its own
        part.write_bytes(MAGIC + hashlib.sha256(data).digest() + data)


def _load(path: Path | None, config: TrainerConfig, device: torch.device) -> dict[str, Any] | None:
    """What :func:`_save` left; None where there is nothing, or not a whole file, or one of another configuration."""
    content = None if path is None else read_checkpoint(path, device)
    if content is None:
        return None
    saved = {RENAMED_OPTIONS.get(name, name): value for name, value in content["config"].items()}
    return content if saved == asdict(config) else None


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What a training has saved in a file; None where there is none, or not a whole one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + 32
    if data[:start] != MAGIC + hashlib.sha256(data[start:]).digest():
        return None
    return torch.load(io.BytesIO(data[start:]), weights_only=True, map_location=device)


def _resume(
    path: Path | None,
    config: TrainerConfig,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: _State,
) -> int:
    content = _load(path, config, next(network.parameters()).device)
    if content is None:
        return 0
    network.load_state_dict(content["weights"])
    optimizer.load_state_dict(content["optimizer"])
    state.best_error, state.best_weights, state.stale = content["best_error"], content["best_weights"], content["stale"]
    state.averaged = content["averaged"]
    state.history = [Progress(**entry) for entry in content["history"]]
    return int(content["step"])
