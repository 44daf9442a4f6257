"""Train an operator for all shapes by energy alone, in the time there is; on a GPU machine or, slowly, on a CPU.

``python -m benchmarks.gpu.shape_operators --operator elasticity_2d --train train.npz --seen seen.npz --unseen
unseen.npz --seconds 300 --out FOLDER``, with files of ``python -m shapewright.geometries.population``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from shapewright.geometries.population.stored import read_domains
from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.linear_physics import PHYSICS
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.shape_descriptors import describe, limits
from shapewright.surrogate.models.shape_operator import ShapeOperator, ShapeOperatorConfig
from shapewright.surrogate.models.shape_operator_file import (
    ShapeOperatorCard,
    load_shape_operator,
    make_operator,
    save_shape_operator,
    sizes_of,
)
from shapewright.surrogate.training.loop import Progress, TrainerConfig
from shapewright.surrogate.training.shape_population import (
    Draw,
    ShapePopulation,
    build_population,
    conditions_of_scalar,
    conditions_of_solid,
    draw,
    joined,
    sizes_for,
)
from shapewright.surrogate.training.shape_training import (
    ReferenceProblems,
    energy_errors,
    reference_problems,
    train_on_energy,
)

CHOOSE = {"poisson_2d": conditions_of_scalar, "elasticity_2d": conditions_of_solid}
DRAWS = {"poisson_2d": Draw(), "elasticity_2d": Draw(lifted=0.15, parameters=((0.0, 0.49),))}
TIMED = 40
KEPT_FOR_THE_END = 8.0
"""Seconds for the last errors and the file."""


class _Timed(BaseException):
    """Ends the steps that only tell how long one takes."""


def population_of(operator: str, path: Path, choices: int, seed: int) -> tuple[ShapePopulation, dict[str, int]]:
    """Problems on the domains of a file, and how many there are of each kind."""
    domains = read_domains(path)
    meshes = [mesh for _, mesh in domains if len(mesh.tag_names) > 1 or len(PHYSICS[operator].components) == 1]
    kinds = Counter(kind for kind, _ in domains)
    count = min(os.cpu_count() or 1, 12)
    part = partial(build_population, choose=CHOOSE[operator], choices=choices, sizes=sizes_for(meshes))
    groups = [meshes[start::count] for start in range(count)]
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        made = [pool.submit(part, group, seed=seed + index) for index, group in enumerate(groups)]
        return joined([each.result() for each in made]), dict(kinds)


def seconds_per_step(
    network: ShapeOperator, population: ShapePopulation, how: Draw, held_out: ReferenceProblems, batch: int
) -> float:
    """Of a training step, after those that make plans and graphs."""
    times: list[float] = []

    def note(progress: Progress) -> None:
        times.append(time.monotonic())
        if progress.step >= TIMED:
            raise _Timed

    try:
        config = TrainerConfig(steps=1000, batch=batch, check_every=1000, learning_rate=1e-8)
        train_on_energy(network, population, how, held_out, config, report=note)
    except _Timed:
        pass
    return (times[-1] - times[8]) / (len(times) - 9)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operator", choices=tuple(PHYSICS), required=True)
    for name in ("train", "seen", "unseen"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300.0, help="in all")
    parser.add_argument("--steps", type=int, help="in place of as many as the seconds allow")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--choices", type=int, default=2, help="of conditions for each mesh")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--modes", type=int, default=10)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=44)
    parser.add_argument("--fields", type=int, default=8)
    parser.add_argument("--degree", type=int, default=4, help="of the amplitudes of the fields, in training")
    parser.add_argument("--used-degree", type=int, default=6, help="of the amplitudes, in the file and its card")
    chosen = parser.parse_args()
    train(chosen)


def train(chosen: argparse.Namespace) -> None:
    """Train, measure, write; prints as it goes."""
    began, name, device = time.monotonic(), chosen.operator, torch.device(chosen.device)
    chosen.out.mkdir(parents=True, exist_ok=True)
    how = DRAWS[name]
    population, kinds = population_of(name, chosen.train, chosen.choices, 0)
    others = {part: population_of(name, getattr(chosen, part), 1, 1) for part in ("seen", "unseen")}
    torch.manual_seed(0)
    sizes = OperatorConfig(chosen.width, chosen.width, (chosen.modes,) * 2, chosen.layers)
    config = ShapeOperatorConfig(sizes, chosen.fields, chosen.nodes)
    network = make_operator(PHYSICS[name], config)
    if chosen.start is not None:
        network = load_shape_operator(chosen.start, PHYSICS)[0].train()
    network.config = replace(network.config, degree=chosen.degree)
    references = {
        part: reference_problems(network, of, how, 96, seed) for seed, (part, (of, _)) in enumerate(others.items())
    }
    sample = draw(population, how, 2000, torch.Generator().manual_seed(5))
    known = limits(describe(sample))
    network, population = network.to(device), population.to(device)
    print(f"{name}: {len(population)} problems on {len(population.nodes)} meshes after {since(began)}", flush=True)
    each = seconds_per_step(network, population, how, references["seen"], chosen.batch)
    left = chosen.seconds - (time.monotonic() - began) - KEPT_FOR_THE_END
    steps = chosen.steps or max(20, int(0.95 * left / each))
    print(f"{name}: {1e3 * each:.1f} ms a step, {steps} steps, after {since(began)}", flush=True)
    trainer = TrainerConfig(
        steps=steps, batch=chosen.batch, learning_rate=chosen.rate, check_every=max(10, steps // 10),
        ema_decay=0.998, weight_decay=1e-6,
    )  # fmt: skip

    def report(progress: Progress) -> None:
        if progress.step % max(1, steps // 20) == 0:
            error = f"error {progress.error:.4f}"
            print(f"{name}: step {progress.step}, loss {progress.loss:.4f}, {error}, {since(began)}", flush=True)

    train_on_energy(network, population, how, references["seen"], trainer, chosen.out / f"{name}.checkpoint", report)
    network.config, held_out = replace(network.config, degree=chosen.used_degree), {}
    for part, reference in references.items():
        errors = energy_errors(network, reference)
        held_out[part] = summary(errors)
        print(f"{name}, {part}: {held_out[part]}", flush=True)
    card = ShapeOperatorCard(
        trained_for={"operator": name, "sizes": sizes_of(network.config)},
        training=asdict(trainer)
        | {"draw": asdict(how), "degree": chosen.degree, "from": str(chosen.start) if chosen.start else "nothing"},
        population={"trained": kinds, "meshes": len(population.nodes), "unseen": others["unseen"][1]},
        limits=known,
        parameters=dict(zip(PHYSICS[name].parameters, map(list, how.parameters), strict=True)),
        held_out=held_out,
        hardware=hardware(device.type),
        seconds=time.monotonic() - began,
    )
    save_shape_operator(chosen.out / f"{name}.safetensors", network, card)
    print(f"{name}: done after {since(began)}", flush=True)


def summary(errors: torch.Tensor) -> dict[str, float]:
    """Of errors (B,), as a card stores them."""
    values = errors.numpy()
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "worst": float(values.max()),
        "problems": len(values),
    }


def since(began: float) -> str:
    """Wall time since a moment of the monotonic clock."""
    return f"{time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    main()
