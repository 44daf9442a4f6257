"""Progress bars of long stages: rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "", style="progress.data.speed")


class ProgressBars:
    """One bar per stage; an instance is what the pipeline reports to."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        self._progress = Progress(*columns, console=self._console)
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, float] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()  # searches report from threads of their own

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:  # elsewhere nothing was started, and stopping prints an empty line
            self._progress.stop()

    def __call__(self, stage: str, done: int, total: int, detail: str) -> None:
        """See :data:`pipeline.Report`."""
        with self._lock:
            if not self._console.is_terminal:
                self._print(stage, done, total, detail)
                return
            if stage not in self._tasks:
                self._tasks[stage] = self._progress.add_task(stage, total=total, detail="", completed=done)
            self._progress.update(self._tasks[stage], completed=done, total=total, detail=detail)

    def _print(self, stage: str, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        started, before = self._began.setdefault(stage, (now, done))
        if done < total and now - self._printed.get(stage, -LINE_EVERY) < LINE_EVERY:
            return
        self._printed[stage] = now
        elapsed = now - started
        made = done - before  # since this run began
        rate = (
            f", {made / elapsed:.2f}/s, {(total - done) * elapsed / made:.0f} s left"
            if made > 0 and elapsed > 1
            else ""
        )
        print(f"{stage}: {done}/{total}{rate}{' ' if detail else ''}{detail}", file=sys.stderr, flush=True)
