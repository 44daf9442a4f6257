"""Promise: any engine gives the data that one process gives, bit for bit, also where workers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from shapewright.studies.problem.samples import draw_designs, random_directions
from shapewright.studies.run import engines
from shapewright.studies.run.engines import Engine, engine_overrides
from shapewright.studies.run.sampling import Designs, make_ready, sample_designs, solve_designs
from shapewright.studies.schema.loader import StudyError, load_study
from tests.studies.study_cases import InlineExecutor, setup_of, write_tiny

ROOT = Path(__file__).parents[2]
COUNT = 24
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def designs():
    return Designs(draw_designs(setup_of(), COUNT, 0), random_directions(setup_of(), COUNT, 1, 0))


@pytest.fixture(scope="module")
def serial(designs, tmp_path_factory):
    return solve_designs(setup_of().study, designs, tmp_path_factory.mktemp("serial"), InlineExecutor())


def study_on(*overrides):
    return load_study(setup_of().study.path, overrides)


def sampled_with_a_kill(engine, designs, folder, kill):
    """The data, where ``kill`` ends a worker as soon as two samples are there; no sample may come twice."""
    reported = []

    def report(done, total):
        reported.append(done)
        if done >= 2 and len(reported) <= 3:
            kill()
            reported.extend([done] * 3)  # once is enough

    data = sample_designs(engine, designs, folder, report)
    assert len(list(folder.glob("*.npz"))) == COUNT
    assert not list(folder.glob("*.part"))
    return data


@contextmanager
def dask_cluster(folder):
    """A scheduler and two workers on loopback, each a process; the scheduler's address, and the workers."""
    file = folder / "scheduler.json"
    tools, quiet = "distributed.cli.dask_", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    line = [sys.executable, "-m", f"{tools}scheduler", "--port", "0", *common]
    running = [subprocess.Popen(line, env=ENVIRONMENT, cwd=folder, **quiet)]
    try:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        for _ in range(2):
            line = [sys.executable, "-m", f"{tools}worker", "--nthreads", "1", "--no-nanny", *common]
            running.append(subprocess.Popen(line, env=ENVIRONMENT, cwd=folder, **quiet))
        yield json.loads(file.read_text())["address"], running[1:]
    finally:
        for process in running:
            process.kill()
            process.wait()


