"""Promise: the command line says what it does, what is wrong and where, and its exit code tells how it ended."""

import builtins
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from shapewright.app import cli
from shapewright.app.cli import Exit
from shapewright.app.doctor import doctor
from shapewright.app.doctor.machine import Check
from shapewright.geometries.design.measures import QUANTITIES
from shapewright.geometries.family.catalogue import builtin_families
from shapewright.solvers.physics.catalogue import PHYSICS
from shapewright.studies.run import engines, pipeline
from shapewright.studies.run.workspace import Record, Workspace
from shapewright.studies.schema.loader import load_study
from tests.studies.study_cases import InlineExecutor, write_tiny

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "run", "sample", "train", "optimize", "validate", "export", "report", "check", "verify", "status", "inspect",
    "list", "doctor",
)  # fmt: skip
STAGES = COMMANDS[:7]


@pytest.fixture(autouse=True)
def wide_and_inline(monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=200))
    monkeypatch.setattr(engines, "local_executor", InlineExecutor)


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
        patch.setattr(engines, "local_executor", InlineExecutor)
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


def test_verify_tells_by_its_code_whether_a_folder_is_as_certified(whole, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(whole[1], folder)
    result = call("verify", folder)
    assert result.exit_code == Exit.OK, result.output
    assert "AS CERTIFIED" in result.stdout
    assert "DIFFERS" not in result.stdout
    step = folder / "optimum.step"
    step.write_bytes(step.read_bytes() + b" ")
    result = call("verify", folder)
    assert result.exit_code == Exit.NOT_ACCEPTED
    assert "DIFFERS optimum.step: is not the file that the certificate is of" in result.stdout
    assert "NOT AS CERTIFIED: optimum.step, stage export" in result.stdout
    result = call("verify", tmp_path / "nothing")
    assert result.exit_code == Exit.BAD_INPUT
    assert "found no folder" in result.stderr


def test_both_verdicts_and_the_constraints_are_printed(whole):
    result, folder, _ = whole
    certificate = json.loads((folder / "certificate.json").read_text())
    for title in ("finite-element certificate, the design", "finite-element certificate, the surrogate that searched"):
        assert title in " ".join(result.stdout.split())
    said = " ".join(result.stdout.split())
    for verdict in (certificate["design"]["verdict"], certificate["model"]["verdict"]):
        assert " ".join(verdict.split()) in said
    (row,) = [line for line in result.stdout.splitlines() if "│ area equals" in line]
    assert f"{certificate['constraints'][0]['miss']:.2g}" in row


def test_check_prints_the_table_of_taylor_tests(study):
    result = call("check", study)
    assert result.exit_code == Exit.OK, result.output
    assert "schema and geometry are in order; 6 parameters" in result.stdout
    assert "Taylor tests (float64)" in result.stdout
    for row in ("area in theta", "(adjoint)", "(tangent)", "mGNO in query points", "whole chain"):
        (line,) = [line for line in result.stdout.splitlines() if row in line]
        assert line.rstrip(" │").endswith("ok")
    assert "FAILED" not in result.stdout


def test_plan_prints_a_row_for_each_way_and_the_choice(study):
    result = call("plan", study, "--json")
    assert result.exit_code == Exit.OK, result.output
    plan = json.loads(result.stdout)
    assert [way["method"] for way in plan["ways"]] == ["fem", "reduced_basis", "operator", "surrogate"]
    assert plan["chosen"] in [way["method"] for way in plan["ways"]]
    result = call("plan", study)
    assert result.exit_code == Exit.OK, result.output
    assert "tiny: one optimum, 6 design variables" in result.stdout
    assert "`model: auto` would take " in result.stdout
    assert "Measured here, for one design: solve" in result.stdout


def test_plan_of_a_study_that_is_wrong_is_one_error(study):
    result = call("plan", study, "--set", "geometry.mesh_size=0")
    assert result.exit_code == Exit.BAD_INPUT
    assert "geometry.mesh_size: found 0 (a number); expected a number > 0" in " ".join(result.output.split())


def test_check_fails_where_a_derivative_is_wrong(study, monkeypatch):
    from shapewright.studies.problem.models import FemModel

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
    from shapewright.solvers.errors import SolveError
    from shapewright.studies.problem.samples import SamplingError
    from shapewright.surrogate.training.loop import TrainingError

    goes_on = "What was finished is kept; the same command goes on from there."
    for error, code, message in (
        (SolveError("singular"), Exit.FAILED, f"error: singular\n{goes_on}"),
        (SamplingError("[1, 2] failed"), Exit.FAILED, f"error: [1, 2] failed\n{goes_on}"),
        (TrainingError("nan at step 3"), Exit.FAILED, f"error: nan at step 3\n{goes_on}"),
        (MemoryError(), Exit.FAILED, f"error: memory ran out\n{goes_on}"),
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
        if name.startswith("shapewright.studies"):
            raise KeyboardInterrupt
        return real(name, *rest)

    out = [] if command == "check" else ["--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", interrupted)
        result = call(command, study, *out)
    assert result.exit_code == Exit.INTERRUPTED
    assert "error: interrupted; what was finished is kept" in result.stderr


def test_a_defect_of_the_program_is_one_line_with_a_traceback_in_a_file(study, tmp_path, monkeypatch):
    out = tmp_path / "a[/red] folder"
    with failing(monkeypatch, ZeroDivisionError("a [/defect]\nof two lines")):
        result = call("sample", study, "--out", out)
    assert result.exit_code == Exit.UNEXPECTED
    assert result.stderr == (
        "error: unexpected ZeroDivisionError: a [/defect]; this is a defect: please report it with"
        f" {out}/traceback.txt\n"
    )
    text = (out / "traceback.txt").read_text()
    assert text.startswith("shapewright ")
    assert "ZeroDivisionError: a [/defect]\nof two lines" in text
    assert "pipeline.sample(current)" in text


def test_a_defect_without_an_output_folder_leaves_its_traceback_in_the_temporary_folder(study, tmp_path, monkeypatch):
    from shapewright.studies.certify import taylor as checks

    def fails(setup, seed):
        raise KeyError("x")

    monkeypatch.setattr(checks, "check_study", fails)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = call("check", study)
    assert result.exit_code == Exit.UNEXPECTED
    (file,) = tmp_path.glob("shapewright-*traceback.txt")
    assert result.stderr == f"error: unexpected KeyError: 'x'; this is a defect: please report it with {file}\n"
    assert "KeyError: 'x'" in file.read_text()


def test_a_library_that_is_missing_points_to_doctor(study, tmp_path, monkeypatch):
    error = ImportError("libGLU.so.1: cannot open shared object file", name="gmsh")
    with failing(monkeypatch, error):
        result = call("sample", study, "--out", tmp_path / "out")
    assert result.exit_code == Exit.FAILED
    assert result.stderr.startswith(f"error: a library cannot be imported: {error}\n`shapewright doctor` says what")


def test_sigterm_ends_a_command_as_ctrl_c_does(study, tmp_path, monkeypatch):
    def terminate(run):
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        monkeypatch.setattr(pipeline, "sample", terminate)
        result = call("sample", study, "--out", tmp_path / "out")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == Exit.TERMINATED == 143
    assert result.stderr.startswith("error: terminated; what was finished is kept")


def test_an_interrupted_training_says_where_it_is_saved(study, tmp_path, monkeypatch):
    def interrupt(self, stage, done, total, detail):
        if (stage, done) == ("train", 13):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli.ProgressBars, "__call__", interrupt)
        result = call("train", study, "--out", tmp_path / "out")
    assert result.exit_code == Exit.INTERRUPTED
    assert result.stderr == (
        "error: interrupted; the training is saved at step 13 of 30; what was finished is kept, and the same command"
        " goes on from there.\n"
    )


def test_the_results_of_another_study_are_not_overwritten_without_a_word(study, tmp_path):
    out = tmp_path / "out"
    assert call("sample", study, "--out", out).exit_code == Exit.OK
    left = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    other = {
        "name": ("name: tiny\n", "name: other\n"),
        "family": ("closed_bar\n  options: {control_points: 6, start: ellipse}", "star_domain"),
    }
    for change in other.values():
        (tmp_path / "other").mkdir(exist_ok=True)
        another = write_tiny(tmp_path / "other", change)
        result = call("sample", another, "--out", out)
        assert result.exit_code == Exit.BAD_INPUT
        assert result.stderr.startswith(f"error: {out}: holds the results of the design study 'tiny' (poisson on ")
        assert "choose another folder with --out, or replace them with --overwrite" in result.stderr
        assert {path: path.stat().st_mtime_ns for path in left} == left
    assert call("sample", study, "--out", out, "--set", "physics.source.u=3.0").exit_code == Exit.OK  # as ever
    another = write_tiny(tmp_path / "other", other["name"])
    assert call("sample", another, "--out", out, "--overwrite").exit_code == Exit.OK
    assert load_study(out / "resolved.yaml").model.name == "other"
    assert call("sample", study, "--out", out).exit_code == Exit.BAD_INPUT


def test_overwriting_removes_the_results_of_the_other_study(study, tmp_path):
    out = tmp_path / "out"
    assert call("sample", study, "--out", out).exit_code == Exit.OK
    (out / "optimum.step").write_text("")
    Workspace(out).finish(Record("export", "key", 1.0), ["optimum.step"])
    for name in ("report.html", "surrogate.card.json", "surrogate.safetensors.checkpoint"):
        (out / name).write_text("")
    another = write_tiny(tmp_path, ("name: tiny\n", "name: other\n"))
    assert call("sample", another, "--out", out, "--overwrite").exit_code == Exit.OK
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left == {"resolved.yaml", "run.json", "designs.npz", "held_out.npz", "reference.npz"}


def test_a_resolved_study_that_cannot_be_read_is_made_anew(study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for junk in (b"\xff\xfe", b"", b"[1, 2]", b"name: [tiny]\ngeometry: 3\n"):
        (out / "resolved.yaml").write_bytes(junk)
        overwrite = ["--overwrite"] if b"name" in junk else []
        assert call("sample", study, "--out", out, *overwrite).exit_code == Exit.OK
        assert load_study(out / "resolved.yaml").model.name == "tiny"


def test_brackets_in_names_and_paths_are_no_markup(tmp_path):
    folder = tmp_path / "a[/red] [bold]"
    folder.mkdir(parents=True)
    study = write_tiny(folder, ("{maximize: torsional_constant}", '{maximize: {name: "peak[/red]", integrand: u}}'))
    result = call("check", study)
    assert result.exit_code == Exit.OK, result.output
    assert "a[/red] [bold]/tiny.yaml: schema and geometry are in order" in result.stdout
    result = call("run", study, "--out", folder / "out", "--set", "optimizer.on=fem", "--set", "optimizer.starts=1")
    assert result.exit_code in (Exit.OK, Exit.NOT_ACCEPTED), result.output
    assert "peak[/red]: start" in result.stdout
    assert "a[/red] [bold]/out" in result.stdout


def test_what_libraries_log_does_not_reach_the_terminal():
    """In a process of its own: pytest has handlers for it."""
    program = (
        "import logging\n"
        "from shapewright.app.outcome import reported_errors\n"
        "with reported_errors():\n"
        "    logging.getLogger('matplotlib').warning('a cache directory')\n"
        "assert not logging.getLogger().handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_warnings_of_libraries_do_not_reach_the_terminal_and_ones_own_are_plain_words(study, tmp_path, monkeypatch):
    from shapewright.studies.problem.models import OutsideBoxWarning

    def warn(run):
        warnings.warn_explicit("deprecated", FutureWarning, "/usr/lib/python3/library.py", 3)
        warnings.warn_explicit("r0 [1] is outside", OutsideBoxWarning, "/usr/lib/python3/library.py", 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "sample", warn)
    result = call("sample", study, "--out", tmp_path / "out")
    assert result.stderr.splitlines()[0] == "warning: r0 [1] is outside"
    assert "deprecated" not in result.stderr


def test_the_program_is_the_same_as_a_module(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["shapewright", "list"])
    with pytest.raises(SystemExit) as caught:
        cli.main(lambda: 0)
    assert caught.value.code == 0
