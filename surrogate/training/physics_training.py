"""Learning a problem from its physics, with solutions as an addition: fresh instances at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.design.dirichlet_lift import DirichletLift
from shapewright.geometries.mesh.integration import CellPoints, nodal_weights
from shapewright.surrogate.models.instances import Instances, Population
from shapewright.surrogate.models.point_quantities import Function, quantities
from shapewright.surrogate.models.problem_operator import ProblemOperator, clouds, quadrature
from shapewright.surrogate.training.loop import Progress, TrainerConfig, run_training
from shapewright.surrogate.training.physics_loss import WeakResidual, energy

FIRST_SEED = 1_000_003
"""Least seed of the instances that a training draws: held-out instances of smaller seeds stay unseen."""


@dataclass(frozen=True)
class PhysicsTrainingConfig(TrainerConfig):
    """How to train on physics.

    Attributes:
        loss: energy, or weak_residual.
        points: least and largest number of points of the input clouds, drawn log-uniformly for each step.
        quadrature: pairs of orbits, 6 points each, of the rule in each cell.
        solution_weight: of the squared relative error on known solutions, if there are any.
        solution_batch: known solutions per step.
    """

    loss: str = "energy"
    points: tuple[int, int] = (300, 1500)
    quadrature: int = 1
    solution_weight: float = 1.0
    solution_batch: int = 4


@dataclass(frozen=True)
class Solutions:
    """Instances solved on the mesh of ``lift``: fields (S, N, c) at its nodes."""

    instances: Instances
    fields: Tensor
    lift: DirichletLift

    def __len__(self) -> int:
        return len(self.instances)


def train_on_physics(
    network: ProblemOperator,
    lifts: Sequence[DirichletLift],
    population: Population,
    held_out: Solutions,
    config: PhysicsTrainingConfig,
    known: Solutions | None = None,
    weights: Mapping[str, Function] | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train in place; ``held_out`` solutions only measure the error. See :func:`loop.run_training`.

    Args:
        network: to train.
        lifts: boundary values on meshes over which the physics is integrated, one after the other.
        population: what instances are drawn from.
        held_out: solved instances, by whose error the weights that are kept are chosen.
        config: how to train.
        known: solved instances to learn from, too.
        weights: of the weak residual, see :class:`physics_loss.WeakResidual`.
        checkpoint, report: see the trainer.
    """
    residuals = None
    if config.loss == "weak_residual":
        residuals = [WeakResidual(network.data, lift, weights).to(network.scale) for lift in lifts]
    task = _PhysicsTask(network, lifts, population, held_out, config, known, residuals)
    return run_training(network, task, config, checkpoint, report)


@dataclass(frozen=True)
class _PhysicsTask:
    network: ProblemOperator
    lifts: Sequence[DirichletLift]
    population: Population
    held_out: Solutions
    config: PhysicsTrainingConfig
    known: Solutions | None
    residuals: Sequence[WeakResidual] | None
    error_name: str = "squared relative error"

    def loss(self, step: int) -> Tensor:
        network, config = self.network, self.config
        which = step % len(self.lifts)
        lift = self.lifts[which]
        seed = (config.seed + 1) * FIRST_SEED + step
        instances = self.population.draw(config.batch, seed).to(network.scale)
        low, high = np.log(config.points)
        count = round(float(np.exp(low + (high - low) * np.random.default_rng(seed).random())))
        with torch.no_grad():
            interior, boundary = clouds(lift, instances, count, seed)
            cells = quadrature(lift, instances, config.quadrature, seed)
        latent = network.encode(instances, interior, boundary)
        fields = network.fields(latent, instances, lift, cells)
        q = quantities(network.data, cells.points.flatten(1, 2), fields, instances.parameters)
        each = energy(network.data, q, cells) if self.residuals is None else self.residuals[which](q, cells)
        loss = (each / self._size(fields.values, cells)).mean()
        if self.known is not None and config.solution_weight > 0:
            loss = loss + config.solution_weight * self._misfit(self.known, count, seed)
        return loss

    def _size(self, values: Tensor, cells: CellPoints) -> Tensor:
        """(B,) mean square of the first field, so that instances of small fields weigh as much as others.

        Solutions are where every instance's own loss is least, whatever its factor; one that is never below a
        twentieth of the typical size keeps the gradient bounded.
        """
        primary, weights = self.network.data.primary, cells.weights.flatten(1)
        square = values.detach()[..., :primary].square().sum(-1)
        typical = self.network.scale[:primary].square().sum()
        return (square * weights).sum(-1) / weights.sum(-1) + typical / 20

    def _misfit(self, known: Solutions, count: int, seed: int) -> Tensor:
        chosen = torch.from_numpy(np.random.default_rng(seed).permutation(len(known))[: self.config.solution_batch])
        part = Solutions(known.instances.subset(chosen), known.fields[chosen], known.lift)
        return squared_errors(self.network, part, count, seed).mean()

    def error(self) -> float:
        with torch.no_grad():
            return float(held_out_errors(self.network, self.held_out, points=self.config.points[1]).mean())


def squared_errors(network: ProblemOperator, solutions: Solutions, points: int, seed: int = 0) -> Tensor:
    """(S,) squared relative L2 error of the first field: int |u - u_fem|^2 / int |u_fem|^2."""
    instances = solutions.instances.to(network.scale)
    nodes = solutions.lift.shape_map.nodes(instances.theta)
    interior, boundary = clouds(solutions.lift, instances, points, seed)
    latent = network.encode(instances, interior, boundary)
    predicted = network.nodal_fields(latent, instances, solutions.lift, nodes)
    weights = nodal_weights(solutions.lift.shape_map.mesh, nodes)[..., None]
    predicted, truth = (fields[..., : network.data.primary] for fields in (predicted, solutions.fields.to(predicted)))
    return ((predicted - truth) ** 2 * weights).sum((1, 2)) / (truth**2 * weights).sum((1, 2))


def held_out_errors(
    network: ProblemOperator, solutions: Solutions, points: int, batch: int = 8, seed: int = 0
) -> Tensor:
    """(S,) :func:`squared_errors`, some instances at a time."""
    parts = [
        squared_errors(
            network,
            Solutions(
                solutions.instances.subset(slice(k, k + batch)), solutions.fields[k : k + batch], solutions.lift
            ),
            points,
            seed,
        )
        for k in range(0, len(solutions), batch)
    ]
    return torch.cat(parts)