def wait_for(condition, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_dask_worker_killed_in_mid_sampling_loses_nothing(designs, serial, tmp_path):
    with dask_cluster(tmp_path) as (address, workers):
        overrides = engine_overrides(f"dask:{address}")
        with Engine(study_on(*overrides), tmp_path) as engine:
            wait_for(lambda: len(engine.executor._client.scheduler_info()["workers"]) == 2)
            data = sampled_with_a_kill(engine, designs, tmp_path / "samples", workers[0].kill)
            assert len(engine.executor._client.scheduler_info()["workers"]) == 1
        assert workers[1].poll() is None
    assert data.hash == serial.hash


def test_a_killed_process_loses_its_sample_alone(designs, serial, tmp_path):
    with Engine(study_on("sampling.workers=2"), tmp_path) as engine:
        engine.prepare(make_ready, engine.study)
        first = engine.executor
        data = sampled_with_a_kill(
            engine, designs, tmp_path / "samples", lambda: os.kill(next(iter(first._processes)), signal.SIGKILL)
        )
        assert engine.executor is not first
    assert data.hash == serial.hash


def test_jobs_of_submitit_one_of_them_killed(designs, serial, tmp_path, monkeypatch):
    with Engine(study_on(*engine_overrides("slurm:local"), "engine.jobs=2"), tmp_path) as engine:
        first, stopped = engine.executor, []
        follow = first.follow

        def stop_one_and_follow():
            """A job that stands still from its start on cannot have ended before it is killed."""
            controller = psutil.Process(first._open[0][0]._process.pid)
            controller.suspend()
            stopped.extend([*controller.children(recursive=True), controller])
            for process in stopped[:-1]:
                process.suspend()
            follow()

        def kill():
            for process in stopped:
                process.kill()

        monkeypatch.setattr(first, "follow", stop_one_and_follow)
        data = sampled_with_a_kill(engine, designs, tmp_path / "samples", kill)
        assert engine.executor is not first
    assert data.hash == serial.hash


def test_ranks_of_mpi(tmp_path):
    """The whole command, whose second rank solves."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("no mpiexec beside this Python")
    study = write_tiny(tmp_path)
    command = ["-m", "shapewright.app.cli", "sample", str(study), "--out"]
    line = [str(mpiexec), "-n", "2", sys.executable, "-m", "mpi4py.futures", *command, "mpi", "--engine", "mpi"]
    done = subprocess.run(line, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 designs and 3 held-out ones in mpi" in done.stdout
    from shapewright.studies.problem.setup import build_setup
    from shapewright.studies.run.pipeline import Run, sample
    from shapewright.studies.run.workspace import Workspace

    (tmp_path / "here" / ".stages").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "local_executor", InlineExecutor)
        sample(Run(build_setup(load_study(study)), Workspace(tmp_path / "here")))
    for name in ("designs.npz", "held_out.npz", "reference.npz"):
        assert (tmp_path / "mpi" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def opened(*overrides):
    with Engine(study_on(*overrides), Path("unused")):
        pass


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("dask:tcp://127.0.0.1:9",), r"engine.address: found 'tcp://127.0.0.1:9', where no scheduler answers .*8786"),
        (("dask:nonsense://x",), r"engine.address: found 'nonsense://x', where no scheduler answers"),
        (("dask:/nowhere/scheduler.json",), r"engine.address: found '/nowhere/scheduler.json', where there is no file"),
        (("mpi",), r"engine.name: found mpi in a program of 1 ranks .* expected `mpiexec -n N python -m mpi4py"),
        (("slurm",), r"engine.name: found slurm; expected dask, mpi or processes where there is no Slurm \(sbatch\)"),
        (("slurm:local", "engine.options={cores: 3}"), r"engine.options: found .*cores.*; expected parameters that"),
    ],
)
def test_engines_that_cannot_be_opened_say_why_within_seconds(overrides, text, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0.5)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=text):
        opened(*engine_overrides(overrides[0]), *overrides[1:])


@pytest.mark.parametrize(("name", "package"), [("dask:x", "distributed"), ("slurm", "submitit"), ("mpi", "mpi4py")])
def test_a_missing_extra_says_what_to_install(name, package, monkeypatch):
    for module in [known for known in sys.modules if known.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    extra = name.partition(":")[0]
    text = rf"engine.name: found {extra}, whose package {package} cannot be .* pip install 'shapewright\[{extra}\]'"
    with pytest.raises(StudyError, match=text):
        opened(*engine_overrides(name))


def test_what_the_command_line_names_replaces_what_the_study_names_and_no_more(tmp_path):
    section = "engine: {name: slurm, jobs: 3, options: {timeout_min: 9}}\n"
    study = write_tiny(tmp_path, ("optimizer:", section + "optimizer:"))
    engine = load_study(study, engine_overrides("slurm:local")).model.engine
    assert (engine.name, engine.address, engine.jobs, engine.options) == ("slurm", "local", 3, {"timeout_min": 9})
    with pytest.raises(StudyError, match="--engine: found 'dusk'; expected one of processes, dask, slurm, mpi"):
        engine_overrides("dusk:tcp://host:1")


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("{name: dask}", "engine.address: found nothing; expected the scheduler's of name dask"),
        ("{name: slurm, address: host}", "engine.address: found host; expected local, or nothing, of name slurm"),
        ("{name: mpi, address: host}", "engine.address: found host, which name mpi has no use for"),
        ("{name: processes, jobs: 3}", "engine.jobs: found it with name processes, which has no use for it"),
        ("{name: mpi, options: {a: 1}}", "engine.options: found it with name mpi"),
        ("{name: ray}", "engine.name: found 'ray' .*; expected one of processes, dask, slurm, mpi"),
    ],
)
def test_sections_that_contradict_themselves_are_refused(engine, text):
    with pytest.raises(StudyError, match=text):
        study_on(f"engine={engine}")
