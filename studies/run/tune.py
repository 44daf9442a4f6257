"""Stage ``tune``: the operator that a study names, tuned to the study's shapes for its next runs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shapewright.studies.files import file_key
from shapewright.studies.problem.operator_tuning import tune_operator, tuning_config
from shapewright.studies.problem.operators import open_operator, operator_path
from shapewright.studies.problem.setup import Setup
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage, run_stages
from shapewright.studies.run.workspace import Record
from shapewright.studies.schema.study import PretrainedOperator
from shapewright.surrogate.training.loop import Progress

TUNED = "operator.safetensors"
STARTED = "tuning"
"""Record of the tuning that the checkpoint is of."""


@dataclass(frozen=True)
class TunedOperator:
    """What a tuning gave.

    Attributes:
        path: file of the weights.
        operator: that it began from.
        before, after: mean relative errors in the energy norm on ``problems`` held-out designs.
        problems: how many.
        tuning_seconds: that it took.
        seconds_from_nothing: of the training that the operator itself took, by its card; not a number if not told.
        solutions_spared: that a surrogate of this study alone would learn from.
    """

    path: Path
    operator: str
    before: float
    after: float
    problems: int
    tuning_seconds: float
    seconds_from_nothing: float
    solutions_spared: int

    def __str__(self) -> str:
        return (
            f"{self.path}: error in the energy norm {self.before:.2%} before, {self.after:.2%} after, on"
            f" {self.problems} designs held out; tuned in {self.tuning_seconds:.0f} s, no solution learnt."
            f" From nothing {self.operator} took {self.seconds_from_nothing:.0f} s by its card; a surrogate of this"
            f" study alone would learn from {self.solutions_spared} solutions. To use it, write\n"
            f"model: {{operator: {self.path.resolve()}}}"
        )


def _choice(setup: Setup) -> PretrainedOperator:
    choice = setup.study.model.operator
    assert choice is not None  # only such a study is tuned
    return choice


def _inputs(run: Run[Setup], results: Results) -> Inputs:
    setup = run.setup
    weights = file_key(operator_path(setup.study, _choice(setup).operator))
    return {"operator": weights, **physical_inputs(setup), "tuning": asdict(tuning_config(setup))}


def _make(run: Run[Setup], results: Results, key: str) -> Output:
    begun, path = run.workspace.record(STARTED), run.workspace.path(TUNED)
    if begun is None or begun.key != key:  # it was broken off with another operator, or another study
        path.with_name(f"{TUNED}.checkpoint").unlink(missing_ok=True)
    run.workspace.finish(Record(STARTED, key, 0.0), ())

    def report(p: Progress) -> None:
        error = f", held-out error {p.error:.4f}" if math.isfinite(p.error) else ""
        run.report("tune", p.step, p.steps, f"loss {p.loss:.4f}{error}")

    operator = open_operator(run.setup, _choice(run.setup))
    card = tune_operator(operator, path, report)
    sampling = run.setup.study.model.sampling
    return Output(
        (TUNED,),
        {
            "operator": operator.name,
            "before": card.held_out["before"]["mean"],
            "after": card.held_out["study"]["mean"],
            "problems": card.held_out["study"]["problems"],
            "tuning_seconds": card.seconds,
            "seconds_from_nothing": operator.card.seconds,
            "solutions_spared": sampling.designs + sampling.held_out,
        },
    )


def _read(run: Run[Setup], results: Results, record: Record | None) -> TunedOperator:
    assert record is not None
    content: dict[str, Any] = dict(record.content)
    return TunedOperator(run.workspace.path(TUNED), **content)


TUNE = Stage("tune", (), _inputs, _make, _read)


def tune(run: Run[Setup]) -> TunedOperator:
    """The study's operator tuned to its shapes, in the output folder.

    Raises:
        StudyError: the operator does not fit the study, or is not trained by energy.
    """
    return run_stages(run, (TUNE,), TUNE)[TUNE]
