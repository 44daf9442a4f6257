"""Promise: the command line says what it does, what is wrong and where, and its exit code tells how it ended."""

import builtins
import json
import sys
from contextlib import contextmanager

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from app import cli, doctor
from app.cli import Exit
from app.machine import Check
from geometries.catalogue import builtin_families
from geometries.quantities import QUANTITIES
from solvers.physics import PHYSICS
from studies import pipeline
from studies.loader import load_study
from studies.workspace import Workspace
from tests.studies.study_cases import InlineExecutor, write_tiny

COMMANDS = ("run", "sample", "train", "optimize", "validate", "export", "report", "check", "list", "doctor")
STAGES = COMMANDS[:7]


@pytest.fixture(autouse=True)
def wide_and_inline(monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=200))
    monkeypatch.setattr(pipeline, "local_executor", InlineExecutor)


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def study(tmp_path):
    return write_tiny(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`run` of the tiny study: its result and its folder."""
    folder = tmp_path_factory.mktemp("run")
    study = write_tiny(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "local_executor", InlineExecutor)
        patch.setattr(cli, "console", Console(width=200))
        return call("run", study, "--out", folder / "out"), folder / "out", study


def test_help_lists_every_command():
    result = call("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5
    if command in STAGES:
        for option in ("--out", "--set", "--device", "--seed"):
            assert option in result.output


def test_run_leaves_everything_and_tells_by_its_code_that_it_was_not_accepted(whole):
    result, folder, _ = whole
    assert result.exit_code == Exit.NOT_ACCEPTED, result.output
    assert "NOT ACCEPTED" in result.stdout
    assert "Traceback" not in result.output
    for name in (
        "resolved.yaml", "run.json", "history.csv", "optimum.step", "optimum.stl", "optimum.msh",
        "optimum.vtu", "certificate.json", "report.html",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["accepted"] is False
    for reason in certificate["reasons"]:
        assert reason in result.stdout


def test_run_says_what_it_ran_with_and_on(whole):
    _, folder, study = whole
    provenance = json.loads((folder / "run.json").read_text())
    assert {"shapewright", "python", "packages", "hardware", "device", "seed", "started", "command"} <= set(provenance)
    assert provenance["device"] == "cpu" or torch.cuda.is_available()
    assert provenance["packages"]["torch"] == torch.__version__.partition("+")[0] or torch.__version__
    assert provenance["hardware"]["cores"] >= 1
    assert load_study(folder / "resolved.yaml").model == load_study(study).model


def test_progress_is_told(whole):
    result, _, _ = whole
    for stage in ("sample designs: 6/6", "train: 30/30", "optimize: ", "export: 1/1", "validate: 1/1"):
        assert stage in result.stderr


def test_stages_reuse_what_run_left(whole):
    _, folder, study = whole
    for command, said in (
        ("sample", "6 designs and 3 held-out ones"),
        ("train", "held out on 2 designs: field u "),
        ("optimize", "Objective "),
        ("export", "volume read back "),
        ("report", "report.html"),
    ):
        result = call(command, study, "--out", folder)
        assert result.exit_code == Exit.OK, result.output
        assert said in result.stdout
        assert "train:" not in result.stderr
    assert call("validate", study, "--out", folder).exit_code == Exit.NOT_ACCEPTED


def test_an_accepted_design_exits_with_zero(study, tmp_path):
    fem = ("--set", "optimizer.on=fem", "--set", "optimizer.starts=1", "--set", "optimizer.max_iterations=60")
    result = call("validate", study, "--out", tmp_path / "out", *fem)
    assert result.exit_code == Exit.OK, result.output
    assert "\nACCEPTED" in result.stdout
    assert "all checks passed" in result.stdout


def test_check_prints_the_table_of_taylor_tests(study):
    result = call("check", study)
    assert result.exit_code == Exit.OK, result.output
    assert "schema and geometry are in order; 6 parameters" in result.stdout
    assert "Taylor tests (float64)" in result.stdout
    for row in ("area in theta", "(adjoint)", "(tangent)", "mGNO in query points", "whole chain"):
        (line,) = [line for line in result.stdout.splitlines() if row in line]
        assert line.rstrip(" │").endswith("ok")
    assert "FAILED" not in result.stdout


def test_check_fails_where_a_derivative_is_wrong(study, monkeypatch):
    from studies.models import FemModel

    right = FemModel.functionals

    def wrong(self, theta):
        values, gradients, solution = right(self, theta)
        return values, 1.17 * gradients, solution

    monkeypatch.setattr(FemModel, "functionals", wrong)
    result = call("check", study)
    assert result.exit_code == Exit.FAILED
    assert "FEM objective in theta (adjoint): the derivative" in result.stdout
    assert "off the central difference" in result.stdout


def test_list_names_families_physics_objectives_and_quantities_with_units():
    output = call("list").stdout
    for name, family in builtin_families().items():
        assert f"family {name}" in output
        for parameter in family().parameters:
            assert f" {parameter.name} " in output
    for physics in PHYSICS.values():
        assert f"physics {physics.name}" in output
        for entry in (*physics.coefficients, *physics.functionals):
            assert entry.name in output
            assert entry.unit in output
    for name, quantity in QUANTITIES.items():
        lines = [line for line in output.splitlines() if f"│ {name} " in line]
        assert any(quantity.unit in line and quantity.description in line for line in lines)
    assert "start=star" in output


@pytest.mark.parametrize(("found", "code"), [(True, Exit.OK), (False, Exit.FAILED)])
def test_doctor_tells_by_its_code_whether_all_is_there(monkeypatch, found, code):
    finding = Check("gmsh", "4.15", found, "CAD and meshes", "apt install libglu1-mesa")
    monkeypatch.setattr(doctor, "diagnose", lambda: [finding])
    result = call("doctor")
    assert result.exit_code == code
    assert "gmsh" in result.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("quantity: area", "quantity: aera"), "tiny.yaml:14: constraints.0.quantity: found 'aera'"),
        (("mesh_size: 0.4", "mesh_size: big"), "tiny.yaml:6: geometry.mesh_size: found 'big' (text)"),
        (("on: wall", "on: rim"), "tiny.yaml:11: physics.dirichlet.0.on: found 'rim'"),
        (("training:", "trainig:"), "tiny.yaml:18: trainig: unknown key; did you mean 'training'?"),
    ],
)  # fmt: skip
def test_a_wrong_study_is_named_by_file_line_and_key(tmp_path, change, message):
    study = write_tiny(tmp_path, change)
    result = call("run", study, "--out", tmp_path / "out")
    assert result.exit_code == Exit.BAD_INPUT
    assert result.stderr.startswith(f"error: {tmp_path}/{message}")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [*STAGES, "check"])
def test_a_missing_study_is_named(command, tmp_path):
    result = call(command, tmp_path / "no.yaml")
    assert result.exit_code == Exit.BAD_INPUT
    assert result.stderr == f"error: {tmp_path}/no.yaml: there is no such file\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "optimizer.max_iteration=3"), "unknown key; did you mean 'max_iterations'?"),
        (("--set", "optimizer.max_iterations"), "expected KEY=VALUE"),
        (("--set", "training.batch=99"), "override 'training.batch=99': training.batch: found 99; expected at most"),
        (("--seed", "-3"), "sampling.seed: found -3"),
        (("--device", "tpu"), "--device: found 'tpu'; expected auto, cpu or cuda"),
        (("--set", "surrogate.weights=no.safetensors"), "no.safetensors: there is no such file"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(study, tmp_path, options, message):
    result = call("optimize", study, "--out", tmp_path / "out", *options)
    assert result.exit_code == Exit.BAD_INPUT
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_no_silent_cpu(study, tmp_path):
    result = call("sample", study, "--out", tmp_path / "out", "--device", "cuda")
    assert result.exit_code == Exit.BAD_INPUT
    assert "--device: found cuda, but torch sees no CUDA device here; expected auto or cpu" in result.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_commands_and_options_are_refused(study):
    assert call("optimise", study).exit_code == 2
    assert call("run", study, "--output", "x").exit_code == 2
    assert call("run").exit_code == 2


def test_seed_sets_all_three(study, tmp_path):
    hashes = set()
    for seed in (5, 5, 6):
        out = tmp_path / f"out{len(hashes)}{seed}"
        assert call("sample", study, "--out", out, "--seed", seed).exit_code == Exit.OK
        model = load_study(out / "resolved.yaml").model
        assert model.sampling.seed == model.training.seed == model.optimizer.seed == seed
        assert json.loads((out / "run.json").read_text())["seed"] == seed
        hashes.add((out / "designs.npz").read_bytes())
    assert len(hashes) == 2


def test_the_folder_of_another_run_is_not_touched(study, tmp_path):
    out = tmp_path / "out"
    with Workspace(out).lock():
        result = call("sample", study, "--out", out)
    assert result.exit_code == Exit.BAD_INPUT
    assert result.stderr == f"error: {out}: another shapewright run is using it; choose another with --out\n"
    assert [path.name for path in out.iterdir()] == [".stages"]


def test_a_folder_that_cannot_be_written_is_named(study, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("sample", study, "--out", tmp_path / "file" / "out")
    assert result.exit_code == Exit.BAD_INPUT
    assert "cannot be used as output folder (Not a directory); choose another with --out" in result.stderr


@contextmanager
def failing(monkeypatch, error):
    def fails(run):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "sample", fails)
        yield


def test_what_a_stage_raises_is_one_message_and_a_code(study, tmp_path, monkeypatch):
    from solvers.errors import SolveError
    from studies.sampling import SamplingError
    from surrogate.trainer import TrainingError

    goes_on = "What was finished is kept; the same command goes on from there."
    for error, code, message in (
        (SolveError("singular"), Exit.FAILED, f"error: singular\n{goes_on}"),
        (SamplingError("[1, 2] failed"), Exit.FAILED, f"error: [1, 2] failed\n{goes_on}"),
        (TrainingError("nan at step 3"), Exit.FAILED, f"error: nan at step 3\n{goes_on}"),
        (
            OSError(28, "No space left on device", "x/y"),
            Exit.FAILED,
            "error: No space left on device (x/y)\n",
        ),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "error: interrupted; what was finished is kept"),
    ):
        with failing(monkeypatch, error):
            result = call("sample", study, "--out", tmp_path / "out")
        assert result.exit_code == code
        assert message in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [*STAGES, "check"])
def test_an_interrupt_while_modules_are_imported_is_told_too(command, study, tmp_path, monkeypatch):
    """That takes seconds, and is when people notice a typing error."""
    real = builtins.__import__

    def interrupted(name, *rest):
        if name.startswith("studies"):
            raise KeyboardInterrupt
        return real(name, *rest)

    out = [] if command == "check" else ["--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", interrupted)
        result = call(command, study, *out)
    assert result.exit_code == Exit.INTERRUPTED
    assert "error: interrupted; what was finished is kept" in result.stderr


def test_a_defect_of_the_program_is_not_hidden(study, tmp_path, monkeypatch):
    with failing(monkeypatch, ZeroDivisionError("a defect")):
        result = call("sample", study, "--out", tmp_path / "out")
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_program_is_the_same_as_a_module(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["shapewright", "list"])
    with pytest.raises(SystemExit) as caught:
        cli.main(lambda: 0)
    assert caught.value.code == 0
