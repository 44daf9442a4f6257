"""Stage ``train``: the study's surrogate from nothing; and what is searched, trained here or shipped, opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from shapewright.studies.files import content_key
from shapewright.studies.problem.models import SurrogateModel
from shapewright.studies.problem.operators import StudyOperator, open_operator
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.surrogates import open_surrogate, refreshing, train_surrogate
from shapewright.studies.run.sample import SAMPLE
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage
from shapewright.studies.run.together import Train
from shapewright.studies.run.workspace import Record
from shapewright.surrogate.models.design_surrogate import DesignSurrogate
from shapewright.surrogate.models.model_card import ModelCard
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard
from shapewright.surrogate.models.weights_file import read_weights
from shapewright.surrogate.training.loop import Progress

WEIGHTS = "surrogate.safetensors"
CHECKPOINTS = tuple(f"{WEIGHTS}.checkpoint{end}" for end in ("", ".finish", ".seconds"))
STARTED = "training"
"""Record of the training that the checkpoints are of."""


def _inputs(run: Run[Setup], results: Results) -> Inputs:
    samples = results[SAMPLE]
    return {
        "training samples": samples.designs.hash,
        "held-out samples": samples.held_out.hash,
        "": run.setup.trained_for(),
        "training": run.setup.study.model.training.model_dump(),
    }


def training(by: Train = train_surrogate) -> Stage[Path]:
    """The stage, done by this process alone or by several."""

    def make(run: Run[Setup], results: Results, key: str) -> Output:
        begun = run.workspace.record(STARTED)
        if begun is None or begun.key != key:  # it was broken off with other samples, or another network
            for name in CHECKPOINTS:
                run.workspace.path(name).unlink(missing_ok=True)
        run.workspace.finish(Record(STARTED, key, 0.0), ())

        def report(p: Progress) -> None:
            error = f", held-out gradient error {p.error:.4f}" if math.isfinite(p.error) else ""  # at first it is not
            run.report("train", p.step, p.steps, f"loss {p.loss:.4f}{error}{refreshing(p)}")

        path = run.workspace.path(WEIGHTS)
        by(run.setup, results[SAMPLE], path, run.device, report)
        return Output((WEIGHTS,), {"total": read_weights(path)[1]["seconds"]})

    return Stage("train", (SAMPLE,), _inputs, make, _path)


def _path(run: Run[Setup], results: Results, record: object) -> Path:
    return run.workspace.path(WEIGHTS)


TRAIN = training()


@dataclass(frozen=True)
class Surrogate:
    """A trained surrogate: network in float64, card, and the file of the weights."""

    setup: Setup
    network: DesignSurrogate
    card: ModelCard
    path: Path

    @property
    def model(self) -> SurrogateModel:
        """A new model of it, which has warned of nothing yet."""
        return SurrogateModel(self.setup, self.network, self.card.box)

    @property
    def correlation(self) -> dict[str, float] | None:
        """Of its errors with the novelty of held-out designs, where it was measured."""
        return self.card.correlation


@dataclass(frozen=True)
class Operator:
    """An operator for all shapes, opened for the study."""

    model: StudyOperator
    correlation: None = None

    @property
    def card(self) -> ShapeOperatorCard:
        """Of its weights."""
        return self.model.card

    @property
    def path(self) -> Path:
        """File of its weights."""
        return self.model.path


def _shipped(run: Run[Setup], results: Results) -> Inputs:
    return {"weights": content_key(run.setup.study.model.surrogate.weights)}


def _open(run: Run[Setup], results: Results, record: object) -> Surrogate | Operator:
    operator = run.setup.study.model.operator
    if operator is not None:
        return Operator(open_operator(run.setup, operator, run.device))
    weights = run.setup.study.model.surrogate.weights
    path = results[TRAIN] if weights is None else run.setup.study.folder / weights
    network, card = open_surrogate(run.setup, path, run.device)
    return Surrogate(run.setup, network, card, path)


SURROGATE: Stage[Surrogate | Operator] = Stage("surrogate", (TRAIN,), _shipped, None, _open)
"""What the search is on: an operator for all shapes, weights that the study ships, else those trained here."""
