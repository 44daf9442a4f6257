"""Building, training and loading the surrogate of a study."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from studies.familiarity import correlation_with_error, familiarity_of
from studies.loader import StudyError
from studies.setup import Setup
from studies.work_clock import WorkClock
from surrogate.accuracy import measure
from surrogate.allocator import keep_freed_memory
from surrogate.dataset import Dataset
from surrogate.design_surrogate import DesignSurrogate, Normalization, latent_grid_for
from surrogate.graded_coordinates import GradedCoordinates
from surrogate.latent_grid import LatentGrid
from surrogate.model_card import (
    ModelCard,
    SurrogateFileError,
    half_precision,
    load_grid,
    load_surrogate,
    reference_tensors,
    save_surrogate,
)
from surrogate.operator import OperatorConfig
from surrogate.trainer import Progress
from surrogate.training import TrainingConfig, train


def build_surrogate(
    setup: Setup, normalization: Normalization | None = None, grid: LatentGrid | None = None
) -> DesignSurrogate:
    """The study's network with fresh weights, in float32.

    Raises:
        StudyError: the latent grid is too small for the radius or for the modes.
    """
    model = setup.study.model.surrogate
    components = setup.space.components
    count = len(setup.shape_map.mesh.nodes)
    if normalization is None:
        factor = torch.from_numpy(setup.factors()).float()
        normalization = Normalization(
            torch.zeros(count, len(components)), factor, torch.ones(len(components))
        )
    family, grading = setup.family, None
    if model.grading is not None:
        center = family.part_points(family.default).mean(0)
        grading = GradedCoordinates(tuple(center.tolist()), model.grading)
    torch.manual_seed(setup.study.model.training.seed)
    try:
        surrogate = DesignSurrogate(
            setup.shape_map,
            setup.space,
            setup.problem.functionals,
            OperatorConfig(model.width, model.hidden, model.modes_per_axis, model.layers, model.mollifier),
            grid or latent_grid_for(setup.shape_map, model.grid, model.radius, grading, family.bounds),
            normalization,
            grading,
            model.contrast,
        )
    except ValueError as error:
        raise StudyError(f"{setup.study.place('surrogate.grid')}: surrogate.grid: {error}") from error
    return surrogate.float()


def normalization_of(setup: Setup, data: Dataset, reference: Tensor) -> Normalization:
    """Reference fields (N, c), Dirichlet factors, and the size of the change over the training set."""
    factor = torch.from_numpy(setup.factors()).float()
    change = (data.solution - reference.float()).square().mean((0, 1))
    return Normalization(reference.float(), factor, torch.sqrt(change / factor.square().mean(0)))


def train_surrogate(
    setup: Setup,
    data: Dataset,
    held_out: Dataset,
    reference: Tensor,
    path: Path,
    device: str,
    report: Callable[[Progress], None] = lambda progress: None,
) -> ModelCard:
    """Train and write ``path`` (safetensors) with its model card; a broken-off training goes on.

    Args:
        setup: study.
        data, held_out: solved designs; half of the latter choose the best weights, the others judge them.
        reference: (N, c) fields of the reference design.
        path: of the weights.
        device: cpu or cuda.
        report: called after every step.

    Raises:
        surrogate.trainer.TrainingError: the loss is not finite.
    """
    keep_freed_memory()
    surrogate = build_surrogate(setup, normalization_of(setup, data, reference)).to(device)
    checkpoint = path.with_name(path.name + ".checkpoint")
    stages, finish = {checkpoint: training_config(setup)}, setup.study.model.training.finish
    if finish is not None:
        stages[path.with_name(checkpoint.name + ".finish")] = replace(stages[checkpoint], **finish.model_dump())
    clock = WorkClock(checkpoint.with_name(checkpoint.name + ".seconds"))
    choosing, judging = halves(held_out)

    def step(progress: Progress) -> None:
        clock.tick()
        report(progress)

    for number, (file, config) in enumerate(stages.items()):  # each from the best weights of the one before
        train(surrogate, data, choosing, config, file, step, trained=number > 0)
    weights = half_precision(surrogate)
    box = {p.name: [p.lower, p.upper] for p in setup.family.parameters}
    card = ModelCard(
        trained_for=setup.trained_for(),
        training=setup.study.model.training.model_dump(exclude_none=True),
        data_hash=data.hash,
        designs=len(data),
        held_out=measure(surrogate, judging),
        hardware=hardware(device),
        seconds=round(clock.total, 1),
        box=box,
        correlation=correlation_with_error(familiarity_of(setup, surrogate, box), judging),
    )
    grid = surrogate.operator.grid
    save_surrogate(path, weights | reference_tensors(setup.shape_map.mesh, grid), card)
    for file in (*stages, clock.file):
        file.unlink(missing_ok=True)
    return card


def refreshing(progress: Progress) -> str:
    """What a training's progress says of its optimizer's subspaces, if it has any."""
    return "" if progress.refreshing is None else f", refreshes {progress.refreshing:.1%} of the time"


def halves(held_out: Dataset) -> tuple[Dataset, Dataset]:
    """Designs by which weights are chosen, and those by which they are judged; a single one has to do for both."""
    half = len(held_out) // 2
    return held_out.subset(slice(0, half or 1)), held_out.subset(slice(half, len(held_out)))


def training_config(setup: Setup) -> TrainingConfig:
    """The study's training section as the trainer takes it, without its finish."""
    return TrainingConfig(**setup.study.model.training.model_dump(exclude={"finish"}))


def open_surrogate(setup: Setup, path: Path, device: str = "cpu") -> tuple[DesignSurrogate, ModelCard]:
    """The surrogate in float64, so that its design gradient is exact to rounding.

    Raises:
        surrogate.model_card.SurrogateFileError: no such file, or trained for another study: says what differs.
    """
    keep_freed_memory()
    weights, card = load_surrogate(path, setup.trained_for())
    model = setup.study.model.surrogate
    surrogate = build_surrogate(setup, grid=load_grid(path, model.grid, model.radius))
    try:
        surrogate.load_state_dict(weights)
    except RuntimeError as error:
        raise SurrogateFileError(f"{path}: its weights do not fit this study's network: {error}") from error
    return surrogate.double().to(device).eval().requires_grad_(False), card


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
