"""An operator tuned to the shapes of a study: better there, without a solution; resumed; taken up by its file."""

from pathlib import Path

import pytest
import torch

from shapewright.studies.problem.operator_tuning import Problems, tune_operator, tuning_config, within_box
from shapewright.studies.problem.operators import load_operator_for, open_operator
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.stage import Run
from shapewright.studies.run.tune import TUNED, tune
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, load_study
from tests.studies.study_cases import TINY, write_tiny_operator

SHORT = "training: {steps: 12, batch: 2, check_every: 4, checkpoint_every: 4, learning_rate: 5.0e-3}\n"


def study_in(folder: Path, *extra: str) -> Path:
    """The tiny study on an untrained operator beside it."""
    write_tiny_operator(folder / "own.safetensors")
    text = "".join(line + "\n" for line in TINY.splitlines() if line.split(":")[0] not in ("surrogate", "training"))
    path = folder / "study.yaml"
    path.write_text(text + "model: {operator: own.safetensors}\n" + "".join(extra))
    return path


def test_tuning_lowers_the_error_and_the_study_takes_the_file_up(tmp_path):
    setup = build_setup(load_study(study_in(tmp_path, SHORT)))
    said = []
    found = tune(Run(setup, Workspace(tmp_path / "out"), "cpu", lambda *progress: said.append(progress)))
    assert found.after < 0.99 * found.before
    assert said[-1][:3] == ("tune", 12, 12)
    assert "no solution learnt" in str(found)
    assert f"model: {{operator: {tmp_path / 'out' / TUNED}}}" in str(found)
    network, card = load_operator_for(setup, str(found.path))
    assert card.solves == 0
    assert card.training["from"] == "own.safetensors"
    again = build_setup(load_study(study_in(tmp_path, SHORT), (f"model.operator={found.path}",)))
    tuned = open_operator(again, again.study.model.operator)
    assert torch.equal(next(network.parameters()), next(tuned.model.network.parameters()))
    assert str(tuned.outside(setup.initial)) == "novelty 0, all descriptors are within its range"


def test_a_tuning_that_was_broken_off_goes_on_step_for_step(tmp_path):
    setup = build_setup(load_study(study_in(tmp_path, SHORT)))

    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 7:
            raise Stopped

    with pytest.raises(Stopped):
        tune_operator(open_operator(setup, setup.study.model.operator), tmp_path / "a.safetensors", stop)
    steps = []
    resumed = tune_operator(
        open_operator(setup, setup.study.model.operator), tmp_path / "a.safetensors", lambda p: steps.append(p.step)
    )
    whole = tune_operator(open_operator(setup, setup.study.model.operator), tmp_path / "b.safetensors")
    assert steps[0] > 4
    assert resumed.held_out["study"] == whole.held_out["study"]


def test_batches_are_the_same_when_a_step_is_done_again_and_lie_in_the_operators_box(tmp_path):
    setup = build_setup(load_study(study_in(tmp_path, "training: {batch: 2, steps: 5}\n")))
    model = open_operator(setup, setup.study.model.operator).model
    designs = within_box(model, setup.initial.repeat(3, 1))
    problems = Problems(model, designs)
    assert len(designs) == 3
    assert torch.equal(problems.batch(5, 2, 0).nodes, problems.batch(5, 2, 0).nodes)
    assert tuning_config(setup).steps == 5


def test_infill_beside_an_operator_is_told_what_to_do_instead(tmp_path):
    with pytest.raises(StudyError, match="shapewright train"):
        load_study(study_in(tmp_path, SHORT, "infill: {}\n"))
