"""Promise: a run leaves every artefact, a second one reuses it, and a break costs only what the run was at.

What is compared after a break is compared bit for bit: the data by their hash, the weights as bytes.
"""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch

from shapewright.studies.files import sha256
from shapewright.studies.problem.models import OutsideBoxWarning
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import open_surrogate
from shapewright.studies.run import engines, pipeline
from shapewright.studies.run.pipeline import OptimizationError, Run, find_optimum, sample, train, validate
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.weights_file import SurrogateFileError, read_weights
from shapewright.surrogate.training import derivative_informed as training
from tests.studies.study_cases import InlineExecutor, setup_of, tiny_run, write_tiny

ROOT = Path(__file__).parents[2]
WEIGHTS = "surrogate.safetensors"
CHECKPOINT = "surrogate.safetensors.checkpoint"


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Processes are slow to start, and give the same data: test_sampling shows it."""
    executors = []

    def inline_executor(workers):
        executors.append(InlineExecutor())
        return executors[-1]

    monkeypatch.setattr(engines, "local_executor", inline_executor)
    return executors


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run; tests copy its folder before they change it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "local_executor", InlineExecutor)
        run = tiny_run(folder)
        with run.workspace.lock():
            pipeline.write_resolved(run, {"shapewright": "test", "seed": 0})
            return validate(run), folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "out")
    return tmp_path / "out"


def records(folder):
    return {path.stem: json.loads(path.read_text()) for path in (folder / ".stages").glob("*.json")}


def done_anew(folder, action, *overrides):
    """Stages whose records change by an action, told by their file's inode: every write makes a new one."""

    def inodes():
        return {path.stem: path.stat().st_ino for path in (folder / ".stages").glob("*.json")}

    keep = [path.open() for path in (folder / ".stages").glob("*.json")]  # so that no inode is used again
    before = inodes()
    action(tiny_run(folder, *overrides))
    for file in keep:
        file.close()
    return {stage for stage, inode in inodes().items() if before.get(stage) != inode}


def test_a_poor_surrogate_is_not_accepted_and_says_why(finished):
    certificate, _ = finished
    assert certificate["accepted"] is False
    assert any(reason.startswith(("fields:", "objective:", "KKT")) for reason in certificate["reasons"])
    model = certificate["model"]
    assert (model["decisive"], model["accepted"]) == (True, False)  # no finite elements were in the loop
    assert "and the search relied on it alone" in model["verdict"]
    assert certificate["verdict"].startswith("Not accepted: ")
    assert set(model["reasons"]) <= set(certificate["reasons"])
    assert certificate["objective"]["surrogate"] > 0
    compared = {"cosine", "cosine_at_start", "relative_error", "size_to_start", "error_to_start"}
    assert set(certificate["gradient"]) == compared
    assert set(certificate["field_relative_l2_error"]) == {"u"}
    assert set(certificate["timings"]) == {"sample", "train", "optimize", "export", "validate"}


def test_every_artefact_is_there(finished):
    names = {path.name for path in finished[1].iterdir() if path.is_file()}
    assert names == {
        "resolved.yaml", "run.json", "designs.npz", "held_out.npz", "reference.npz", WEIGHTS,
        "surrogate.card.json", "optimum.json", "history.csv", "shapes.json", "optimum.step", "optimum.brep",
        "optimum.stl", "optimum.msh", "optimum.vtu", "initial.vtu", "certificate.json",
    }  # fmt: skip


def test_the_resolved_study_is_the_study(finished):
    text = (finished[1] / "resolved.yaml").read_text()
    assert text.startswith('# shapewright: "test"\n')
    assert load_study(finished[1] / "resolved.yaml").model == setup_of().study.model


