"""The tables of a run, made from its rows: what was asked beside what was found, then every part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.asked import as_asked
from benchmarks.gpu.results import read_rows

Row = dict[str, Any]
TITLES = {
    "tests": "CUDA tests",
    "designs": "Value and design gradient of the shipped surrogates",
    "memory": "Optimizers on a large Fourier neural operator",
    "operator": "mGNO by points",
    "training": "Training of the design surrogates from nothing",
    "graphs": "CUDA graphs: values and gradients, and both passes of a training step",
    "profile": "Where the time goes",
}
PIVOTED = {
    "memory": ("network, grid, optimizer", 1),
    "designs": ("study, arithmetic", 2),
    "operator": ("pass, latent grid, points", 3),
}
"""Parts of which a case is the name of a line, of so many entries at least, and that of a column."""


def write_tables(folders: Sequence[Path], results: Path) -> None:
    """``gpu.md`` and ``gpu.json`` in ``results`` from the rows in ``folders``, one run each.

    Rows of a later run replace those of the same part and case, and failures of what it measured.

    Raises:
        ValueError: the runs are of different devices.
    """
    about, rows = merged([read_rows(folder) for folder in folders])
    results.mkdir(parents=True, exist_ok=True)
    shown = [{name: row[name] for name in ("part", "case", "value", "unit")} for row in rows]
    content = {"device": about.get("device", "unknown"), "rehearsal": about.get("rehearsal", True), **about}
    (results / "gpu.json").write_text(json.dumps({**content, "rows": shown}, indent=1) + "\n", encoding="utf-8")
    (results / "gpu.md").write_text(as_markdown(about, rows), encoding="utf-8")


def merged(runs: Sequence[Sequence[Row]]) -> tuple[Row, list[Row]]:
    """What the first run says about itself, and the results of all.

    Raises:
        ValueError: the runs are of different devices.
    """
    abouts = [row["value"] for rows in runs for row in rows if row["part"] == "run" and row["case"] == "about"]
    devices = sorted({about["device"] for about in abouts})
    if len(devices) > 1:
        raise ValueError(f"--tables: the runs are of {', '.join(devices)}; allowed are runs of one device")
    found: dict[tuple[str, str], Row] = {}
    for rows in runs:
        kept = [row for row in rows if row["part"] != "run" and row["unit"] != "traceback"]
        for key in [key for key, old in found.items() if old["unit"] == "failure"]:
            if any(row["part"] == key[0] and row["case"].startswith(key[1]) for row in kept):
                del found[key]
        found |= {(row["part"], row["case"]): row for row in kept}
    return (abouts[0] if abouts else {}), list(found.values())


def as_markdown(about: Row, rows: Iterable[Row]) -> str:
    """The tables, a part each."""
    rehearsal = about.get("rehearsal", True)
    text = [
        "# On a GPU" + (" (rehearsal on a CPU: no GPU was at hand, networks and times are small)" if rehearsal else ""),
        "",
        f"Measured by `python -m benchmarks.gpu` on {about.get('device', 'an unknown device')},"
        f" {about.get('processor', '')}, {about.get('cores', '?')} cores, torch {about.get('torch', '?')},"
        f" {about.get('started', '')[:10]}.",
        "Times are medians of runs that wait for the device. Matrix products are in full single precision except in",
        "lines that say tf32 or bf16. \"Times FEM\" compares designs per second with finite elements that ran on one",
        f"thread of {about.get('fem_processor', '?')}, in processor seconds.",
        "",
    ]
    rows = list(rows)
    text += as_asked(rows)
    for part, title in TITLES.items():
        own = [row for row in rows if row["part"] == part]
        if own:
            text += [f"## {title}", ""]
            pivoted = [row for row in own if part in PIVOTED and _is_pivoted(row, PIVOTED[part][1])]
            text += _pivot(pivoted, *PIVOTED[part]) if pivoted else []
            listed = [row for row in own if row not in pivoted]
            text += _listed(listed) if listed else []
    return "\n".join(text)


def _is_pivoted(row: Row, entries: int) -> bool:
    return row["unit"] != "failure" and len(row["case"].split(", ")) >= max(2, entries)


def _listed(rows: Sequence[Row]) -> list[str]:
    lines = [f"| {row['case']} | {_cell(row)} | {row['unit']} | {row.get('beside', '')} |" for row in rows]
    return ["| case | value | unit | beside |", "|---|---|---|---|", *lines, ""]


def _pivot(rows: Sequence[Row], head: str, entries: int) -> list[str]:
    """A line for each case, a column for each quantity: what follows the case's last comma, or all after ``entries``.

    Of a column whose unit is the same throughout, the unit stands at its top.
    """
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        parts = row["case"].split(", ")
        cut = max(entries, 1) if entries > 1 else len(parts) - 1
        lines.setdefault(", ".join(parts[:cut]), {})[", ".join(parts[cut:])] = row
    columns = list(dict.fromkeys(name for line in lines.values() for name in line))
    units = {name: {line[name]["unit"] for line in lines.values() if name in line} for name in columns}

    def title(name: str) -> str:
        unit = next(iter(units[name])) if len(units[name]) == 1 else ""
        return f"{name or 'time'}{f' ({unit})' if unit else ''}"

    def cell(line: dict[str, Row], name: str) -> str:
        if name not in line:
            return ""
        row = line[name]
        unit = f" {row['unit']}" if len(units[name]) > 1 else ""
        return f"{_cell(row)}{unit}{f': {row["beside"]}' if row.get('beside') else ''}"

    table = [f"| {' | '.join([head, *map(title, columns)])} |", "|---" * (len(columns) + 1) + "|"]
    for case, line in lines.items():
        table.append(f"| {' | '.join([case, *(cell(line, name) for name in columns)])} |")
    return [*table, ""]


def _cell(row: Row) -> str:
    value = row["value"]
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")
