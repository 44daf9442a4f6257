"""Two processes under DistributedDataParallel take the steps of one process on the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.surrogate.galore_worker import BATCH, network, run

ROOT = Path(__file__).parents[2]


def test_two_processes_equal_one(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.surrogate.galore_worker", str(rank), "2", str(tmp_path)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate()[1] for worker in workers]  # torch itself ends one whose partner has died
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    alone = network()
    start = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
    run(alone, slice(0, BATCH))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, tensor in alone.state_dict().items():
        assert torch.equal(first[name], second[name])
        assert float((tensor - start[name]).abs().max()) > 0.05
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=1e-9)
