"""Value and design gradient of every shipped surrogate on the GPU, beside the CPU of the same machine and FEM."""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.problems import Bundle, open_shipped, values_close
from benchmarks.gpu.results import Recorder
from benchmarks.gpu.timing import median_seconds
from shapewright.surrogate.models.design_surrogate import DesignSurrogate

BATCHES = (1, 64, 1024)
JUDGED = 16
"""Designs whose values and gradients are compared with those in double precision."""
HOLDS = 1e-2
"""Relative error of the design gradient up to which a lower precision is worth timing."""


def measure_designs(
    record: Recorder, bundle: Bundle, weights: Path, device: torch.device, deadline: float, batches: tuple[int, ...]
) -> None:
    """Rows of every study of the bundle; those of the CPU last, so that they are what a short run leaves out."""
    networks = {}
    for name in bundle.studies:
        with record.guarded(name):
            networks[name] = open_shipped(bundle.problem(name), weights / f"{name}.safetensors")
    designs = {name: bundle.data(name).designs.theta for name in networks}
    for index, (name, network) in enumerate(networks.items()):
        share = time.monotonic() + 0.8 * (deadline - time.monotonic()) / (len(networks) - index)
        with record.guarded(name):
            _measure(record, name, network, designs[name], device, bundle.note(name)["fem_seconds"], share, batches)
    if device.type == "cuda":
        for name, network in networks.items():
            if time.monotonic() < deadline:
                with record.guarded(f"{name} on the CPU"):
                    for batch in batches[:2]:
                        seconds = _seconds(network, repeated(designs[name], batch), 0.5, 5)
                        case = f"{name}, CPU with {torch.get_num_threads()} threads, batch {batch}"
                        record.row(case, 1e3 * seconds / batch, "ms per design")


def _measure(
    record: Recorder,
    name: str,
    network: DesignSurrogate,
    theta: Tensor,
    device: torch.device,
    fem: float,
    deadline: float,
    batches: tuple[int, ...],
) -> None:
    exact = copy.deepcopy(network).double().value_and_gradient(theta[:JUDGED])
    there = copy.deepcopy(network).to(device)
    for mode, setting in _modes(device).items():
        with record.guarded(f"{name}, {mode}"), setting:
            found = there.value_and_gradient(theta[:JUDGED].to(device, torch.float32))
            errors = [values_close(part, truth) for part, truth in zip(found, exact, strict=True)]
            beside = f"value {errors[0]:.1e}" + ("" if errors[1] <= HOLDS else f"; over {HOLDS:g}: not timed")
            record.row(f"{name}, {mode}, gradient", errors[1], "relative error", beside)
            if errors[1] > HOLDS:
                continue
            for batch in batches if mode == "float32" else batches[-1:]:
                if time.monotonic() > deadline:
                    record.row(f"{name}, {mode}, batch {batch}", None, "left out: no time")
                    continue
                enough = max(0.3, (deadline - time.monotonic()) / 6)
                seconds = _seconds(there, repeated(theta, batch).to(device, torch.float32), enough)
                rate = batch / seconds
                beside = f"FEM {1 / fem:.0f} a second: {rate * fem:.1f} times"
                record.row(f"{name}, {mode}, batch {batch}", 1e3 * seconds / batch, "ms per design")
                record.row(f"{name}, {mode}, batch {batch}, rate", rate, "designs per second", beside)


def _seconds(network: DesignSurrogate, theta: Tensor, enough: float, repeats: int = 10) -> float:
    """Of a batch, in parts where the memory asks for it."""
    parts = 1
    while True:
        chunks = theta.float().chunk(parts)
        try:
            return median_seconds(
                lambda chunks=chunks: [network.value_and_gradient(chunk) for chunk in chunks],
                theta.device,
                enough,
                repeats,
                warm=1,
            )
        except torch.OutOfMemoryError:
            if parts >= len(theta):
                raise
            torch.cuda.empty_cache()
            parts *= 2


def repeated(theta: Tensor, count: int) -> Tensor:
    """(count, P) designs, those that there are over and over."""
    return theta.repeat(-(-count // len(theta)), 1)[:count]


def _modes(device: torch.device) -> dict[str, AbstractContextManager[Any]]:
    """Arithmetic by name: single precision; on a GPU its short form in matrix products, and half of it by autocast."""
    if device.type != "cuda":
        return {"float32": nullcontext()}
    return {"float32": nullcontext(), "tf32": _tf32(), "bf16": torch.autocast("cuda", torch.bfloat16)}


@contextmanager
def _tf32() -> Any:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
