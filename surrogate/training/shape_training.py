"""Training of an operator for all shapes by energy alone: no solution is used, fresh problems at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from shapewright.surrogate.models.galerkin import energy_error, gain
from shapewright.surrogate.models.shape_operator import ShapeOperator
from shapewright.surrogate.models.shapes import Shapes
from shapewright.surrogate.models.sparse_solution import finite_element_gain
from shapewright.surrogate.training.loop import Progress, TrainerConfig, run_training
from shapewright.surrogate.training.shape_population import Draw, ShapePopulation, draw
from shapewright.surrogate.training.step_graph import GraphedLoss

FIRST_SEED = 2_000_003
"""Least seed of the problems that a training draws; held-out ones have smaller seeds."""
TRIVIAL = 1e-3
"""Energy, with data of order one, below which a problem hardly counts: the same value prescribed all round has none."""
DRAWN_AT_ONCE = 8
"""Batches of problems; drawing them is many small operations, which take a GPU as long for eight as for one."""


@dataclass(frozen=True)
class ReferenceProblems:
    """Dimensionless problems with the energy that finite elements gain on the same meshes.

    Attributes:
        shapes: problems.
        gain: (B,) twice that energy.
    """

    shapes: Shapes
    gain: Tensor


def reference_problems(
    network: ShapeOperator, population: ShapePopulation, how: Draw, count: int, seed: int
) -> ReferenceProblems:
    """``count`` problems of a population, solved on the CPU in double precision."""
    generator = torch.Generator().manual_seed(seed)
    shapes = draw(population.to("cpu"), how, count, generator)
    precise = shapes.to(torch.zeros(0, dtype=torch.float64))
    return ReferenceProblems(shapes, finite_element_gain(network.physics, precise))


def energy_errors(network: ShapeOperator, reference: ReferenceProblems, at_once: int = 16) -> Tensor:
    """(B,) relative errors of the operator's solutions in the energy norm against finite elements on the same mesh."""
    like = next(network.parameters())
    found = []
    with torch.no_grad():
        for start in range(0, len(reference.shapes), at_once):
            shapes = reference.shapes.subset(slice(start, start + at_once)).to(like)
            exact = reference.gain[start : start + at_once].to(like.device)
            found.append(energy_error(network(shapes), exact.double()).cpu())
    return torch.cat(found)


def train_on_energy(
    network: ShapeOperator,
    population: ShapePopulation,
    how: Draw,
    held_out: ReferenceProblems,
    config: TrainerConfig,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train in place; ``held_out`` problems only measure the error. See :func:`loop.run_training`.

    On a GPU the steps are replayed from a CUDA graph. The loss of a problem is minus the logarithm of the energy that
    the operator's fields gain over that of the lifting: its gradient is that of the square of the relative error in
    the energy norm, however slender the domain is.
    """
    task = _EnergyTask(network, population, how, held_out, config, _loss(network, population, how, config))
    return run_training(network, task, config, checkpoint, report)


def _loss(
    network: ShapeOperator, population: ShapePopulation, how: Draw, config: TrainerConfig
) -> Callable[..., Tensor]:
    def loss(*arrays: Tensor) -> Tensor:
        system = network(Shapes(*arrays))
        return -(gain(system) + system.lifting_matrix + TRIVIAL).log().mean()

    if population.nodes.device.type != "cuda":
        return loss
    generator = torch.Generator(population.nodes.device).manual_seed(0)
    example = draw(population, how, config.batch, generator)
    return GraphedLoss(loss, example.tensors, list(network.parameters()))


@dataclass(frozen=True)
class _EnergyTask:
    network: ShapeOperator
    population: ShapePopulation
    how: Draw
    held_out: ReferenceProblems
    config: TrainerConfig
    loss_of: Callable[..., Tensor]
    error_name: str = "relative error in the energy norm"
    _drawn: dict[int, Shapes] = field(default_factory=dict)

    def loss(self, step: int) -> Tensor:
        group, place = divmod(step, DRAWN_AT_ONCE)
        if group not in self._drawn:
            self._drawn.clear()
            seed = (self.config.seed + 1) * FIRST_SEED + group
            generator = torch.Generator(self.population.nodes.device).manual_seed(seed)
            self._drawn[group] = draw(self.population, self.how, DRAWN_AT_ONCE * self.config.batch, generator)
        return self.loss_of(*self._drawn[group].subset(slice(place, None, DRAWN_AT_ONCE)).tensors)

    def error(self) -> float:
        return float(energy_errors(self.network, self.held_out).mean())
