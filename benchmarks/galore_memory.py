"""Memory and time of an optimizer step on a network large enough that the optimizer matters.

Each contender is a process of its own: the network, its gradients, and a few steps. The bytes of the optimizer are
exact on any machine; peak memory is that of the process beyond what it had before the network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.fourier_network import FourierNetwork
from benchmarks.galore_contenders import Contender
from benchmarks.galore_training import held_bytes
from benchmarks.isolated import PEAK_RESET, kib

STEPS = 4


@dataclass(frozen=True)
class LargeNetwork:
    """Sizes; by default 67 M real parameters."""

    width: int = 128
    modes: int = 16
    layers: int = 4
    resolution: int = 64
    batch: int = 1


def memory_row(contender: Contender, network: LargeNetwork) -> dict[str, Any]:
    """Bytes of the optimizer, peak MiB of training, seconds of the first and of later optimizer steps."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(partial(_measure, contender.label, network))


def _measure(label: str, sizes: LargeNetwork) -> dict[str, Any]:
    from benchmarks.galore_contenders import contenders

    torch.set_num_threads(1)
    contender = next(each for each in contenders() if each.label == label)
    field = torch.randn(sizes.batch, sizes.resolution, sizes.resolution)
    before = kib("VmRSS")
    PEAK_RESET.write_text("5")
    network = FourierNetwork(round(sizes.width * contender.width_share), sizes.modes, sizes.layers)
    optimizer = contender.build(network, contender.settings[0])
    seconds, passes = [], []
    for _ in range(STEPS):
        begun = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        network(field).square().mean().backward()
        halfway = time.process_time()
        optimizer.step()
        seconds.append(time.process_time() - halfway)
        passes.append(halfway - begun)
    return {
        "parameters": sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters()),
        "optimizer_bytes": held_bytes(optimizer),
        "peak_mib": (kib("VmHWM") - before) / 1024,
        "first_step_seconds": seconds[0],
        "later_step_seconds": min(seconds[1:]),
        "passes_seconds": min(passes),
    }
