"""Tensor-GaLore, AdamW and AdamW in eight bits on a large Fourier neural operator: memory, time, refreshes."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.fourier_network import FourierNetwork
from benchmarks.gpu.results import Recorder
from benchmarks.gpu.timing import peak_mib, reset_peak, wait
from benchmarks.optimizer_bytes import optimizer_state_bytes
from shapewright.surrogate.optim.tensor_galore import TensorGaLore

CHANNELS_IN = (1.0, 1.0, 0.25, 1.0)
UPDATE_GAP = 200
STEPS = 8


@dataclass(frozen=True)
class Sizes:
    """Of the network: 67 M real parameters by default."""

    width: int = 128
    modes: int = 16
    layers: int = 4


Build = Callable[[FourierNetwork], torch.optim.Optimizer]


def _galore(rank: Any, rule: str = "spectrum", **options: Any) -> Build:
    def build(network: FourierNetwork) -> TensorGaLore:
        groups = [
            {"params": network.spectral_weights(), "rank": rank, "rank_rule": rule},
            {"params": network.other_parameters(), "rank": 1.0},
        ]
        return TensorGaLore(groups, lr=1e-4, weight_decay=1e-4, update_gap=UPDATE_GAP, **options)

    return build


OPTIMIZERS: dict[str, Build] = {
    "AdamW": lambda network: torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-4),
    "AdamW, one tensor at a time": lambda network: torch.optim.AdamW(
        network.parameters(), lr=1e-4, weight_decay=1e-4, foreach=False
    ),
    "AdamW, 8 bits": _galore(1.0, moments="8bit"),
    "channels in alone, 0.25": _galore(CHANNELS_IN),
    "channels in alone, 0.25, released gradients": _galore(CHANNELS_IN, step_in_backward=True),
    "uniform, 0.25, released gradients": _galore(0.25, "uniform", step_in_backward=True),
    "channels in alone, 8 bits, released gradients": _galore(CHANNELS_IN, moments="8bit", step_in_backward=True),
}


def cases(rehearsal: bool) -> Iterator[tuple[Sizes, int]]:
    """Networks and resolutions, the decisive ones first."""
    if rehearsal:
        yield Sizes(16, 4, 2), 16
        return
    for resolution in (128, 256, 512, 1024):
        yield Sizes(), resolution
    yield Sizes(modes=32), 128


def measure_memory(record: Recorder, device: torch.device, deadline: float, rehearsal: bool) -> None:
    """Rows of every network with every optimizer, beside AdamW of torch on the same one."""
    for sizes, resolution in cases(rehearsal):
        base: dict[str, float] = {}
        for name, build in OPTIMIZERS.items():
            if time.monotonic() > deadline:
                continue
            case = f"width {sizes.width}, modes {sizes.modes}, {resolution} x {resolution}, {name}"
            with record.guarded(case):
                found = measure_one(build, sizes, resolution, device)
                if name == "AdamW":
                    base = found
                _rows(record, case, found, base)
            gc.collect()
            reset_peak(device)


def measure_one(build: Build, sizes: Sizes, resolution: int, device: torch.device) -> dict[str, float]:
    """Parameters, bytes of the optimizer, peak MiB of steps with and without refreshes, seconds of a step of each."""
    reset_peak(device)
    torch.manual_seed(0)
    field = torch.randn(1, resolution, resolution, device=device)
    network = FourierNetwork(sizes.width, sizes.modes, sizes.layers).to(device)
    optimizer = build(network)

    def step() -> float:
        wait(device)
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        network(field).square().mean().backward()
        optimizer.step()
        wait(device)
        return time.perf_counter() - begun

    first = step()
    found = {
        "parameters": sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters()),
        "first_seconds": first,
        "first_peak": peak_mib(device),
    }
    step()
    reset_peak(device)
    found |= {"seconds": statistics.median(step() for _ in range(STEPS)), "peak": peak_mib(device)}
    found["bytes"] = optimizer_state_bytes(optimizer)
    if isinstance(optimizer, TensorGaLore):
        found |= _refresh(optimizer, step, device, found["seconds"])
    return found


def _refresh(
    optimizer: TensorGaLore, step: Callable[[], float], device: torch.device, usual: float
) -> dict[str, float]:
    """Every subspace refreshed in one step, as happens spread over ``UPDATE_GAP`` steps of a training."""
    for group in optimizer.param_groups:
        group["update_gap"] = 1
    step()  # reconsiders ranks, once
    before = optimizer.refresh_seconds
    reset_peak(device)
    step()
    spent = optimizer.refresh_seconds - before
    return {"refresh_share": spent / (spent + UPDATE_GAP * usual), "refresh_peak": peak_mib(device)}


def _rows(record: Recorder, case: str, found: dict[str, Any], base: dict[str, Any]) -> None:
    def saved(key: str) -> str:
        known = base.get(key) and found.get(key) is not None
        return f"{1 - found[key] / base[key]:.1%} less than AdamW" if known else ""

    record.row(f"{case}, parameters", found["parameters"] / 1e6, "million")
    record.row(f"{case}, optimizer", found["bytes"] / 2**20, "MiB", saved("bytes"))
    for key, name in (("peak", "a step"), ("first_peak", "the first step")):
        if found[key] is not None:
            record.row(f"{case}, peak of {name}", found[key], "MiB", saved(key))
    ratio = f"{found['seconds'] / base['seconds']:.2f} times AdamW's" if base.get("seconds") else ""
    record.row(f"{case}, step", 1e3 * found["seconds"], "ms", ratio)
    if "refresh_share" in found:
        record.row(f"{case}, refreshes", 100 * found["refresh_share"], "% of the time", f"every {UPDATE_GAP} steps")
    if found.get("refresh_peak") is not None:
        record.row(f"{case}, peak of a step with refreshes", found["refresh_peak"], "MiB", saved_peak(found, base))


def saved_peak(found: dict[str, Any], base: dict[str, Any]) -> str:
    """A refresh beside an ordinary step of AdamW."""
    known = base.get("peak") and found["refresh_peak"] is not None
    return f"{1 - found['refresh_peak'] / base['peak']:.1%} less than AdamW" if known else ""
