"""Training of a design study's surrogate from its problem and its data alone.

Needs neither dolfinx nor gmsh, nor what reads a study: :mod:`problem.surrogates` takes the problem from a study, the
kit for a GPU machine (:mod:`benchmarks.gpu`) from a bundle that was made where the study can be read.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.surrogate.mgno.graded_coordinates import GradedCoordinates
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.design_surrogate import DesignSurrogate, Normalization, latent_grid_for
from shapewright.surrogate.models.functionals import Functional
from shapewright.surrogate.models.model_card import ModelCard
from shapewright.surrogate.models.novelty import novelty_over
from shapewright.surrogate.models.weights_file import half_precision, reference_tensors, write_weights
from shapewright.surrogate.training import processes
from shapewright.surrogate.training.accuracy import correlation_with_error, measure
from shapewright.surrogate.training.allocator import keep_freed_memory
from shapewright.surrogate.training.dataset import Dataset
from shapewright.surrogate.training.derivative_informed import TrainingConfig, train
from shapewright.surrogate.training.loop import Progress
from shapewright.surrogate.training.work_clock import WorkClock


@dataclass(frozen=True)
class DesignProblem:
    """All that the surrogate of a study is made of and trained by, beside its data.

    Attributes:
        shape_map: family on the reference mesh of N nodes.
        space: components, coefficients and sources.
        functionals: the objective first.
        factor: (N, c) functions that vanish where prescribed values ride on the map.
        operator: sizes of the network.
        grid, radius: shape of the latent grid, and of a neighbourhood in its spacings.
        grading_length, contrast: see :class:`design_surrogate.DesignSurrogate`; None for none.
        bounds: (P, 2) of the study's parameters.
        training: how the network is trained.
        finish: what a second, shorter training changes of that; None for none.
        trained_for: what the weights are good for, as plain data.
        training_section: the study's training section, as the card states it.
        box: parameter -> bounds of the training designs.
    """

    shape_map: ShapeMap
    space: FieldSpace
    functionals: Sequence[Functional]
    factor: Tensor
    operator: OperatorConfig
    grid: tuple[int, ...]
    radius: int
    grading_length: float | None
    contrast: float | None
    bounds: Tensor
    training: TrainingConfig
    fine_tuning: Mapping[str, Any] | None = None
    trained_for: Mapping[str, Any] = field(default_factory=dict)
    training_section: Mapping[str, Any] = field(default_factory=dict)
    box: Mapping[str, list[float]] = field(default_factory=dict)

    def network(self, normalization: Normalization | None = None, grid: LatentGrid | None = None) -> DesignSurrogate:
        """The network with fresh weights, in float32; without a normalization it predicts fields, not changes.

        Raises:
            ValueError: the latent grid is too small for the radius or for the modes.
        """
        if normalization is None:
            shape = self.factor.shape
            normalization = Normalization(torch.zeros(shape), self.factor.float(), torch.ones(shape[1]))
        family, grading = self.shape_map.origin, None
        if self.grading_length is not None:
            center = family.part_points(family.default).mean(0)
            grading = GradedCoordinates(tuple(center.tolist()), self.grading_length)
        torch.manual_seed(self.training.seed)
        return DesignSurrogate(
            self.shape_map,
            self.space,
            self.functionals,
            self.operator,
            grid or latent_grid_for(self.shape_map, self.grid, self.radius, grading, self.bounds),
            normalization,
            grading,
            self.contrast,
        ).float()

    def normalization(self, data: Dataset, reference: Tensor) -> Normalization:
        """Reference fields (N, c), Dirichlet factors, and the size of the change over the training set."""
        factor = self.factor.float()
        change = (data.solution - reference.float()).square().mean((0, 1))
        return Normalization(reference.float(), factor, torch.sqrt(change / factor.square().mean(0)))


@dataclass(frozen=True)
class TrainingData:
    """What a training is given.

    Attributes:
        designs, held_out: solved designs; half of the latter choose the best weights, the others give errors.
        reference: (N, c) fields of the reference design.
        typical: reference designs (S, P) of the training box, and further ones, for the distance of a design from
            what was learnt.
        hash: of the designs as they were solved, where those here are rounded; None for their own.
    """

    designs: Dataset
    held_out: Dataset
    reference: Tensor
    typical: Callable[[], tuple[Tensor, Tensor]]
    hash: str | None = None


def train_network(
    problem: DesignProblem,
    data: TrainingData,
    path: Path,
    device: str,
    report: Callable[[Progress], None] = lambda progress: None,
    graphed: bool = False,
) -> ModelCard | None:
    """Train and write ``path`` (safetensors) with its model card; a broken-off training goes on.

    Where processes train together all of them call this; the first one writes, and has the card. ``graphed`` replays
    steps from a CUDA graph, see :func:`derivative_informed.train`.

    Raises:
        TrainingError: the loss is not finite.
    """
    keep_freed_memory()
    network = problem.network(problem.normalization(data.designs, data.reference)).to(device)
    checkpoint = path.with_name(path.name + ".checkpoint")
    stages = {checkpoint: problem.training}
    if problem.fine_tuning is not None:
        stages[path.with_name(checkpoint.name + ".finish")] = replace(problem.training, **problem.fine_tuning)
    clock = WorkClock(checkpoint.with_name(checkpoint.name + ".seconds"))
    choosing, _ = split_held_out(data.held_out)

    def step(progress: Progress) -> None:
        clock.tick()
        report(progress)

    for number, (file, config) in enumerate(stages.items()):  # each from the best weights of the one before
        train(network, data.designs, choosing, config, file, step, trained=number > 0, graphed=graphed)
    if not processes.is_first():
        return None
    card = save_trained(problem, network, data, path, device, clock.total)
    for file in (*stages, clock.file):
        file.unlink(missing_ok=True)
    return card


def save_trained(
    problem: DesignProblem, network: DesignSurrogate, data: TrainingData, path: Path, device: str, seconds: float
) -> ModelCard:
    """Write the network in half precision with its card, whose errors are those of the half that did not choose."""
    weights = half_precision(network)
    measured = split_held_out(data.held_out)[1].to(device)
    card = ModelCard(
        trained_for=dict(problem.trained_for),
        training=dict(problem.training_section),
        data_hash=data.hash or data.designs.hash,
        designs=len(data.designs),
        held_out=measure(network, measured),
        hardware=hardware(device),
        seconds=round(seconds, 1),
        box=dict(problem.box),
        correlation=correlation_with_error(novelty_over(network, *data.typical()), measured),
    )
    write_weights(path, weights | reference_tensors(problem.shape_map.mesh, network.operator.grid), card)
    return card


def split_held_out(held_out: Dataset) -> tuple[Dataset, Dataset]:
    """Designs by which weights are chosen, and those on which errors are measured; a single one serves for both."""
    half = len(held_out) // 2
    return held_out.subset(slice(0, half or 1)), held_out.subset(slice(half, len(held_out)))


def hardware(device: str) -> dict[str, str]:
    """What the numbers were made on."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
