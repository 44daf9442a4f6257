"""Seconds of a computation on a device, and what it has allocated at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def wait(device: torch.device) -> None:
    """Wait until all work of the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(
    compute: Callable[[], Any], device: torch.device, enough: float, repeats: int = 20, warm: int = 2
) -> float:
    """Median of up to ``repeats`` runs after ``warm`` ones, at least one; no more begin after ``enough`` seconds."""
    for _ in range(warm):
        compute()
    wait(device)
    taken, began = [], time.perf_counter()
    while len(taken) < repeats and (not taken or time.perf_counter() - began < enough):
        begun = time.perf_counter()
        compute()
        wait(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def reset_peak(device: torch.device) -> None:
    """Forget what was allocated at most."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float | None:
    """MiB that tensors took at most since :func:`reset_peak`; None on the CPU, where torch does not count them."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
