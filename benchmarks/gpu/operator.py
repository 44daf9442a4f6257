"""Time and peak memory of the mGNO by points: forward, with backward, and a physics step."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from benchmarks.gpu.results import Recorder
from benchmarks.gpu.timing import median_seconds, peak_mib, reset_peak
from benchmarks.mgno_sides import data, our_step, ours

CASES = ("forward", "forward+backward", "physics step")
GRIDS = ((64, 64), (32, 32, 32))
POINTS = (10_000, 100_000, 1_000_000)


def measure_operator(
    record: Recorder, device: torch.device, deadline: float, points: tuple[int, ...] = POINTS
) -> None:
    """Rows of every case; more points come last, and are what a short run leaves out."""
    for count in points:
        for grid in GRIDS if count > 1000 else GRIDS[:1]:
            for case in CASES:
                name = f"{case}, {'x'.join(map(str, grid))}, {count:,} points"
                if time.monotonic() > deadline:
                    record.row(name, None, "left out: no time")
                    continue
                with record.guarded(name):
                    _measure(record, name, case, grid, count, device)


def _measure(
    record: Recorder, name: str, case: str, grid: tuple[int, ...], count: int, device: torch.device
) -> None:
    given = data(grid, count)
    given = replace(
        given, interior=given.interior.to(device), boundary=given.boundary.to(device), queries=given.queries.to(device)
    )
    step = our_step(case, ours(grid).to(device), given)
    seconds = median_seconds(step, device, enough=1.0, repeats=10, warm=1)
    reset_peak(device)
    step()
    record.row(name, 1e3 * seconds, "ms", f"{count / seconds / 1e6:.2f} million points a second")
    if device.type == "cuda":
        record.row(f"{name}, peak", peak_mib(device), "MiB")
    reset_peak(device)
