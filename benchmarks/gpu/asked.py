"""The figures that a GPU is to reach, beside those that a run found. All are made from its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
DEFAULT = "channels in alone, 0.25"
"""The optimizer's setting that studies have by default, as :mod:`benchmarks.gpu.memory` names it."""
STUDY = "stokes_body"
BATCH = 1024
_CASE = re.compile(r"width (\d+), modes (\d+), (\d+) x \d+, (.*), ([^,]*)")
_TIMES = re.compile(r"([\d.]+) times")


@dataclass(frozen=True)
class Asked:
    """A quantity of an optimizer beside AdamW's on the same network and grid.

    Attributes:
        figure: what it is called.
        quantity: as the rows name it.
        limit: of its ratio to AdamW's.
        saved: whether it is shown as a share saved.
    """

    figure: str
    quantity: str
    limit: float
    saved: bool

    def shown(self, ratio: float) -> str:
        """A ratio to AdamW's as readers see it."""
        return f"{1 - ratio:.1%} saved" if self.saved else f"{ratio:.2f} times"

    @property
    def bound(self) -> str:
        """The limit as readers see it."""
        return f"at least {1 - self.limit:.0%} saved" if self.saved else f"at most {self.limit:g} times"


OF_OPTIMIZERS = (
    Asked("memory of the optimizer", "optimizer", 0.25, saved=True),
    Asked("peak memory of a training step", "peak of a step", 0.60, saved=True),
    Asked("time of a training step", "step", 1.15, saved=False),
)
TIMES_FEM = 100.0


def as_asked(rows: Sequence[Row]) -> list[str]:
    """Lines of Markdown: a table of figures asked and found; none where the rows hold none of them."""
    found = ratios(rows)
    lines = [line for asked in OF_OPTIMIZERS for line in _optimizer_lines(asked, found)]
    lines += _throughput_lines(rows)
    if not lines:
        return []
    return [
        "## Asked and found",
        "",
        f"Tensor-GaLore is compared with AdamW on a network of 67 million parameters; its default is \"{DEFAULT}\".",
        "Numbers before a colon are grid points along an axis.",
        "",
        "| figure | setting | asked | found | reached |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ]


def ratios(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, float]]:
    """(optimizer, quantity) -> grid -> ratio to AdamW's on the same network, of the network with 67 M parameters."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        match = _CASE.fullmatch(row["case"]) if row["part"] == "memory" and row["unit"] != "failure" else None
        if match and (match[1], match[2]) == ("128", "16") and isinstance(row["value"], (int, float)):
            values.setdefault((match[4], match[5]), {})[int(match[3])] = row["value"]
    return {
        (name, quantity): {grid: value / base[grid] for grid, value in grids.items() if base.get(grid)}
        for (name, quantity), grids in values.items()
        if not name.startswith("AdamW") and (base := values.get(("AdamW", quantity), {}))
    }


def _optimizer_lines(asked: Asked, found: dict[tuple[str, str], dict[int, float]]) -> list[str]:
    names = [name for name, quantity in found if quantity == asked.quantity]
    lines = []
    for name in sorted(names, key=lambda name: name != DEFAULT):  # the default first
        grids = found[name, asked.quantity]
        good = [grid for grid, ratio in sorted(grids.items()) if ratio <= asked.limit]
        reached = "yes" if len(good) == len(grids) else f"on {' and '.join(map(str, good))}" if good else "no"
        shown = ", ".join(f"{grid}: {asked.shown(ratio)}" for grid, ratio in sorted(grids.items()))
        if len({asked.shown(ratio) for ratio in grids.values()}) == 1:
            shown = asked.shown(next(iter(grids.values())))
        lines.append(f"| {asked.figure} | {name} | {asked.bound} | {shown} | {reached} |")
    return lines


def _throughput_lines(rows: Iterable[Row]) -> list[str]:
    wanted = re.compile(rf"{STUDY}, (.*), batch {BATCH}, rate")
    lines = []
    for row in rows:
        match, times = wanted.fullmatch(row["case"]), _TIMES.search(row.get("beside", ""))
        if row["part"] == "designs" and match and times:
            figure, asked = f"values and gradients of {STUDY} per second, batch {BATCH}", f"{TIMES_FEM:g} times FEM's"
            reached = "yes" if float(times[1]) >= TIMES_FEM else "no"
            lines.append(f"| {figure} | {match[1]} | at least {asked} | {times[1]} times | {reached} |")
    return lines
