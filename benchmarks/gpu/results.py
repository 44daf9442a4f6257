"""Results of a run as lines of JSON, written as they come."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS_FILE = "rows.jsonl"


@dataclass(frozen=True)
class Recorder:
    """Appends rows to a file, each at once on the disk, so that a run that is cut off loses none.

    Attributes:
        folder: that ``rows.jsonl`` lies in.
        part: of the run that the rows belong to.
    """

    folder: Path
    part: str

    def row(self, case: str, value: float | str | None, unit: str, beside: str = "") -> None:
        """One result: of what, how much, in what unit, and what it is to be seen beside."""
        entry = {"part": self.part, "case": case, "value": value, "unit": unit, "beside": beside}
        write_row(self.folder, entry)
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"  {self.part}: {case}: {shown} {unit}{f' ({beside})' if beside else ''}", flush=True)

    @contextmanager
    def guarded(self, case: str) -> Iterator[None]:
        """Record what goes wrong, with its traceback, and go on."""
        try:
            yield
        except Exception as error:  # whatever it is: the other parts still run
            text = "".join(traceback.format_exception(error))
            self.row(case, f"{type(error).__name__}: {error}"[:300], "failure")
            write_row(self.folder, {"part": self.part, "case": case, "unit": "traceback", "value": text})
            print(text, flush=True)


def write_row(folder: Path, entry: dict[str, Any]) -> None:
    """Append one line, and wait until it is on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ROWS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run, a last one that was cut short left out.

    Raises:
        FileNotFoundError: there are none.
    """
    rows = []
    for line in (folder / ROWS_FILE).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
