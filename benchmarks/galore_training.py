"""One training of the Tensor-GaLore benchmark: a problem, a contender with a setting, a seed.

The data of a run depend on problem, resolution and seeds alone. Finished runs are files, so that a benchmark that was
broken off goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import darcy_flow, vorticity
from benchmarks.fourier_network import FourierNetwork, relative_error
from benchmarks.galore_code import optimizer_code
from benchmarks.galore_contenders import Contender, Setting
from benchmarks.optimizer_bytes import optimizer_state_bytes
from shapewright.studies.files import content_key, write_json

VERSION = 1
"""Of what a run does: those of another one are not taken over."""
PROBLEMS: dict[str, Callable[[int, int, int], tuple[Tensor, Tensor]]] = {
    "darcy": darcy_flow.samples,
    "navier_stokes_1e-3": lambda count, cells, seed: vorticity.samples(count, cells, seed, 1e-3),
    "navier_stokes_1e-4": lambda count, cells, seed: vorticity.samples(count, cells, seed, 1e-4),
}
_SEEDS = {"train": 0, "validation": 1, "test": 2}
Parts = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Budget:
    """Sizes of a training: samples, network, steps of a trial and of a run, looks at the errors during a run."""

    resolution: int = 32
    train: int = 400
    validation: int = 100
    test: int = 200
    width: int = 32
    modes: int = 8
    layers: int = 4
    batch: int = 4
    trial_steps: int = 250
    steps: int = 600
    looks: int = 10


def problem_data(problem: str, budget: Budget, folder: Path, device: str) -> Parts:
    """Inputs of zero mean and unit deviation over the training set, and outputs; made once."""
    counts = {"train": budget.train, "validation": budget.validation, "test": budget.test}
    path = folder / f"{problem}_{budget.resolution}_{'_'.join(map(str, counts.values()))}.pt"
    if path.exists():
        parts = torch.load(path, weights_only=True)
    else:
        parts = {name: PROBLEMS[problem](counts[name], budget.resolution, seed) for name, seed in _SEEDS.items()}
        mean, deviation = parts["train"][0].mean(), parts["train"][0].std()
        parts = {name: ((given - mean) / deviation, wanted) for name, (given, wanted) in parts.items()}
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        torch.save(parts, part)
        part.replace(path)
    return {name: (given.to(device), wanted.to(device)) for name, (given, wanted) in parts.items()}


def finished_run(
    problem: str,
    contender: Contender,
    setting: Setting,
    seed: int,
    steps: int,
    budget: Budget,
    data: Parts,
    folder: Path,
) -> dict[str, Any]:
    """The run's result, from its file if there is one; prints its errors."""
    device = str(data["train"][0].device)
    sizes = {name: size for name, size in vars(budget).items() if name not in ("trial_steps", "steps")}
    code = optimizer_code() if contender.ours else None
    key = content_key(VERSION, problem, contender.label, vars(setting), seed, steps, sizes, device, code)
    path = folder / f"{key}.json"
    if not path.exists():
        result = run(contender, setting, seed, steps, budget, data)
        write_json(path, {"problem": problem, "contender": contender.label, "setting": vars(setting), **result})
    result = json.loads(path.read_text(encoding="utf-8"))
    print(
        f"{problem}, {contender.label}, rate {setting.rate:g}, scale {setting.scale:g}, seed {seed}, {steps} steps:"
        f" validation {result['validation_error']:.4f}, test {result['test_error']:.4f}",
        flush=True,
    )
    return result


def run(contender: Contender, setting: Setting, seed: int, steps: int, budget: Budget, data: Parts) -> dict[str, Any]:
    """Train with warm-up and cosine decay to zero.

    Returns:
        errors on all parts at the end and validation errors on the way with the seconds until then, bytes of the
        optimizer, share of refreshes in the time.
    """
    given, wanted = data["train"]
    torch.manual_seed(seed)
    network = network_of(contender, budget).to(given.device)
    mean, deviation = wanted.mean(), wanted.std()
    optimizer = contender.build(network, setting)
    rates = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(seed)
    clock, whole, looks, wall = Clock(given.device), [], [], 0.0

    def error(part: str) -> float:
        with torch.no_grad():
            found = torch.cat([network(chunk) for chunk in data[part][0].split(50)])
        return float(relative_error(deviation * found + mean, data[part][1]))

    order = torch.randperm(0)
    for step in range(steps):
        if len(order) < budget.batch:
            order = torch.randperm(len(given), generator=generator)
        index, order = order[: budget.batch].to(given.device), order[budget.batch :]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, steps)
        begun, began = clock.seconds(), time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        relative_error(deviation * network(given[index]) + mean, wanted[index]).backward()
        optimizer.step()
        whole.append(clock.seconds() - begun)
        wall += time.perf_counter() - began
        if (step + 1) % max(1, steps // budget.looks) == 0 and step + 1 < steps:
            looks.append({"step": step + 1, "seconds": sum(whole), "error": error("validation")})
    seconds = getattr(optimizer, "refresh_seconds", None)  # the public one does not count them
    result = {f"{part}_error": error(part) for part in data}
    looks.append({"step": steps, "seconds": sum(whole), "error": result["validation_error"]})
    return result | {
        "looks": looks,
        "parameters": sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters()),
        "optimizer_bytes": held_bytes(optimizer),
        "refresh_share": None if seconds is None else seconds / wall,
        "finite": math.isfinite(result["validation_error"]),
    }


def step_seconds(
    contenders: Sequence[Contender], budget: Budget, data: Parts, rounds: int = 30
) -> list[dict[str, float]]:
    """Median seconds of a step and of the optimizer's part in it; the contenders take turns, so all see one machine.

    Both passes do not depend on the optimizer: theirs are the median over all contenders with a network of that width.
    """
    given, wanted = (part[: budget.batch] for part in data["train"])
    clock, sides, passes = Clock(given.device), [], {contender.width_share: [] for contender in contenders}
    for contender in contenders:
        torch.manual_seed(0)
        network = network_of(contender, budget).to(given.device)
        sides.append((network, contender.build(network, contender.settings[0]), passes[contender.width_share], []))
    for _ in range(rounds):
        for network, optimizer, both, own in sides:
            begun = clock.seconds()
            optimizer.zero_grad(set_to_none=True)
            relative_error(network(given), wanted).backward()
            halfway = clock.seconds()
            optimizer.step()
            own.append(clock.seconds() - halfway)
            both.append(halfway - begun)
    return [{"step_seconds": median(both) + median(own), "optimizer_seconds": median(own)} for *_, both, own in sides]


def network_of(contender: Contender, budget: Budget) -> FourierNetwork:
    """With fresh weights."""
    return FourierNetwork(round(budget.width * contender.width_share), budget.modes, budget.layers)


def schedule(step: int, steps: int) -> float:
    """Warm-up over a twentieth, then cosine decay to zero."""
    warm = max(1, steps // 20)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def held_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of all state, factors that the public optimizer keeps in an object of its own included."""
    factors = [
        factor
        for state in optimizer.state.values()
        for factor in (getattr(state.get("projector"), "proj_tensor", None) or ())
    ]
    return optimizer_state_bytes(optimizer) + sum(factor.numel() * factor.element_size() for factor in factors)


class Clock:
    """Processor seconds of this thread; wall seconds with all work done where there is a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def seconds(self) -> float:
        """Since a moment that only differences do not depend on."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()
