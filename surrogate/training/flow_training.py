"""Training of an operator for all shapes of a flow on finite-element solutions that are made on the fly.

A saddle point has no energy to descend. The loss is what the span of the operator's fields misses of a solution: of the
velocity in the energy norm, of the pressure in the mean square, each relative. Amplitudes are not learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapewright.surrogate.models.flow_operator import FlowOperator
from shapewright.surrogate.models.flow_solution import flow_solutions
from shapewright.surrogate.models.galerkin import System, assemble, gain
from shapewright.surrogate.models.shapes import Shapes
from shapewright.surrogate.training.flow_population import draw_flows
from shapewright.surrogate.training.loop import Progress, TrainerConfig, run_training
from shapewright.surrogate.training.shape_population import Draw, ShapePopulation

FIRST_SEED = 2_000_003
"""Least seed of the problems that a training draws; held-out ones have smaller seeds."""
BATCHES, TIMES = 12, 3
"""Batches of problems that are solved together, and how often each problem is seen before new ones are drawn."""
PRESSURE = 0.3
"""Weight of the pressure's error."""
SMALL = 1e-6
"""Square of a relative error below which it hardly counts."""


@dataclass(frozen=True)
class SolvedFlows:
    """Dimensionless problems with their solutions on the same meshes: velocities (B, N, 2), pressures (B, N)."""

    shapes: Shapes
    velocity: Tensor
    pressure: Tensor

    def __len__(self) -> int:
        return len(self.velocity)

    def subset(self, index: Tensor | slice) -> SolvedFlows:
        """The problems ``index``."""
        return SolvedFlows(self.shapes.subset(index), self.velocity[index], self.pressure[index])

    def to(self, like: Tensor) -> SolvedFlows:
        """On the device and of the floating type of ``like``."""
        return SolvedFlows(self.shapes.to(like), self.velocity.to(like), self.pressure.to(like))


def solved_flows(population: ShapePopulation, how: Draw, count: int, seed: int) -> SolvedFlows:
    """``count`` problems of a population, solved in double precision."""
    shapes = draw_flows(population, how, count, torch.Generator().manual_seed(seed))
    velocity, pressure = flow_solutions(shapes.to(torch.zeros(0, dtype=torch.float64)))
    return SolvedFlows(shapes, velocity.float(), pressure.float())


def span_errors(network: FlowOperator, flows: SolvedFlows) -> tuple[Tensor, Tensor]:
    """Squares (B,) of what the span misses of velocities and of pressures, relative."""
    shapes = flows.shapes
    velocities, pressures = network.both(shapes)
    target = torch.stack([flows.velocity - shapes.lifting, flows.velocity], -1)
    matrix = assemble(network.physics, shapes, torch.cat([velocities, target], -1)).matrix
    inside = shapes.cell_points(3)
    every = torch.cat([pressures, flows.pressure[..., None]], -1)
    at = inside.interpolate(every)
    masses = torch.einsum("beqf,beqg,beq->bfg", at, at, inside.weights)
    velocity = _missed(matrix[:, :-1, :-1], matrix[:, -1, -1])
    return velocity, _missed(masses, masses[:, -1, -1])


def _missed(matrix: Tensor, size: Tensor) -> Tensor:
    """(B,) of the last field's square, by the Gram matrix of all, what the others' span misses over ``size``."""
    found = gain(System(matrix[:, :-1, :-1], matrix[:, :-1, -1], torch.zeros_like(size)))
    return (matrix[:, -1, -1] - found).clamp_min(0.0) / size.clamp_min(torch.finfo(size.dtype).tiny)


def mean_span_errors(network: FlowOperator, flows: SolvedFlows, at_once: int = 16) -> tuple[Tensor, Tensor]:
    """(B,) relative errors of the best velocities and pressures of the span."""
    like, found = next(network.parameters()), []
    with torch.no_grad():
        for start in range(0, len(flows), at_once):
            found.append(span_errors(network, flows.subset(slice(start, start + at_once)).to(like)))
    velocity, pressure = (torch.cat(column).sqrt().double().cpu() for column in zip(*found, strict=True))
    return velocity, pressure


def train_on_solutions(
    network: FlowOperator,
    population: ShapePopulation,
    how: Draw,
    held_out: SolvedFlows,
    config: TrainerConfig,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train in place; ``held_out`` problems only measure the error. See :func:`loop.run_training`."""
    return run_training(network, _FlowTask(network, population, how, held_out, config), config, checkpoint, report)


def solves_of(config: TrainerConfig) -> int:
    """Solutions that a training takes."""
    return -(-config.steps // (BATCHES * TIMES)) * BATCHES * config.batch


@dataclass(frozen=True)
class _FlowTask:
    network: FlowOperator
    population: ShapePopulation
    how: Draw
    held_out: SolvedFlows
    config: TrainerConfig
    error_name: str = "relative error of the best velocity in the energy norm"
    _drawn: dict[int, SolvedFlows] = field(default_factory=dict)

    def loss(self, step: int) -> Tensor:
        group, place = divmod(step, BATCHES * TIMES)
        if group not in self._drawn:
            self._drawn.clear()
            seed = (self.config.seed + 1) * FIRST_SEED + group
            self._drawn[group] = solved_flows(self.population, self.how, BATCHES * self.config.batch, seed)
        flows, (turn, batch) = self._drawn[group], divmod(place, BATCHES)
        order = np.random.default_rng([group, turn]).permutation(len(flows))
        chosen = torch.from_numpy(order[batch :: BATCHES])
        velocity, pressure = span_errors(self.network, flows.subset(chosen).to(next(self.network.parameters())))
        return ((velocity + SMALL).sqrt() + PRESSURE * (pressure + SMALL).sqrt()).mean()

    def error(self) -> float:
        return float(mean_span_errors(self.network, self.held_out)[0].mean())