def test_the_history_leads_from_the_start_to_the_optimum(finished):
    with (finished[1] / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    optimum = json.loads((finished[1] / "optimum.json").read_text())
    names = [f"r{k}" for k in range(6)]
    assert list(rows[0]) == [
        "start", "iteration", "evaluations", "objective", "objective_scaled", "gradient_norm",
        "area equals", "jacobian at least", *names,
    ]  # fmt: skip
    for start in optimum["starts"]:
        own = [row for row in rows if int(row["start"]) == start["start"]]
        assert [int(row["iteration"]) for row in own] == list(range(start["iterations"]))
        assert float(own[-1]["objective"]) == start["objective"]
        assert float(own[0]["objective_scaled"]) == 1.0
    best = [row for row in rows if int(row["start"]) == optimum["best_start"]][-1]
    for name in names:
        assert float(best[name]) == pytest.approx(optimum["parameters"][name], rel=1e-11)
    setup = setup_of()
    first = [float(rows[0][name]) for name in names]
    assert first == pytest.approx(setup.initial.tolist(), rel=1e-11)


def test_a_second_run_does_nothing_again(folder, inline, finished):
    step = (folder / "optimum.step").read_bytes()
    assert done_anew(folder, validate) == set()
    assert (folder / "optimum.step").read_bytes() == step
    assert inline == []
    assert json.loads((folder / "certificate.json").read_text()) == finished[0]


AFTER = {
    "optimizer.max_iterations=16": {"optimize", "validate"},
    "constraints.0.equals=2.9": {"optimize", "validate"},
    "geometry.initial.r0=1.2": {"optimize", "validate"},
    "constraints.0.tolerance=1e-3": {"optimize", "validate"},
    "validation.field_error=0.5": {"validate"},
    "name=other": {"validate"},
    "geometry.thickness=0.25": {"export", "validate"},
    "training.learning_rate=1e-3": {"training", "train", "optimize", "validate"},
    "sampling.workers=3": set(),
    "description=words": set(),
}


@pytest.mark.parametrize("override", AFTER)
def test_a_changed_key_redoes_what_depends_on_it(folder, override):
    redone, expected = done_anew(folder, validate, override), AFTER[override]
    if "optimize" in expected:  # the design, and with it the CAD, may or may not change
        redone -= {"export"}
    assert redone == expected


def test_changed_samples_redo_all(folder):
    redone = done_anew(folder, validate, "sampling.seed=9")
    assert redone - {"export"} == {"sample", "training", "train", "optimize", "validate"}


def test_more_designs_leave_those_that_are_solved(folder):
    files = {file: file.stat().st_mtime_ns for file in (folder / "samples").glob("*/*.npz")}
    assert len(files) == 9
    sample(tiny_run(folder, "sampling.designs=8"))
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert len(list((folder / "samples").glob("*/*.npz"))) == 11


@pytest.mark.parametrize("name", ["optimum.step", "certificate.json", "optimum.vtu", "held_out.npz"])
def test_an_edit_that_leaves_a_files_size_is_seen_too(folder, finished, name):
    whole = (finished[1] / name).read_bytes()
    at = whole.index(b"1", len(whole) // 3)
    (folder / name).write_bytes(whole[:at] + b"2" + whole[at + 1 :])
    certificate = validate(tiny_run(folder))
    assert certificate["objective"] == finished[0]["objective"]
    assert certificate["files"]["optimum.step"] == sha256(folder / "optimum.step")
    if name != "optimum.step":  # which carries the time at which it was written
        assert certificate["files"] == finished[0]["files"]
        assert name == "certificate.json" or (folder / name).read_bytes() == whole


@pytest.mark.parametrize("name", ["certificate.json", "optimum.json", "optimum.vtu", "designs.npz", WEIGHTS])
def test_half_a_file_is_not_taken_for_a_whole_one(folder, finished, name):
    whole = (finished[1] / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    validate(tiny_run(folder))
    if name == "certificate.json":
        again, before = json.loads((folder / name).read_text()), finished[0]
        for volatile in ("timings", "fem_solves"):
            again.pop(volatile)
        assert again == {key: before[key] for key in again}
    elif name == WEIGHTS:
        assert weights(folder) == weights(finished[1])
    else:
        assert (folder / name).read_bytes() == whole


def interrupted_at(stage, when):
    def report(name, done, total, text):
        if name == stage and done == when:
            raise KeyboardInterrupt

    return report


BREAKS = (
    ("sample designs", 3), ("sample held_out", 1), ("train", 13), ("train", 30), ("optimize", 2), ("export", 0),
    ("validate", 0),
)  # fmt: skip


def test_ctrl_c_in_any_stage_costs_only_what_it_was_at(tmp_path, finished):
    """One run is broken off in each stage in turn, goes on, and ends with the bits of one that never was."""
    began = {}
    """Break -> first step of training that the run after it reports."""
    breaks = [*BREAKS, (None, None)]
    for before, (stage, when) in zip([None, *BREAKS], breaks, strict=True):
        stop = interrupted_at(stage, when)

        def report(name, done, total, text, before=before, stop=stop):
            if name == "train":
                began.setdefault(before, done)
            stop(name, done, total, text)

        if stage is None:
            certificate = validate(tiny_run(tmp_path, report=report))
            continue
        with pytest.raises(KeyboardInterrupt):
            validate(tiny_run(tmp_path, report=report))
        assert not (tmp_path / "certificate.json").exists()
    for name in ("designs.npz", "held_out.npz"):
        assert (tmp_path / name).read_bytes() == (finished[1] / name).read_bytes()
    assert weights(tmp_path) == weights(finished[1])
    assert certificate["parameters"] == finished[0]["parameters"]
    # step 13 was saved at once, and not only step 10 by checkpoint_every; what is trained is not trained again
    assert {at: step for at, step in began.items() if at in BREAKS[2:]} == {("train", 13): 14}
    assert not (tmp_path / CHECKPOINT).exists()


def weights(folder):
    """Bytes of all tensors: the file itself also holds the seconds that the training took."""
    surrogate, _ = open_surrogate(setup_of(), folder / WEIGHTS)
    return {name: tensor.numpy().tobytes() for name, tensor in surrogate.state_dict().items()}


@pytest.mark.parametrize("change", ["surrogate.width=8", "sampling.seed=9", "training.learning_rate=1e-3"])
def test_a_checkpoint_of_something_else_is_not_continued(tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        train(tiny_run(tmp_path, report=interrupted_at("train", 13)))
    assert (tmp_path / CHECKPOINT).exists()
    steps = []

    def report(name, done, *_):
        if name == "train":
            steps.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_run(tmp_path, change, report=report))
    assert steps == [1]


def test_a_changed_family_of_ones_own_is_sampled_anew(tmp_path, inline):
    """Its text is not in the study file, and decides over all that is computed."""
    text = (
        "from shapewright.geometries.family.closed_bar import closed_bar\n"
        "def Bar():\n    return closed_bar(control_points=6, upper={upper})\n"
    )
    study = write_tiny(tmp_path, ("closed_bar\n  options: {control_points: 6, start: ellipse}", "shapes.py:Bar"))
    from shapewright.studies.problem.setup import build_setup
    from shapewright.studies.run.pipeline import Run

    hashes = set()
    for upper in (1.5, 1.5, 1.4):
        (tmp_path / "shapes.py").write_text(text.format(upper=upper))
        run = Run(build_setup(load_study(study)), Workspace(tmp_path / "out"))
        (tmp_path / "out" / ".stages").mkdir(parents=True, exist_ok=True)
        hashes.add(sample(run)[0].hash)
    assert len(inline) == 2
    assert len(hashes) == 2


def test_a_finish_goes_on_from_the_first_training_and_from_where_it_was_broken_off(tmp_path, monkeypatch):
    """Held-out errors are given, and fall, so that the last weights are kept whatever the processor rounds to."""
    falling = (1 / n for n in count(1))
    monkeypatch.setattr(training._DesignTask, "error", lambda task: next(falling))
    override = "training.fine_tuning={steps: 12, learning_rate: 1e-4, gradient_weight: 1.0}"
    seen = []

    def kill_in_the_finish(name, done, total, text):
        seen.append((done, total))
        if (done, total) == (11, 12):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_run(tmp_path / "broken", override, report=kill_in_the_finish))
    trained = [entry for entry in seen if entry[1] in (30, 12)]
    assert trained == [(k, 30) for k in range(1, 31)] + [(k, 12) for k in range(1, 12)]
    seen.clear()
    resumed = train(tiny_run(tmp_path / "broken", override, report=lambda name, *rest: seen.append(rest[:2])))
    assert seen == [(12, 12)]
    whole, first = (train(tiny_run(tmp_path / name, *more)) for name, more in (("whole", [override]), ("first", [])))
    weights = [read_weights(path)[0]["operator.projection.weight"] for path in (resumed, whole, first)]
    assert torch.equal(weights[0], weights[1])
    change = (weights[1] - weights[2]).float().norm()
    assert 0 < change < 0.1 * weights[2].float().norm()
    assert read_weights(whole)[1]["training"]["fine_tuning"]["gradient_weight"] == 1.0
    assert {path.name for path in (tmp_path / "broken").glob("surrogate*")} == {WEIGHTS, "surrogate.card.json"}


def test_stresses_that_overflow_a_smooth_maximum_name_the_mend(tmp_path):
    pascal = 'physics.natural=[{on: [left, right, bottom, top], u: "2e8*nx - 1e4*u", v: "1e8*ny - 1e4*v"}]'
    steel = (pascal, "physics.coefficients.youngs_modulus=2.1e11", "optimizer.on=fem", "optimizer.method=slsqp")
    study = load_study(ROOT / "studies" / "plate_hole.yaml", ("geometry.mesh_size=0.4", *steel))
    with pytest.raises(OptimizationError, match=r"'ks_hoop_stress' is not finite: inf; .*reference_stress"):
        find_optimum(Run(build_setup(study), Workspace(tmp_path)))


def test_training_that_diverges_is_an_error_that_can_be_mended(tmp_path):
    from shapewright.surrogate.training.loop import TrainingError

    with pytest.raises(TrainingError, match=r"lower the learning_rate"):
        train(tiny_run(tmp_path, "training.learning_rate=1e30"))
    assert train(tiny_run(tmp_path)).exists()


def test_an_optimum_that_cannot_be_is_said_so(tmp_path):
    run = tiny_run(tmp_path, "optimizer.on=fem", "constraints.0.equals=100", "optimizer.starts=1")
    with pytest.raises(OptimizationError, match=r"optimize: No search ended where all constraints are met"):
        find_optimum(run)
    assert not (tmp_path / "optimum.json").exists()


def test_weights_for_another_study_are_refused_with_the_differences(finished):
    weights = f"surrogate.weights={finished[1] / WEIGHTS}"
    changes = ("physics.source.u=3.0", "geometry.mesh_size=0.5", "surrogate.width=8")
    with pytest.raises(SurrogateFileError) as caught:
        pipeline.surrogate_of(tiny_run(finished[1], weights, *changes))
    text = str(caught.value)
    assert f"{finished[1] / WEIGHTS}: trained for another study:\n" in text
    assert "physics.source.u: trained for 2.0, this study has 3.0" in text
    assert "geometry.mesh_size: trained for 0.4, this study has 0.5" in text
    assert "surrogate.width: trained for 4, this study has 8" in text


def test_a_wider_box_loads_warns_once_and_is_in_the_certificate(finished, tmp_path):
    weights = f"surrogate.weights={finished[1] / WEIGHTS}"
    wide = ("geometry.bounds.r0=[1.52, 1.7]", "geometry.initial.r0=1.6", "optimizer.max_iterations=60")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OutsideBoxWarning)
        certificate = validate(tiny_run(tmp_path, weights, *wide))
    said = [str(warning.message) for warning in caught if warning.category is OutsideBoxWarning]
    assert len(said) == 2  # the optimizer's model and the certificate's, however often each is asked
    assert all(text.startswith("r0 = 1.") for text in said)
    warning, start = certificate["warnings"]
    assert start.startswith("The start violates area equals by ")
    assert warning.startswith("r0 = 1.")
    assert warning.endswith("is outside [0.6, 1.5], what the surrogate was trained on")
    assert "train" not in certificate["timings"]  # it was not trained here
    assert not (tmp_path / WEIGHTS).exists()


def test_a_surrogate_that_had_no_part_leaves_no_card(folder):
    certificate = validate(tiny_run(folder, "optimizer.on=fem", "optimizer.starts=1"))
    assert not (folder / "surrogate.card.json").exists()
    assert certificate["objective"]["surrogate"] is None
    assert set(certificate["timings"]) == {"optimize", "export", "validate"}
    validate(tiny_run(folder))  # and the weights are still those of the study
    assert (folder / "surrogate.card.json").exists()


@contextmanager
def largest_file(size):
    """Writes beyond ``size`` bytes fail with an OSError, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_full_disk_is_an_error_in_every_stage_and_no_loss(tmp_path, finished):
    """With a limit just below the size of each artefact, one after the other, whichever fails at it."""
    from shapewright.geometries.cad.step import CadError

    sizes = sorted({path.stat().st_size for path in finished[1].iterdir() if path.is_file()})
    failures = []
    for size in sizes:
        try:
            with largest_file(size - 1):
                validate(tiny_run(tmp_path))
        except (OSError, CadError) as error:
            failures.append(str(error))
            assert not (tmp_path / "certificate.json").exists()
    certificate = validate(tiny_run(tmp_path))
    assert len(failures) >= 8
    assert [text for text in failures if str(tmp_path) not in text] == []  # each names the file
    assert certificate["parameters"] == finished[0]["parameters"]
    for name in ("optimum.msh", "optimum.stl", "optimum.brep"):
        assert (tmp_path / name).stat().st_size == (finished[1] / name).stat().st_size
    assert not list(tmp_path.rglob("*.part"))


STOPPING = """\
import signal, sys
from shapewright.app import cli

stage, at = sys.argv.pop(1).split(":")

class Stopping(cli.ProgressBars):
    def __call__(self, name, done, total, detail):
        if (name, done) == (stage, int(at)):
            print("stopped", flush=True)
            while True:
                signal.pause()

cli.ProgressBars = Stopping
cli.main()
"""


@contextmanager
def stopped_at(stage, done, study, folder, *overrides):
    """`train` in a process of its own, standing still where it reports this; nothing here waits for a while only.

    Its workers hold its standard output too: that ends when the last of them has ended.
    """
    sets = [argument for override in overrides for argument in ("--set", override)]
    line = [sys.executable, "-c", STOPPING, f"{stage}:{done}", "train", str(study), "--out", str(folder), *sets]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=attend_to_ctrl_c,
    ) as process:  # fmt: skip
        first = process.stdout.readline()
        assert first == "stopped\n", first + process.stderr.read()
        yield process


def attend_to_ctrl_c():
    """A job in the background is started with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
def test_kill_and_ctrl_c_in_processes_of_their_own(tmp_path, finished):
    """SIGINT while workers solve, SIGKILL of the parent while they solve, SIGKILL in training; then to the end."""
    study, out = write_tiny(tmp_path), tmp_path / "out"

    def samples():
        return len(list(out.glob("samples/*-designs/[0-9]*.npz")))

    with stopped_at("sample designs", 2, study, out) as process:
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted; what was finished is kept" in errors
    assert "Traceback" not in errors + output
    assert samples() == 2

    with stopped_at("sample designs", 4, study, out) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()  # no worker outlives its parent, or this would not end
    assert samples() == 4

    with stopped_at("train", 13, study, out) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert (out / CHECKPOINT).exists()
    assert not (out / WEIGHTS).exists()

    steps = []
    train(tiny_run(out, report=lambda name, done, *_: steps.append(done) if name == "train" else None))
    assert steps[0] == 11  # of SIGKILL nothing can be saved; the checkpoint is of step 10
    assert (out / "designs.npz").read_bytes() == (finished[1] / "designs.npz").read_bytes()
    assert weights(out) == weights(finished[1])
