"""Train an operator for all shapes of a flow on solutions made on the fly, on a CPU.

``python -m benchmarks.gpu.flow_operators --train train.npz --seen seen.npz --unseen unseen.npz --steps 5000 --out
FOLDER``, with files of ``python -m shapewright.geometries.population``. A training that was broken off goes on from its
checkpoint in the folder; ``--start FILE`` goes on from weights.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.gpu.shape_operators import since, summary
from shapewright.geometries.population.stored import read_domains
from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.linear_physics import FLOW_PHYSICS
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.shape_descriptors import describe, limits
from shapewright.surrogate.models.shape_operator import ShapeOperatorConfig
from shapewright.surrogate.models.shape_operator_file import (
    ShapeOperatorCard,
    load_shape_operator,
    make_operator,
    save_shape_operator,
    sizes_of,
)
from shapewright.surrogate.training.flow_population import build_flows, draw_flows
from shapewright.surrogate.training.flow_training import (
    mean_span_errors,
    solved_flows,
    solves_of,
    train_on_solutions,
)
from shapewright.surrogate.training.loop import Progress, TrainerConfig
from shapewright.surrogate.training.shape_population import Draw, ShapePopulation

HOW = Draw()


def population_of(path: Path, choices: int, seed: int) -> tuple[ShapePopulation, dict[str, int]]:
    """Flows on the domains of a file, and how many there are of each kind."""
    domains = read_domains(path)
    return build_flows([mesh for _, mesh in domains], choices, seed), dict(Counter(kind for kind, _ in domains))


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operator", choices=tuple(FLOW_PHYSICS), default="stokes_2d")
    for name in ("train", "seen", "unseen", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    for name, value in (("steps", 5000), ("batch", 8), ("choices", 2), ("width", 28), ("modes", 8), ("layers", 3),
                        ("nodes", 32), ("fields", 5)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=3e-3)
    train(parser.parse_args())


def train(chosen: argparse.Namespace) -> None:
    """Train, measure, write; prints as it goes."""
    began, name = time.monotonic(), chosen.operator
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    population, kinds = population_of(chosen.train, chosen.choices, 0)
    others = {part: population_of(getattr(chosen, part), 1, 1) for part in ("seen", "unseen")}
    torch.manual_seed(0)
    sizes = OperatorConfig(chosen.width, chosen.width, (chosen.modes,) * 2, chosen.layers)
    network = make_operator(FLOW_PHYSICS[name], ShapeOperatorConfig(sizes, chosen.fields, chosen.nodes))
    if chosen.start is not None:
        network = load_shape_operator(chosen.start, FLOW_PHYSICS)[0].train()
    references = {part: solved_flows(of, HOW, 96, seed) for seed, (part, (of, _)) in enumerate(others.items())}
    known = limits(describe(draw_flows(population, HOW, 2000, torch.Generator().manual_seed(5))))
    print(f"{name}: {len(population)} problems on {len(population.nodes)} meshes after {since(began)}", flush=True)
    config = TrainerConfig(
        steps=chosen.steps, batch=chosen.batch, learning_rate=chosen.rate, check_every=max(10, chosen.steps // 20),
        ema_decay=0.998, weight_decay=1e-6, checkpoint_every=200,
    )  # fmt: skip

    def report(progress: Progress) -> None:
        if progress.step % 50 == 0:
            error = f"error {progress.error:.4f}"
            print(f"{name}: step {progress.step}, loss {progress.loss:.4f}, {error}, {since(began)}", flush=True)

    train_on_solutions(network, population, HOW, references["seen"], config, chosen.out / f"{name}.checkpoint", report)
    held_out = {}
    for part, reference in references.items():
        for what, errors in zip(("velocity", "pressure"), mean_span_errors(network, reference), strict=True):
            held_out[f"{what}, {part}"] = summary(errors)
            print(f"{name}, {what}, {part}: {held_out[f'{what}, {part}']}", flush=True)
    card = ShapeOperatorCard(
        trained_for={"operator": name, "sizes": sizes_of(network.config)},
        training=asdict(config) | {"draw": asdict(HOW), "from": str(chosen.start) if chosen.start else "nothing"},
        population={"trained": kinds, "meshes": len(population.nodes), "unseen": others["unseen"][1]},
        limits=known,
        parameters={},
        held_out=held_out,
        hardware=hardware("cpu"),
        seconds=time.monotonic() - began,
        solves=solves_of(config),
    )
    save_shape_operator(chosen.out / f"{name}.safetensors", network, card)
    print(f"{name}: done after {since(began)}", flush=True)


if __name__ == "__main__":
    main()
