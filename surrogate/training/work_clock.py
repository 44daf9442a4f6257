"""Seconds of work that outlast a killed run."""

from __future__ import annotations

import time
from pathlib import Path


class WorkClock:
    """Seconds of work, summed over the runs that a training took."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._before = float(file.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or cut short by a kill: only a few seconds are lost
            self._before = 0.0
        self._start = self._saved = time.monotonic()

    @property
    def total(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._start

    def tick(self) -> None:
        """Save every ten seconds."""
        if time.monotonic() - self._saved > 10:
            self._saved = time.monotonic()
            self.file.write_text(f"{self.total:.1f}")
