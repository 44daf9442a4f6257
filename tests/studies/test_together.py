"""Promise: the command trains by several processes, one lost ends all with one error, and any number goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from shapewright.studies.problem.samples import Samples
from shapewright.studies.problem.surrogates import open_surrogate
from shapewright.studies.run.together import in_processes
from shapewright.studies.schema.loader import StudyError
from shapewright.surrogate.models.weights_file import read_weights
from shapewright.surrogate.training.loop import MAGIC
from tests.studies.study_cases import setup_of, tiny_run, write_tiny

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
STEPS = 60
MANY = ("training.batch=4", f"training.steps={STEPS}", f"training.check_every={STEPS}", "training.checkpoint_every=5")
CHECKPOINT = "surrogate.safetensors.checkpoint"


def line(study, out, *options):
    sets = [part for override in MANY for part in ("--set", override)]
    return ["-m", "shapewright.app.cli", "train", str(study), "--out", str(out), *sets, *options]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(condition, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def saved_step(checkpoint):
    data = checkpoint.read_bytes()[len(MAGIC) + 32 :]  # after its checksum
    return torch.load(io.BytesIO(data), weights_only=True)["step"]


def ranks(process):
    """The training processes below the command, in the order of their start."""
    below = psutil.Process(process.pid).children(recursive=True)
    found = [child for child in below if "spawn_main" in " ".join(child.cmdline())]
    return sorted(found, key=lambda child: child.create_time())


@pytest.mark.slow
def test_a_killed_process_ends_all_and_torchrun_goes_on_with_another_number(tmp_path):
    study, out = write_tiny(tmp_path), tmp_path / "out"
    process = start(*line(study, out, "--processes", "2"))
    wait_for((out / CHECKPOINT).exists)
    both = ranks(process)
    assert len(both) == 2
    both[1].send_signal(signal.SIGKILL)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 3, errors
    assert errors.count("error:") == 1
    assert "training process 2 of 2 was ended by SIGKILL; if memory ran out" in errors
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors + output
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in both)
    assert not list(out.rglob("part-*"))
    assert not (out / "surrogate.safetensors").exists()
    saved = saved_step(out / CHECKPOINT)
    assert 0 < saved < STEPS, "the kill came too late to show anything"

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", *line(study, out)[:2]]
    process = start(*torchrun, *line(study, out)[2:])
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert output.count("held out on 2 designs: field u ") == 1  # the first one says it
    first = next(part for part in errors.split("train: ")[1:] if f"/{STEPS}" in part)
    assert int(first.partition("/")[0]) > saved
    _, card = read_weights(out / "surrogate.safetensors")

    from shapewright.studies.run.pipeline import train

    alone = train(tiny_run(tmp_path / "alone", *MANY))
    expected = read_weights(alone)[1]
    assert card["data_hash"] == expected["data_hash"]
    assert card["held_out"]["gradient"] == pytest.approx(expected["held_out"]["gradient"], rel=0.02)
    for name, tensor in open_surrogate(setup_of(*MANY), alone)[0].state_dict().items():
        other = open_surrogate(setup_of(*MANY), out / "surrogate.safetensors")[0].state_dict()[name]
        torch.testing.assert_close(other, tensor, rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_ctrl_c_and_the_death_of_the_command_leave_no_process(tmp_path):
    study, out, endless = write_tiny(tmp_path), tmp_path / "out", 100_000
    command = line(study, out, "--processes", "2", "--set", f"training.steps={endless}")
    process = start(*command)
    wait_for((out / CHECKPOINT).exists)
    both = ranks(process)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 130, errors
    saved = saved_step(out / CHECKPOINT)
    assert f"interrupted; the training is saved at step {saved} of {endless}; what was finished is kept" in errors
    assert "Traceback" not in errors + output
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in both)

    process = start(*command)
    wait_for(lambda: saved_step(out / CHECKPOINT) > saved)
    both = ranks(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=900)
    wait_for(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in both))


def test_more_processes_than_a_batch_has_designs_are_refused(tmp_path):
    setup = setup_of()
    data = [0] * 6
    samples = Samples(data, data, None)
    with pytest.raises(StudyError, match=r"--processes: found 3; expected at most 2, the designs of a batch"):
        in_processes(3)(setup, samples, tmp_path / "surrogate.safetensors", "cpu", lambda progress: None)


@pytest.mark.gpu
def test_more_processes_than_gpus_are_refused(tmp_path):
    data, count = [0] * 99, torch.cuda.device_count() + 1
    samples = Samples(data, data, None)
    with pytest.raises(StudyError, match=rf"--processes: found {count}; expected at most {count - 1}, one a GPU"):
        in_processes(count)(setup_of(), samples, tmp_path / "s", "cuda", lambda progress: None)
