"""Memory and time of an optimizer step on a network large enough that the optimizer matters.

Each contender is a process of its own: the network, its gradients, and a few steps. The bytes of the optimizer are
exact on any machine; peak memory is that of the process beyond what it had before the network, or what torch allocated
on the GPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.fourier_network import FourierNetwork
from benchmarks.galore_code import optimizer_code
from benchmarks.galore_contenders import Contender, contenders, torchs_adamw
from benchmarks.galore_training import Clock, held_bytes
from benchmarks.isolated import PEAK_RESET, kib
from shapewright.studies.files import content_key, write_json

STEPS = 4


@dataclass(frozen=True)
class LargeNetwork:
    """Sizes; by default 67 M real parameters."""

    width: int = 128
    modes: int = 16
    layers: int = 4
    resolution: int = 64
    batch: int = 1


def finished_memory(
    contender: Contender, folder: Path, device: str, sizes: LargeNetwork = LargeNetwork()
) -> dict[str, Any]:
    """Bytes of the optimizer, peak MiB of training, seconds of the first and of a later optimizer step."""
    code = optimizer_code() if contender.ours else None
    path = folder / f"memory_{content_key(contender.label, vars(sizes), device, code)}.json"
    if not path.exists():
        with get_context("spawn").Pool(1) as pool:
            row = pool.apply(_measure, (contender.label, sizes, device))
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"optimizer": contender.name, "rank": contender.rank, **row})
    return json.loads(path.read_text(encoding="utf-8"))


def _measure(label: str, sizes: LargeNetwork, device: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    contender = next(each for each in (*contenders(), torchs_adamw()) if each.label == label)
    field = torch.randn(sizes.batch, sizes.resolution, sizes.resolution, device=device)
    clock, before = Clock(field.device), kib("VmRSS")
    PEAK_RESET.write_text("5")
    network = FourierNetwork(round(sizes.width * contender.width_share), sizes.modes, sizes.layers).to(device)
    optimizer = contender.build(network, contender.settings[0])
    seconds, passes = [], []
    for _ in range(STEPS):
        begun = clock.seconds()
        optimizer.zero_grad(set_to_none=True)
        network(field).square().mean().backward()
        halfway = clock.seconds()
        optimizer.step()
        seconds.append(clock.seconds() - halfway)
        passes.append(halfway - begun)
    peak = (kib("VmHWM") - before) / 1024 if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
    return {
        "parameters": sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters()),
        "optimizer_bytes": held_bytes(optimizer),
        "peak_mib": peak,
        "first_step_seconds": seconds[0],
        "later_step_seconds": min(seconds[1:]),
        "passes_seconds": min(passes),
    }
