"""Our mGNO beside one put together from neuraloperator's layers: time and peak memory by points and latent grid.

Run as ``python -m benchmarks.mgno``; writes ``benchmarks/results/mgno.json`` and ``mgno.md``. Every measurement is a
process of its own, on one thread. Times are processor seconds, so that other programs on the machine count little.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import mgno_operations as operations
from benchmarks.isolated import Limits, Measured, available, isolated
from benchmarks.mgno_library import SIDES, load
from benchmarks.mgno_sides import CASES, LAYERS, RADIUS, WIDTH, data, modes_of, our_step, ours, their_step, theirs
from shapewright.app.provenance import provenance
from shapewright.studies.files import write_json, write_text
from shapewright.surrogate.training.allocator import keep_freed_memory

RESULTS = Path(__file__).resolve().parent / "results"
NOTES = Path(__file__).resolve().parent / "mgno_notes.md"
GRIDS = ((32, 32), (64, 64), (32, 32, 32))
POINTS = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Task:
    """One line of the table."""

    case: str
    points: int
    grid: tuple[int, ...]

    @property
    def named_grid(self) -> str:
        """As 32x32."""
        return "x".join(map(str, self.grid))

    def build(self, side: str) -> Callable[[], object]:
        """What is measured, warmed up on a few points."""
        torch.set_num_threads(1)
        keep_freed_memory()
        network = ours(self.grid) if side == "ours" else None
        library = None if side == "ours" else load(fused=side == "neuraloperator_fused")

        def step(points: int) -> Callable[[], object]:
            given = data(self.grid, points)
            if network is not None:
                return our_step(self.case, network, given)
            return their_step(self.case, theirs(given, library), given)

        step(64)()
        return step(self.points)


def measure(tasks: Iterable[Task], sides: Sequence[str], limits: Limits) -> dict[tuple[Task, str], Measured]:
    """Every task by every side; more points are not tried where fewer were too many."""
    found: dict[tuple[Task, str], Measured] = {}
    for task in tasks:
        for side in sides:
            failed = [t.points for (t, s), m in found.items()
                      if m.processor is None and (s, t.case, t.grid) == (side, task.case, task.grid)]  # fmt: skip
            tried = not failed or task.points < min(failed)
            skipped = Measured(reason=f"not tried: {min(failed, default=0):,} points were too many")
            found[task, side] = isolated(partial(task.build, side), limits) if tried else skipped
            print(f"{task.case}, {task.points:,} points, {task.named_grid}, {side}: {found[task, side]}", flush=True)
    return found


def as_row(task: Task, found: dict[tuple[Task, str], Measured]) -> dict[str, Any]:
    """Numbers of one task; what was not finished is null and its reason is beside it."""
    row: dict[str, Any] = {"case": task.case, "points": task.points, "grid": task.named_grid}
    mine = found[task, "ours"]
    for side in SIDES:
        measured = found.get((task, side), Measured(reason="not installed"))
        row |= {f"{side}_seconds": measured.processor, f"{side}_wall_seconds": measured.wall}
        row |= {f"{side}_mib": measured.mib}
        row |= {f"{side}_reason": measured.reason} if measured.reason else {}
    row["ratio"] = _ratio(row["neuraloperator_seconds"], mine.processor)
    row["fused_ratio"] = _ratio(row["neuraloperator_fused_seconds"], mine.processor)
    return row


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def growth(rows: Sequence[dict[str, Any]], case: str, grid: str, side: str) -> float | None:
    """Slope of log time over log points between the two largest clouds that were finished."""
    done = [(row["points"], row[f"{side}_seconds"]) for row in rows
            if row["case"] == case and row["grid"] == grid and row[f"{side}_seconds"]]  # fmt: skip
    if len(done) < 2:
        return None
    (n, t), (m, s) = sorted(done)[-2:]
    return math.log(s / t) / math.log(m / n)


def counted(task: Task, side: str) -> tuple[float, float]:
    """Operations of kernels and Fourier blocks, and gelus at edges, of a forward pass."""
    window = float((2 * RADIUS) ** len(task.grid))
    if side != "ours":
        given = data(task.grid, 256)
        near = given.grid.neighbours(given.queries, given.owner)
        window = float((near.offset.square().sum(-1) <= 1).sum(-1).float().mean())
    sizes = operations.Sizes(
        task.points, task.points // 8, task.grid, window, WIDTH, modes_of(task.grid), LAYERS
    )
    kernels = operations.split_kernels if side == "ours" else operations.edge_kernels
    return kernels(sizes) + operations.fourier_blocks(sizes), operations.activations(sizes)


def _rates(row: dict[str, Any]) -> str:
    task = Task(row["case"], row["points"], tuple(map(int, row["grid"].split("x"))))
    cells = []
    for side in SIDES:
        flops, gelus = counted(task, side)
        seconds = row[f"{side}_seconds"]
        cells.append("" if seconds is None else f"{flops / seconds / 1e9:.1f}, {gelus / seconds / 1e9:.2f}")
    return f"| {row['grid']} | {row['points']:,} | {' | '.join(cells)} |"


def _cell(row: dict[str, Any], side: str) -> str:
    seconds, mib = row[f"{side}_seconds"], row[f"{side}_mib"]
    return row.get(f"{side}_reason", "") if seconds is None else f"{1e3 * seconds:.1f} ms, {mib:.0f} MiB"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f} x"


def as_markdown(rows: Sequence[dict[str, Any]], machine: dict[str, Any], limits: Limits) -> str:
    """The table, growth over points, and achieved rates."""
    on = machine["hardware"]
    library = f"neuraloperator {machine['packages']['neuraloperator']}" if machine["packages"].get(
        "neuraloperator") else "neuraloperator is not installed"  # fmt: skip
    text = [
        "# mGNO beside neuraloperator",
        "",
        f"Measured by `python -m benchmarks.mgno` on {on['processor']}, one thread, {machine['started'][:10]}, torch "
        f"{machine['packages']['torch']}, {library}, float32. Medians of processor seconds (wall seconds are in "
        f"`mgno.json`) and peak memory beyond that of the process before, each in a process of its own, stopped after "
        f"{limits.seconds:g} s or {limits.memory / 2**30:.1f} GiB.",
        "",
        f"Both networks: width {WIDTH}, one hidden layer of {WIDTH} per kernel, radius {RADIUS} spacings, octic "
        f"mollifier, sums, {LAYERS} Fourier blocks; as many queries as points and an eighth as many boundary points.",
        "",
        "| case | grid | points | ours | neuraloperator | ratio | its loop fused | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [_cell(row, side) for side in SIDES]
        text.append(
            f"| {row['case']} | {row['grid']} | {row['points']:,} | {cells[0]} | {cells[1]} | {_times(row['ratio'])} "
            f"| {cells[2]} | {_times(row['fused_ratio'])} |"
        )
    text += ["", "## Growth with the points", "",
             "Exponent of time between the two largest clouds that were finished; 1 is linear.", "",
             "| case | grid | ours | neuraloperator | its loop fused |", "|---|---|---|---|---|"]  # fmt: skip
    for case, grid in dict.fromkeys((row["case"], row["grid"]) for row in rows):
        slopes = (growth(rows, case, grid, side) for side in SIDES)
        text.append(f"| {case} | {grid} | {' | '.join('' if s is None else f'{s:.2f}' for s in slopes)} |")
    text += ["", "## Rate of a forward pass", "",
             f"GFLOP/s of kernels and Fourier blocks, counted by hand, and billions of gelus a second at edges. This "
             f"machine's products of square matrices reach {machine['matrix_product_gflops']:.0f} GFLOP/s, its gelu "
             f"{machine['gelu_per_nanosecond']:.2f}.", "",
             "| grid | points | ours | neuraloperator | its loop fused |", "|---|---|---|---|---|"]  # fmt: skip
    text += [_rates(row) for row in rows if row["case"] == "forward"]
    return "\n".join(text) + "\n\n" + NOTES.read_text()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, nargs="*", default=CASES)
    parser.add_argument("--grid", nargs="*", default=["x".join(map(str, grid)) for grid in GRIDS])
    parser.add_argument("--points", type=int, nargs="*", default=POINTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="processor limit of one measurement")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    limits, machine = Limits(chosen.seconds, int(0.4 * available())), provenance("cpu", 0)
    try:
        load()
        sides, machine["packages"]["neuraloperator"] = SIDES, version("neuraloperator")
    except ModuleNotFoundError as error:
        sides = ("ours",)
        print(f"{error}; measuring ours alone")
    grids = [tuple(map(int, grid.split("x"))) for grid in chosen.grid]
    tasks = [Task(case, points, grid) for case in chosen.case for grid in grids for points in chosen.points]
    machine |= {"limits": asdict(limits), "matrix_product_gflops": operations.matrix_product_rate() / 1e9}
    machine["gelu_per_nanosecond"] = operations.gelu_rate() / 1e9
    found = measure(tasks, sides, limits)
    rows = [as_row(task, found) for task in tasks]
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "mgno.json", {"machine": machine, "rows": rows})
    text = as_markdown(rows, machine, limits)
    write_text(chosen.results / "mgno.md", text)
    print(text)


if __name__ == "__main__":
    main()
