"""Results of a run as lines of JSON, written as they come, and the tables made of them."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS_FILE = "rows.jsonl"
TITLES = {
    "tests": "CUDA tests",
    "designs": "Value and design gradient of the shipped surrogates",
    "memory": "Optimizers on a large Fourier neural operator",
    "operator": "mGNO by points",
    "training": "Training of the design surrogates from nothing",
    "graphs": "CUDA graphs: values and gradients, and both passes of a training step",
}


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


def write_tables(folder: Path, results: Path) -> None:
    """``gpu.md`` and ``gpu.json`` in ``results`` from the rows in ``folder``."""
    rows = read_rows(folder)
    about = next((row["value"] for row in rows if row["part"] == "run" and row["case"] == "about"), {})
    kept = [row for row in rows if row["part"] != "run" and row["unit"] != "traceback"]
    results.mkdir(parents=True, exist_ok=True)
    shown = [{name: row[name] for name in ("part", "case", "value", "unit")} for row in kept]
    content = {"device": about.get("device", "unknown"), "rehearsal": about.get("rehearsal", True), **about}
    (results / "gpu.json").write_text(json.dumps({**content, "rows": shown}, indent=1) + "\n", encoding="utf-8")
    (results / "gpu.md").write_text(as_markdown(about, kept), encoding="utf-8")


def as_markdown(about: dict[str, Any], rows: Iterable[dict[str, Any]]) -> str:
    """The tables, a part each."""
    rehearsal = about.get("rehearsal", True)
    text = [
        "# On a GPU" + (" (rehearsal on a CPU: no GPU was at hand, networks and times are small)" if rehearsal else ""),
        "",
        f"Measured by `python -m benchmarks.gpu` on {about.get('device', 'an unknown device')},"
        f" {about.get('processor', '')}, {about.get('cores', '?')} cores, torch {about.get('torch', '?')},"
        f" {about.get('started', '')[:10]}. Times are medians with the device waited for before and after",
        "each; products of matrices are in full single precision but where a row says tf32 or bf16.",
        f"Finite elements ran on {about.get('fem_processor', '?')}, one thread, processor seconds.",
        "",
    ]
    rows = list(rows)
    for part, title in TITLES.items():
        own = [row for row in rows if row["part"] == part]
        if own:
            text += [f"## {title}", "", "| case | value | unit | beside |", "|---|---|---|---|"]
            text += [f"| {row['case']} | {_cell(row['value'])} | {row['unit']} | {row['beside']} |" for row in own]
            text.append("")
    return "\n".join(text)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")
