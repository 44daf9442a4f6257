"""Sums over neighbourhoods by Triton, as its interpreter runs them on a CPU, and when torch sums instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shapewright.surrogate.mgno import window_chunks

ROOT = Path(__file__).resolve().parents[2]


def test_kernels_sum_and_differentiate_as_torch():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "tests.surrogate.window_kernel_worker"],
        cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_torch_sums_on_the_cpu():
    assert window_chunks.kernels_for(torch.ones(1)) is None


def test_a_gpu_without_a_compiler_sums_by_torch_and_says_why(monkeypatch):
    def broken(name):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(window_chunks, "find_spec", lambda name: object())
    monkeypatch.setattr(window_chunks, "import_module", broken)
    window_chunks._kernels.cache_clear()
    with pytest.warns(UserWarning, match=r"by torch, several times slower .* fails here: no C compiler"):
        assert window_chunks._kernels(torch.device("cuda")) is None
    window_chunks._kernels.cache_clear()
