"""Promise: processes that train together take the steps of one on the same batches, and hold the same factors."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shapewright.surrogate.training import processes
from shapewright.surrogate.training.derivative_informed import TrainingConfig, train
from shapewright.surrogate.training.loop import TrainingError
from tests.surrogate.design_cases import exact_dataset, small_surrogate
from tests.surrogate.together_worker import STEPS, run

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def results_of(count, folder):
    line = [sys.executable, "-m", "tests.surrogate.together_worker"]
    workers = [
        subprocess.Popen(
            [*line, str(rank), str(count), str(folder)],
            cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    try:
        errors = [worker.communicate(timeout=900)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * count, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


def test_two_processes_take_the_steps_of_one(tmp_path):
    """By Tensor-GaLore in double precision; in single precision rounding grows to 3e-6 of the loss over the steps."""
    alone = run()
    first, second = results_of(2, tmp_path)
    assert len(alone["losses"]) == len(first["losses"]) == STEPS
    assert second["losses"] == []  # the first one reports
    apart = max(abs(a / b - 1) for a, b in zip(first["losses"], alone["losses"], strict=True))
    print(f"losses {apart:.1e} apart over {STEPS} steps")
    assert apart < 1e-9
    assert alone["errors"][-1] < alone["errors"][0]
    assert first["errors"] == second["errors"] == pytest.approx(alone["errors"], rel=1e-9)
    for name, tensor in first["weights"].items():
        assert torch.equal(tensor, second["weights"][name]), name
    factors = 0
    for one, other in zip(first["states"], second["states"], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        factors += sum(key.startswith("factor_") for key in one)
    assert factors == 2


def test_shares_make_up_the_batch_whatever_their_sizes(monkeypatch):
    values = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(processes, "count", lambda: 3)
    seen, total = [], 0.0
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        own, weight = processes.share(7)
        seen += range(7)[own]
        total += float(weight * values[own].mean()) / 3
    assert seen == list(range(7))
    assert total == pytest.approx(float(values.mean()), rel=1e-12)


def test_batches_with_no_share_for_each_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 8)
    config = TrainingConfig(steps=2, batch=6)
    with pytest.raises(TrainingError, match=r"8 processes train together on batches of 6; raise training.batch"):
        train(small_surrogate(), exact_dataset(40, seed=1), exact_dataset(12, seed=2), config)
    with pytest.raises(TrainingError, match="on batches of 3"):
        train(small_surrogate(), exact_dataset(3, seed=1), exact_dataset(12, seed=2), replace(config, batch=9))


def test_checkpoints_that_differ_between_machines_are_refused(monkeypatch):
    from shapewright.surrogate.training import loop as trainer

    monkeypatch.setattr(processes, "of_first", lambda function, like: 8.0)
    with pytest.raises(TrainingError, match=r"find different checkpoints; the output folder has to be the same"):
        trainer._agree(4, small_surrogate())
    trainer._agree(8, small_surrogate())
