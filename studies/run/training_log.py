"""What a training of an operator leaves on its way: checkpoint, seconds of work, and its curve as CSV."""

from __future__ import annotations

import math
from typing import Any

from shapewright.studies.problem.surrogates import refreshing
from shapewright.studies.run.stage import Run
from shapewright.surrogate.training.loop import Progress
from shapewright.surrogate.training.work_clock import WorkClock

CURVE = "training.csv"
CURVE_EVERY = 50
"""Steps between lines of the curve: step, loss, error, seconds."""


class TrainingLog:
    """Follows a training whose files are named by a key, so that it goes on only from its own checkpoint."""

    def __init__(self, run: Run[Any], key: str) -> None:
        self._run, self._curve = run, run.workspace.path(CURVE)
        self.checkpoint = run.workspace.path(f"training-{key}.checkpoint")
        self._clock = WorkClock(self.checkpoint.with_suffix(".seconds"))
        if not self.checkpoint.exists():
            self._curve.unlink(missing_ok=True)

    @property
    def seconds(self) -> float:
        """Of work so far, over all runs that the training took."""
        return self._clock.total

    def step(self, progress: Progress) -> None:
        """Called after every step."""
        self._clock.tick()
        if progress.step % CURVE_EVERY == 0:
            with self._curve.open("a") as file:
                file.write(f"{progress.step},{progress.loss:.6g},{progress.error:.6g},{self.seconds:.1f}\n")
        measured = math.isfinite(progress.error)  # at first it is not
        error = f", held-out squared relative error {progress.error:.3g}" if measured else ""
        text = f"loss {progress.loss:.4g}{error}{refreshing(progress)}"
        self._run.report("train", progress.step, progress.steps, text)
