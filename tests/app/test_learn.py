"""Promise: `learn` runs an operator study, prints its errors, and says what is wrong as the other commands do."""

import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from shapewright.app import cli
from shapewright.app.cli import Exit
from shapewright.app.progress import ProgressBars
from shapewright.studies.problem.operator_setup import load_operator_study
from shapewright.studies.run.learn import Learner
from shapewright.studies.run.workspace import Workspace
from shapewright.surrogate.models.weights_file import read_weights
from tests.studies.operator_cases import write_operator
from tests.studies.study_cases import write_tiny

BURGERS = Path(__file__).parents[2] / "studies" / "burgers.yaml"
SMALL = (
    "evaluation={held_out: 2, points: 16, resolution: 256}", "initial={deviation: 0.2, waves: 2}",
    "surrogate={grid: [12, 8], radius: 2, width: 4, hidden: 4, modes: [3, 2], layers: 1}",
    "training={steps: 6, batch: 1, collocation: 4, check_every: 3, checkpoint_every: 100}",
)  # fmt: skip


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
            patch.setattr(Learner, "learn", fails)
            result = call("learn", study, "--out", tmp_path / "out")
        assert result.exit_code == code
        assert said in result.stderr
        assert "Traceback" not in result.output


def test_the_folder_of_another_run_is_not_touched(study, tmp_path):
    with Workspace(tmp_path / "out").lock():
        result = call("learn", study, "--out", tmp_path / "out")
    assert result.exit_code == Exit.BAD_INPUT
    assert "another shapewright run is using it" in result.stderr


def learn_burgers(out, *overrides):
    sets = [argument for override in (*SMALL, *overrides) for argument in ("--set", override)]
    return call("learn", BURGERS, "--out", out, "--device", "cpu", *sets)


def test_an_evolution_study_is_trained_measured_and_not_trained_again(tmp_path):
    out = tmp_path / "out"
    result = learn_burgers(out)
    assert result.exit_code == Exit.OK, result.output
    assert "unseen initial data, against the resolved solution" in " ".join(result.stdout.split())
    errors = json.loads((out / "operator.json").read_text())["errors"]
    assert 0 < errors["median"]["16"] <= errors["worst"]["16"]
    card = json.loads((out / "operator.card.json").read_text())
    assert card["squared_relative_error"] == errors["mean"]
    assert f"│ 16                         │ {errors['mean']['16']:.3g}" in result.stdout
    assert "train: 6/6" in result.stderr
    again = learn_burgers(out)
    assert (again.stdout, "train" in again.stderr) == (result.stdout, False)
    opened = learn_burgers(tmp_path / "opened", f"surrogate.weights={out / 'operator.safetensors'}")
    assert opened.exit_code == Exit.OK, opened.output
    assert opened.stdout.partition("trained in")[0] == result.stdout.partition("trained in")[0]
    refused = learn_burgers(tmp_path / "other", f"surrogate.weights={out / 'operator.safetensors'}", "initial.waves=3")
    assert refused.exit_code == Exit.BAD_INPUT
    assert "initial.waves: trained for 2, this study has 3" in refused.stderr


def test_an_interrupted_evolution_study_goes_on_bit_for_bit(tmp_path, monkeypatch):
    def interrupt(self, stage, done, total, detail):
        if (stage, done) == ("train", 4):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBars, "__call__", interrupt)
        stopped = learn_burgers(tmp_path / "broken")
    assert stopped.exit_code == Exit.INTERRUPTED
    assert "the training is saved at step 4 of 6" in stopped.stderr
    assert learn_burgers(tmp_path / "broken").exit_code == learn_burgers(tmp_path / "whole").exit_code == Exit.OK
    broken, whole = (read_weights(tmp_path / name / "operator.safetensors")[0] for name in ("broken", "whole"))
    assert all(torch.equal(broken[name], whole[name]) for name in whole)
