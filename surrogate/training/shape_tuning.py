"""Tuning of an operator for all shapes to the shapes of one study, by energy alone: no solution is learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shapewright.surrogate.models.galerkin import gain
from shapewright.surrogate.models.shape_operator import ShapeOperator
from shapewright.surrogate.models.shapes import Shapes
from shapewright.surrogate.training.loop import Progress, TrainerConfig, run_training
from shapewright.surrogate.training.shape_training import TRIVIAL, ReferenceProblems, energy_errors


@dataclass(frozen=True)
class _Tuning:
    network: ShapeOperator
    problems: Callable[[int], Shapes]
    held_out: ReferenceProblems
    error_name: str = "relative error in the energy norm"

    def loss(self, step: int) -> Tensor:
        system = self.network(self.problems(step))
        return -(gain(system) + system.lifting_matrix + TRIVIAL).log().mean()

    def error(self) -> float:
        return float(energy_errors(self.network, self.held_out).mean())


def tune_on_energy(
    network: ShapeOperator,
    problems: Callable[[int], Shapes],
    held_out: ReferenceProblems,
    config: TrainerConfig,
    checkpoint: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train in place on the ``problems`` of each step; the weights with the least held-out error are kept.

    The loss is that of :func:`shape_training.train_on_energy`. ``held_out`` problems only measure. What else: see
    :func:`loop.run_training`.
    """
    return run_training(network, _Tuning(network, problems, held_out), config, checkpoint, report, trained=True)
