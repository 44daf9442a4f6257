"""Learning Burgers' equation from its residual on regular grids and the initial data alone.

How the residual's derivatives are formed is all that differs between variants: network, instances, grids and steps are
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapewright.surrogate.models.evolution import EvolutionOperator
from shapewright.surrogate.models.grid_derivatives import SpaceTimeDerivatives
from shapewright.surrogate.models.periodic_functions import GaussianRandomField, PeriodicFunctions
from shapewright.surrogate.training.loop import Progress, TrainerConfig, run_training
from shapewright.surrogate.training.residual_to_error import residual_to_error


@dataclass(frozen=True)
class EvolutionTrainingConfig(TrainerConfig):
    """How to train on the residual.

    Attributes:
        derivatives: one of :data:`evolution.DERIVATIVES`.
        collocation: n, points of the regular grid per axis: x = (i + a) / n and t = (j + b) / n, with a and b drawn
            anew for each step.
        viscosity: of the equation.
        preconditioned: make small the error that the residual stands for (:mod:`training.residual_to_error`), else the
            residual; both relative to the size of the initial data.
    """

    derivatives: str = "exact"
    collocation: int = 32
    viscosity: float = 0.01
    preconditioned: bool = True


@dataclass(frozen=True)
class EvolutionSolutions:
    """Solved initial data: fields (B, X, T) at x = i / X and T equidistant times from 0 to 1."""

    initial: PeriodicFunctions
    fields: Tensor


def burgers_residual(u: SpaceTimeDerivatives, viscosity: float) -> Tensor:
    """u_t + u u_x - viscosity u_xx."""
    return u.t + u.value * u.x - viscosity * u.xx


def train_evolution(
    network: EvolutionOperator,
    population: GaussianRandomField,
    held_out: EvolutionSolutions,
    config: EvolutionTrainingConfig,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train in place; ``held_out`` solutions only measure the error. See :func:`loop.run_training`."""
    return run_training(network, _EvolutionTask(network, population, held_out, config), config, checkpoint, report)


@dataclass(frozen=True)
class _EvolutionTask:
    network: EvolutionOperator
    population: GaussianRandomField
    held_out: EvolutionSolutions
    config: EvolutionTrainingConfig
    error_name: str = "squared relative error"

    def loss(self, step: int) -> Tensor:
        config, like = self.config, self.network.operator.projection.weight
        seed = config.seed * 1_000_003 + step
        initial = self.population.draw(config.batch, seed).to(like)
        across, later = np.random.default_rng(seed).random(2)
        x = (torch.arange(config.collocation) + across).to(like) / config.collocation
        t = (torch.arange(config.collocation) + later).to(like) / config.collocation
        u = self.network.derivatives(config.derivatives, self.network.encode(initial), initial, x, t)
        wrong = burgers_residual(u, config.viscosity)
        if config.preconditioned:
            wrong = residual_to_error(wrong, u.value, t, config.viscosity)
        size = initial.values(x).square().mean(-1)
        return (wrong.square().mean((1, 2)) / size).mean()

    def error(self) -> float:
        return float(squared_errors(self.network, self.held_out).mean())


def squared_errors(network: EvolutionOperator, solutions: EvolutionSolutions, batch: int = 4) -> Tensor:
    """(B,) squared relative L2 error over the space-time domain (trapezoidal in t)."""
    like = network.operator.projection.weight
    truth = solutions.fields.to(like)
    x = torch.arange(truth.shape[1]).to(like) / truth.shape[1]
    t = torch.linspace(0, 1, truth.shape[2]).to(like)
    weight = torch.ones_like(t)
    weight[[0, -1]] = 0.5
    parts = []
    with torch.no_grad():
        for start in range(0, len(truth), batch):
            initial = solutions.initial.subset(slice(start, start + batch)).to(like)
            wrong = network.fields(network.encode(initial), initial, x, t) - truth[start : start + batch]
            parts.append((wrong**2 * weight).sum((1, 2)))
    return torch.cat(parts) / (truth**2 * weight).sum((1, 2))
