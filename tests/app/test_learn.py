"""Promise: `learn` runs an operator study, prints its errors, and says what is wrong as the other commands do."""

import json
import re

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from shapewright.app import cli
from shapewright.app.cli import Exit
from shapewright.studies.problem.operator_setup import load_operator_study
from shapewright.studies.run.workspace import Workspace
from tests.studies.operator_cases import write_operator
from tests.studies.study_cases import write_tiny


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=200))


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def study(tmp_path):
    return write_operator(tmp_path)


def test_help_has_the_options_of_other_commands():
    result = call("learn", "--help")
    assert result.exit_code == 0
    for option in ("--out", "--set", "--device", "--seed"):
        assert option in result.output


def test_it_trains_judges_and_prints_errors_by_cloud_size(study, tmp_path):
    out = tmp_path / "out"
    result = call("learn", study, "--out", out, "--seed", 3, "--set", "training.steps=4", "--device", "cpu")
    assert result.exit_code == Exit.OK, result.output
    card = json.loads((out / "operator.card.json").read_text())
    for points, error in card["squared_relative_error"].items():
        (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"│ {points} ")]
        assert f"{error:.3g}" in line
    assert "trained in " in result.stdout
    for said in (r"held_out: 3/3\b.* finite elements", r"train: 4/4\b"):  # with a rate where it took a second
        assert re.search(said, result.stderr)
    assert load_operator_study(out / "resolved.yaml").model.training.seed == 3
    assert json.loads((out / "run.json").read_text())["seed"] == 3
    again = call("learn", study, "--out", out, "--seed", 3, "--set", "training.steps=4")
    assert again.exit_code == Exit.OK
    assert again.stdout == result.stdout
    assert "train" not in again.stderr


def test_each_command_takes_its_own_kind_of_study(study, tmp_path):
    design = write_tiny(tmp_path)
    for command, wrong, other in (("run", study, "learn"), ("sample", study, "learn"), ("learn", design, "run")):
        result = call(command, wrong, "--out", tmp_path / "out")
        assert result.exit_code == Exit.BAD_INPUT
        assert result.stderr.startswith(f"error: {wrong}:1: kind: found ")
        assert result.stderr.endswith(f"; this file is for `shapewright {other}`\n")
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "training.step=3"), "unknown key; did you mean 'steps'?"),
        (("--set", "training.points=[9, 3]"), "override 'training.points=[9, 3]': training.points: found [9, 3]"),
        (("--seed", "-3"), "training.seed: found -3"),
        (("--device", "tpu"), "--device: found 'tpu'; expected auto, cpu or cuda"),
        (("--set", "surrogate.weights=no.safetensors"), "no.safetensors: there is no such file"),
        (("--set", "training.weights={u: 2}"), "training.weights: found it with training.loss energy"),
    ],
)
def test_wrong_options_are_named(study, tmp_path, options, message):
    result = call("learn", study, "--out", tmp_path / "out", *options)
    assert result.exit_code == Exit.BAD_INPUT
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_no_silent_cpu(study, tmp_path):
    result = call("learn", study, "--out", tmp_path / "out", "--device", "cuda")
    assert result.exit_code == Exit.BAD_INPUT
    assert "found cuda, but torch sees no CUDA device here" in result.stderr


def test_what_the_run_raises_is_one_message_and_a_code(study, tmp_path, monkeypatch):
    from shapewright.app import learn
    from shapewright.solvers.errors import SolveError
    from shapewright.surrogate.training.loop import TrainingError

    for error, code, said in (
        (SolveError("instance 2: singular"), Exit.FAILED, "error: instance 2: singular\nWhat was finished is kept"),
        (TrainingError("nan at step 3"), Exit.FAILED, "error: nan at step 3\n"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "error: interrupted; what was finished is kept"),
    ):

        def fails(*arguments, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(learn, "run_operator_study", fails)
            result = call("learn", study, "--out", tmp_path / "out")
        assert result.exit_code == code
        assert said in result.stderr
        assert "Traceback" not in result.output


def test_the_folder_of_another_run_is_not_touched(study, tmp_path):
    with Workspace(tmp_path / "out").lock():
        result = call("learn", study, "--out", tmp_path / "out")
    assert result.exit_code == Exit.BAD_INPUT
    assert "another shapewright run is using it" in result.stderr
