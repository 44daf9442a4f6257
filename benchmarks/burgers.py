"""Burgers' equation from its residual: exact derivatives against differences and Fourier, on coarse to fine grids.

Run as ``python -m benchmarks.burgers`` for all, or with ``--derivatives exact --points 32`` for one; a run that is
broken off goes on. Writes ``benchmarks/results/burgers.json`` and ``burgers.md``, a row per finished training.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shapewright.app.provenance import provenance
from shapewright.studies.files import write_json, write_text
from shapewright.studies.problem.evolution_setup import EvolutionSetup, load_evolution_study
from shapewright.surrogate.models.evolution import DERIVATIVES, EvolutionOperator
from shapewright.surrogate.training.allocator import keep_freed_memory
from shapewright.surrogate.training.evolution_training import squared_errors, train_evolution
from shapewright.surrogate.training.interruption import TrainingInterrupted
from shapewright.surrogate.training.loop import Progress

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "studies" / "burgers.yaml"
RESULTS = ROOT / "benchmarks" / "results"
BATCH = {32: 4, 64: 2, 128: 1}
STEPS = {32: 3500, 64: 1500, 128: 700}
"""Initial data per step, and steps, by points per axis: what two cores do in an hour."""


@dataclass
class Clock:
    """Seconds that a training has taken so far, kept beside its checkpoint: by the wall and by the processor.

    Both are as of the last checkpoint, since what was done after it is done again.
    """

    file: Path

    def __post_init__(self) -> None:
        kept = json.loads(self.file.read_text()) if self.file.exists() else {"wall": 0.0, "processor": 0.0}
        self.wall, self.processor = kept["wall"], kept["processor"]
        self._started = time.perf_counter(), time.process_time()

    def keep(self) -> None:
        """Add what has passed since the last time, and write it down."""
        now = time.perf_counter(), time.process_time()
        self.wall += now[0] - self._started[0]
        self.processor += now[1] - self._started[1]
        self._started = now
        write_json(self.file, {"wall": self.wall, "processor": self.processor})


def measure(derivatives: str, points: int, folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train one variant, or go on with it, and judge it; its row is also ``row.json`` in ``folder``."""
    own = [f"training.derivatives={derivatives}", f"training.collocation={points}", f"training.batch={BATCH[points]}"]
    own.append(f"training.steps={STEPS[points]}")
    setup = load_evolution_study(STUDY, [*own, *overrides])
    config, network, held_out = setup.training_config(), setup.network(), setup.held_out
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(folder / "seconds.json")

    def report(progress: Progress) -> None:
        if progress.step % config.checkpoint_every == 0 or progress.step == config.steps:
            clock.keep()
            error = math.sqrt(progress.error)
            print(f"{derivatives} {points}: {progress.step}/{config.steps} loss {progress.loss:.3e} error {error:.4f}"
                  f" {clock.wall:.0f} s", flush=True)  # fmt: skip

    try:
        history = train_evolution(network, setup.population, held_out, config, folder / "checkpoint", report)
    except TrainingInterrupted:
        clock.keep()  # the checkpoint is of this step
        raise
    errors = squared_errors(network, held_out).double()
    row = {
        "experiment": "burgers",
        "variant": f"{derivatives}, {points} x {points}",
        "derivatives": derivatives,
        "points": points,
        "squared_relative_error": float(errors.mean()),
        "median_squared_relative_error": float(errors.median()),
        "train_seconds": round(clock.wall, 1),
        "train_processor_seconds": round(clock.processor, 1),
        "solve_seconds": solve_seconds(network, setup),
        "steps": config.steps,
        "batch": config.batch,
        "device": "cpu",
        "history": [[entry.step, entry.error] for entry in history],
    }
    write_json(folder / "row.json", row)
    return row


def solve_seconds(network: EvolutionOperator, setup: EvolutionSetup) -> float:
    """Median time of one solution on a grid of 128 x 128 points."""
    initial = setup.held_out.initial.subset(slice(0, 1)).to(torch.zeros((), dtype=torch.float32))
    x = torch.arange(128) / 128
    taken = []
    with torch.no_grad():
        for _ in range(11):
            start = time.perf_counter()
            network.fields(network.encode(initial), initial, x, x)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def as_markdown(rows: Sequence[dict[str, Any]], machine: dict[str, Any]) -> str:
    """Relative L2 errors (root of the mean square) by grid and derivatives, with the machine they were measured on.

    At the last step, and of the best weights on the way: the differences' error rises again when they are learnt well.
    """
    on = machine["hardware"]
    lines = [
        "# Burgers' equation from its residual alone",
        "",
        f"Measured by `python -m benchmarks.burgers` on {on['processor']}, {on['cores']} cores, no GPU; "
        f"torch {machine['packages']['torch']}.",
        "",
        "| grid | steps | derivatives | relative L2 error, last | of exact | best | training, s | processor, s"
        " | solve, ms |",
        "|" + "---|" * 9,
    ]
    last = {(row["points"], row["derivatives"]): math.sqrt(row["history"][-1][1]) for row in rows}
    for row in rows:
        points, kind = row["points"], row["derivatives"]
        ratio = f"{last[points, kind] / last[points, 'exact']:.2f}" if (points, "exact") in last else ""
        lines.append(
            f"| {points} x {points} | {row['steps']} | {kind} | {last[points, kind]:.4f} | {ratio}"
            f" | {math.sqrt(row['squared_relative_error']):.4f} | {row['train_seconds']:.0f}"
            f" | {row['train_processor_seconds']:.0f} | {1e3 * row['solve_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is asked for, then write the table of all that is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--derivatives", choices=DERIVATIVES, nargs="*", default=DERIVATIVES)
    parser.add_argument("--points", type=int, choices=tuple(BATCH), nargs="*", default=tuple(BATCH))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of the study")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "burgers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    for points in chosen.points:
        for derivatives in chosen.derivatives:
            try:
                measure(derivatives, points, chosen.folder / f"{derivatives}_{points}", chosen.set)
            except TrainingInterrupted as error:
                print(f"interrupted; {error}, and the same command goes on from there", file=sys.stderr)
                sys.exit(128 + error.signal_number)
    rows = [json.loads(file.read_text()) for file in chosen.folder.glob("*/row.json")]
    rows.sort(key=lambda row: (row["points"], DERIVATIVES.index(row["derivatives"])))
    machine = provenance("cpu", 0)
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "burgers.json", {"machine": machine, "rows": rows})
    text = as_markdown(rows, machine)
    write_text(chosen.results / "burgers.md", text)
    print(text)


if __name__ == "__main__":
    main()
