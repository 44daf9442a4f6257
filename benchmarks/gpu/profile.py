"""Where the time of a value and gradient and of a training step goes: the longest kernels, as rows.

Run by the kit as a process of its own, ``python -m benchmarks.gpu.profile``: a profiler slows what comes after it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.fourier_network import FourierNetwork
from benchmarks.gpu.designs import repeated
from benchmarks.gpu.memory import OPTIMIZERS, Sizes
from benchmarks.gpu.problems import open_bundle, open_shipped
from benchmarks.gpu.results import Recorder
from benchmarks.gpu.timing import wait

LONGEST = 25
"""Kernels of each case that get a row."""
STEPS = 5
STEPPED = ("AdamW", "channels in alone, 0.25", "channels in alone, 0.25, released gradients")
"""Optimizers whose training step is looked into, by their names in :mod:`benchmarks.gpu.memory`."""


def record_kernels(record: Recorder, case: str, compute: Callable[[], Any], device: torch.device, runs: int) -> None:
    """Rows of the wall time and the device's own time of a run, and of its longest kernels (operators on a CPU)."""
    compute()
    wait(device)
    begun = time.perf_counter()
    for _ in range(runs):
        compute()
    wait(device)
    wall = (time.perf_counter() - begun) / runs
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as found:
        for _ in range(runs):
            compute()
        wait(device)
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [event for event in found.key_averages() if event.device_type == kind]
    taken = {event.key: _microseconds(event, on_gpu) for event in events}
    counts = {event.key: event.count / runs for event in events}
    total = sum(taken.values())
    beside = f"{sum(counts.values()):.0f} kernels take {total / runs / 1e3:.3g} ms on the device"
    record.row(f"{case}, wall time", 1e3 * wall, "ms", beside)
    for name in sorted(taken, key=lambda name: -taken[name])[:LONGEST]:
        beside = f"{taken[name] / total:.1%}, {counts[name]:.0f} times"
        record.row(f"{case}, {_short(name)}", taken[name] / runs / 1e3, "ms", beside)


def _microseconds(event: Any, on_gpu: bool) -> float:
    return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)


def _short(name: str) -> str:
    """A kernel's name without what all templates of torch share; no table's bar, no comma."""
    for noise in ("void ", "at::native::", "(anonymous namespace)::", "std::"):
        name = name.replace(noise, "")
    return name.replace("|", "/").replace(", ", " ")[:110]


def training_step(name: str, sizes: Sizes, resolution: int, device: torch.device) -> Callable[[], None]:
    """One step of the network of :mod:`benchmarks.gpu.memory` by one of its optimizers."""
    torch.manual_seed(0)
    field = torch.randn(1, resolution, resolution, device=device)
    network = FourierNetwork(sizes.width, sizes.modes, sizes.layers).to(device)
    optimizer = OPTIMIZERS[name](network)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(field).square().mean().backward()
        optimizer.step()

    return step


def main() -> None:
    """A study's value and gradient, then training steps, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--study", help="by default stokes_body, or the first of the bundle")
    chosen = parser.parse_args()
    deadline, device = time.monotonic() + chosen.seconds, torch.device(chosen.device)
    record, bundle, on_gpu = Recorder(chosen.out, "profile"), open_bundle(chosen.bundle), chosen.device == "cuda"
    name = chosen.study or ("stokes_body" if "stokes_body" in bundle.studies else bundle.studies[0])
    batch, sizes, resolution = (1024, Sizes(), 128) if on_gpu else (2, Sizes(16, 4, 2), 16)
    with record.guarded(f"{name}, value and gradient"):
        network = open_shipped(bundle.problem(name), chosen.weights / f"{name}.safetensors").to(device)
        theta = repeated(bundle.data(name).designs.theta, batch).to(device, torch.float32)
        case = f"{name}, value and gradient, batch {batch}"
        record_kernels(record, case, lambda: network.value_and_gradient(theta), device, 1)
    for optimizer in STEPPED:
        if time.monotonic() < deadline:
            case = f"width {sizes.width}, {resolution} x {resolution}, {optimizer}, step"
            with record.guarded(case):
                record_kernels(record, case, training_step(optimizer, sizes, resolution, device), device, STEPS)


if __name__ == "__main__":
    main()
