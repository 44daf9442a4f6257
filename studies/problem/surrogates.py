"""Building, training and loading the surrogate of a study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.studies.problem.design_training import (
    DesignProblem,
    TrainingData,
    hardware,
    split_held_out,
    train_network,
)
from shapewright.studies.problem.novelty import designs_of_box
from shapewright.studies.problem.samples import Samples
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.loader import StudyError
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.design_surrogate import DesignSurrogate, Normalization
from shapewright.surrogate.models.model_card import ModelCard
from shapewright.surrogate.models.weights_file import (
    SurrogateFileError,
    load_grid,
    load_mesh,
    load_surrogate,
    load_weights,
)
from shapewright.surrogate.training.allocator import keep_freed_memory
from shapewright.surrogate.training.dataset import Dataset
from shapewright.surrogate.training.derivative_informed import TrainingConfig
from shapewright.surrogate.training.loop import Progress

__all__ = [
    "build_surrogate",
    "choose_device",
    "design_problem",
    "hardware",
    "normalization_of",
    "open_surrogate",
    "refreshing",
    "split_held_out",
    "train_surrogate",
    "training_config",
]


def design_problem(setup: Setup) -> DesignProblem:
    """What the study's surrogate is made of and trained by."""
    model, fine_tuning = setup.study.model.surrogate, setup.study.model.training.fine_tuning
    return DesignProblem(
        shape_map=setup.shape_map,
        space=setup.space,
        functionals=setup.problem.functionals,
        factor=torch.from_numpy(setup.factors()),
        operator=OperatorConfig(
            model.width, model.hidden, model.modes_per_axis, model.layers, model.mollifier
        ),
        grid=model.grid,
        radius=model.radius,
        grading_length=model.grading,
        contrast=model.contrast,
        bounds=setup.family.bounds,
        training=training_config(setup),
        fine_tuning=None if fine_tuning is None else fine_tuning.model_dump(),
        trained_for=setup.trained_for(),
        training_section=setup.study.model.training.model_dump(exclude_none=True),
        box={p.name: [p.lower, p.upper] for p in setup.family.parameters},
    )


def build_surrogate(
    setup: Setup, normalization: Normalization | None = None, grid: LatentGrid | None = None
) -> DesignSurrogate:
    """The study's network with fresh weights, in float32.

    Raises:
        StudyError: the latent grid is too small for the radius or for the modes.
    """
    try:
        return design_problem(setup).network(normalization, grid)
    except ValueError as error:
        raise StudyError(f"{setup.study.location('surrogate.grid')}: surrogate.grid: {error}") from error


def normalization_of(setup: Setup, data: Dataset, reference: Tensor) -> Normalization:
    """Reference fields (N, c), Dirichlet factors, and the size of the change over the training set."""
    return design_problem(setup).normalization(data, reference)


def train_surrogate(
    setup: Setup,
    samples: Samples,
    path: Path,
    device: str,
    report: Callable[[Progress], None] = lambda progress: None,
) -> ModelCard | None:
    """Train and write ``path`` (safetensors) with its model card; a broken-off training goes on.

    The card is None in all but the first of processes that train together.

    Args:
        setup: study.
        samples: solved designs; half of the held-out ones choose the best weights, the others measure their errors.
        path: of the weights.
        device: cpu or cuda.
        report: called after every step.

    Raises:
        StudyError: the latent grid is too small for the radius or for the modes.
        TrainingError: the loss is not finite.
    """
    build_surrogate(setup)  # refuses a latent grid with its line in the study
    problem = design_problem(setup)
    typical = partial(designs_of_box, setup, problem.box)
    return train_network(problem, TrainingData(*samples, typical), path, device, report)


def refreshing(progress: Progress) -> str:
    """What a training's progress says of its optimizer's subspaces, if it has any."""
    return "" if progress.refreshing is None else f", refreshes {progress.refreshing:.1%} of the time"


def training_config(setup: Setup) -> TrainingConfig:
    """The study's training section as the trainer takes it, without its fine-tuning."""
    return TrainingConfig(**setup.study.model.training.model_dump(exclude={"fine_tuning"}))


def open_surrogate(setup: Setup, path: Path, device: str = "cpu") -> tuple[DesignSurrogate, ModelCard]:
    """The surrogate in float64, so that its design gradient is exact to rounding.

    Raises:
        SurrogateFileError: no such file, or trained for another study: says what differs.
    """
    keep_freed_memory()
    model = setup.study.model.surrogate
    try:
        weights, card = load_surrogate(path, setup.trained_for())
        mesh, _ = load_mesh(path, setup.family.tags)
        if not _same_mesh(mesh, setup.shape_map.mesh):
            raise SurrogateFileError(f"{path}: its reference mesh is not one of this study's geometry")
        surrogate = build_surrogate(setup, grid=load_grid(path, model.grid, model.radius))
        load_weights(path, surrogate, weights)
    except SurrogateFileError as error:
        if model.weights is None or path != setup.study.folder / model.weights:
            raise
        key = "surrogate.weights"
        raise SurrogateFileError(f"{setup.study.location(key)}: {key}: {error}") from error
    return surrogate.double().to(device).eval().requires_grad_(False), card


def _same_mesh(first: Mesh, second: Mesh) -> bool:
    """Whether weights that belong to the nodes of one mesh belong to those of the other."""
    parts = ("cells", "facets", "facet_tags")
    size = float(np.ptp(second.nodes, axis=0).max())
    return (
        first.nodes.shape == second.nodes.shape
        and float(np.abs(first.nodes - second.nodes).max()) < 1e-6 * size
        and all(np.array_equal(getattr(first, part), getattr(second, part)) for part in parts)
    )


def choose_device(name: str) -> str:
    """``auto`` takes a GPU where there is one.

    Raises:
        StudyError: unknown device, or no GPU where one is asked for.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise StudyError(f"--device: found '{name}'; expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise StudyError("--device: found cuda, but torch sees no CUDA device here; expected auto or cpu")
    return "cuda" if available and name != "cpu" else "cpu"
