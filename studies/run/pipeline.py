"""A design study as a list of stages, and what each command wants of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapewright.studies.certify.export import Exported
from shapewright.studies.certify.front_model import FrontResult
from shapewright.studies.certify.model import Certificate
from shapewright.studies.problem.samples import Samples
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.surrogates import train_surrogate
from shapewright.studies.run.failed_search import OptimizationError
from shapewright.studies.run.front import front_stage, front_stages
from shapewright.studies.run.infill import INFILL, Tuned
from shapewright.studies.run.optimum import FoundOptimum
from shapewright.studies.run.plan import decided
from shapewright.studies.run.resolved import write_study
from shapewright.studies.run.robust import COMPARE
from shapewright.studies.run.sample import SAMPLE
from shapewright.studies.run.search import OPTIMIZE
from shapewright.studies.run.stage import Run, Stage, run_stages
from shapewright.studies.run.together import Train
from shapewright.studies.run.train import SURROGATE, TRAIN, Operator, Surrogate, training
from shapewright.studies.run.validate import EXPORT, VALIDATE, leave_card
from shapewright.studies.schema.study import StudyModel

__all__ = [
    "OptimizationError",
    "Run",
    "certificate_of",
    "decided",
    "design_stages",
    "export",
    "find_optimum",
    "front_of",
    "infill",
    "sample",
    "surrogate_of",
    "train",
    "validate",
    "write_resolved",
]

STAGES: tuple[Stage[Any], ...] = (SAMPLE, TRAIN, SURROGATE, OPTIMIZE, INFILL, COMPARE, EXPORT, VALIDATE)


def design_stages(study: StudyModel) -> tuple[Stage[Any], ...]:
    """The stages of a study, each behind those that it needs."""
    if study.front is not None:
        return front_stages(study)
    unused: set[str] = set()
    tunes = study.infill is not None
    if study.optimizer.on == "fem" or study.undecided:
        unused |= {SAMPLE.name, TRAIN.name, SURROGATE.name, INFILL.name}
    elif study.operator is not None or study.surrogate.weights is not None:
        unused |= {TRAIN.name, *(() if tunes else (SAMPLE.name,))}
    if not tunes:
        unused.add(INFILL.name)
    if study.scatter is None or not study.scatter.compare:
        unused.add(COMPARE.name)
    return tuple(stage for stage in STAGES if stage.name not in unused)


def _no_front(run: Run[Setup]) -> None:
    """Refuse what makes a single optimum, of a study of a front."""
    if run.setup.study.model.front is not None:
        expected = "objective for a single optimum; `shapewright run` makes the whole front, and goes on where it was"
        raise run.setup.study.error("objectives", "a front", expected)


def write_resolved(run: Run[Setup], provenance: dict[str, Any]) -> None:
    """The study with every default, and what it is run with and on."""
    write_study(run.setup.study, run.workspace, provenance)


def sample(run: Run[Setup]) -> Samples:
    """Solved training and held-out designs, and the fields of the reference design."""
    _no_front(run)
    return run_stages(run, (SAMPLE,), SAMPLE)[SAMPLE]


def train(run: Run[Setup], by: Train = train_surrogate) -> Path:
    """File of the weights, trained from nothing in the output folder by this process alone or by several."""
    _no_front(run)
    return run_stages(run, (SAMPLE, training(by)), TRAIN)[TRAIN]


def surrogate_of(run: Run[Setup]) -> Surrogate | Operator:
    """The study's operator or shipped surrogate, or else the one trained here."""
    _no_front(run)
    model = run.setup.study.model
    shipped = model.surrogate.weights is not None or model.operator is not None
    return run_stages(run, (SURROGATE,) if shipped else (SAMPLE, TRAIN, SURROGATE), SURROGATE)[SURROGATE]


def find_optimum(run: Run[Setup]) -> FoundOptimum:
    """The optimum.

    Raises:
        OptimizationError: no start led to a valid design.
    """
    _no_front(run)
    run = decided(run)
    return run_stages(run, design_stages(run.setup.study.model), OPTIMIZE)[OPTIMIZE]


def infill(run: Run[Setup]) -> Tuned | None:
    """Result of tuning the surrogate by what the trust region solved; None where the study asks for none."""
    if INFILL not in design_stages(run.setup.study.model):
        return None
    return run_stages(run, design_stages(run.setup.study.model), INFILL)[INFILL]


def export(run: Run[Setup]) -> Exported:
    """CAD of the optimum."""
    _no_front(run)
    run = decided(run)
    return run_stages(run, design_stages(run.setup.study.model), EXPORT)[EXPORT]


def certificate_of(run: Run[Setup]) -> Certificate:
    """The certificate of the optimum."""
    _no_front(run)
    run = decided(run)
    results = run_stages(run, design_stages(run.setup.study.model), VALIDATE)
    leave_card(run, results)
    return results[VALIDATE]


def front_of(run: Run[Setup]) -> FrontResult:
    """The front of a study with two objectives, each design with its CAD and its certificate."""
    stages = front_stages(run.setup.study.model)
    last = front_stage(stages)
    return run_stages(run, stages, last)[last]


def validate(run: Run[Setup]) -> dict[str, Any]:
    """The certificate as plain data."""
    return certificate_of(run).as_data()
