"""Pictures of the training curves in ``benchmarks/results/training`` and in ``burgers.json``.

Run as ``python -m benchmarks.training_curves``; writes ``training.png`` and ``burgers.png`` beside them. A stage starts
from the best weights of the one before, with a warm-up of the learning rate of its own.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent / "results" / "training"


def curve(path: Path) -> tuple[list[float], list[float], list[float]]:
    """Hours, losses and held-out errors (nan before the first look) over all stages of a training."""
    hours: list[float] = []
    losses: list[float] = []
    errors: list[float] = []
    stage, before, last = "", 0.0, 0.0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["stage"] != stage:
                stage, before = row["stage"], last
            last = before + float(row["seconds"]) / 3600
            hours.append(last)
            losses.append(float(row["loss"]))
            errors.append(float(row["held_out_squared_relative_error"] or "nan"))
    return hours, losses, errors


def draw_burgers() -> None:
    """Held-out error by step, a panel for each grid and a line for each way of differentiating."""
    rows = json.loads((FOLDER.parent / "burgers.json").read_text())["rows"]
    grids = sorted({row["points"] for row in rows})
    figure, axes = plt.subplots(1, len(grids), figsize=(3.4 * len(grids), 3), sharey=True, layout="constrained")
    for grid, axis in zip(grids, axes, strict=True):
        for row in (row for row in rows if row["points"] == grid):
            steps, squares = zip(*row["history"], strict=True)
            axis.plot(steps, [square**0.5 for square in squares], label=row["derivatives"])
        axis.set(title=f"{grid} x {grid}", xlabel="steps", yscale="log")
    axes[0].set_ylabel("held-out relative L2 error")
    axes[0].legend()
    figure.savefig(FOLDER.parent / "burgers.png", dpi=90)


def main() -> None:
    """Draw all curves."""
    draw_burgers()
    paths = sorted(FOLDER.glob("*.csv"))
    figure, axes = plt.subplots(2, len(paths), figsize=(3.4 * len(paths), 5), sharex="col", layout="constrained")
    for path, (above, below) in zip(paths, axes.T, strict=True):
        hours, losses, errors = curve(path)
        above.plot(hours, losses, color="tab:gray", linewidth=0.8)
        above.set(title=path.stem, ylabel="loss", yscale="log")
        below.plot(hours, errors, color="tab:blue", drawstyle="steps-post")
        below.set(xlabel="training [h]", ylabel="held-out squared relative error", yscale="log")
    figure.savefig(FOLDER.with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
