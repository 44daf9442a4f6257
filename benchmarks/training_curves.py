"""Picture of the training curves in ``benchmarks/results/training``: loss and held-out error by hours of training.

Run as ``python -m benchmarks.training_curves``; writes ``training.png`` beside them. A stage starts from the best
weights of the one before, with a warm-up of the learning rate of its own.
"""

from __future__ import annotations

import csv
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


def main() -> None:
    """Draw all curves."""
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
