"""Run the kit: ``python -m benchmarks.gpu --bundle gpu-bundle --minutes 8 --out "$OUT"``.

Writes ``rows.jsonl`` a result at a time, ``gpu.md`` and ``gpu.json`` made of it, and the weights of the trainings, at
most eight files. ``--device cpu --minutes 2`` rehearses all of it. ``--tables FOLDER ...`` only makes the tables, in
``benchmarks/results``, of runs that came back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.designs import BATCHES, measure_designs
from benchmarks.gpu.memory import measure_memory
from benchmarks.gpu.operator import POINTS, measure_operator
from benchmarks.gpu.problems import Bundle, open_bundle
from benchmarks.gpu.results import Recorder, read_rows, write_row
from benchmarks.gpu.tables import write_tables
from benchmarks.gpu.training import queues_of, train_together
from shapewright.studies.problem.design_training import hardware

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
ONE_MOLLIFIER = "not (test_exact_derivatives and (bump or half_cosine or quartic or quadratic))"
"""Of pytest's -k: derivatives by the octic mollifier alone, which studies use; all five take minutes."""
SHARES = {
    "tests": 0.1,
    "designs": 0.15,
    "memory": 0.11,
    "operator": 0.06,
    "replay": 0.05,
    "profile": 0.04,
    "torsion": 0.15,
    "others": 0.38,
}
"""Of the minutes; time that a part leaves is the next ones'."""


def run(bundle: Bundle, out: Path, device: torch.device, minutes: float, parts: tuple[str, ...], small: bool) -> None:
    """All parts in their order, each in its share of the time; ``small`` ones rehearse."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rehearsal = device.type != "cuda"
    about: dict[str, Any] = hardware(device.type) | {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "rehearsal": rehearsal,
        "fem_processor": bundle.content["processor"],
        "minutes": minutes,
    }
    write_row(out, {"part": "run", "case": "about", "value": about, "unit": ""})
    shares = {part: share for part, share in SHARES.items() if part in parts}
    print(f"{about['device']}, {minutes:g} minutes:", flush=True)
    for part, share in shares.items():
        print(f"  {part}: {minutes * share / sum(shares.values()):.2f} min", flush=True)
    left = sum(shares.values())
    for part, share in shares.items():
        now = time.monotonic()
        deadline = now + (began + 60 * minutes - now) * share / left
        left -= share
        print(f"{part} (at {now - began:.0f} s, until {deadline - began:.0f} s)", flush=True)
        record = Recorder(out, {"torsion": "training", "others": "training", "replay": "graphs"}.get(part, part))
        with record.guarded(part):
            _part(part, record, bundle, out, device, deadline, rehearsal, small)
        write_row(out, {"part": "run", "case": f"{part} took", "value": time.monotonic() - now, "unit": "s"})
        write_tables([out], out)
    print(f"done after {time.monotonic() - began:.0f} s", flush=True)


def _part(
    part: str,
    record: Recorder,
    bundle: Bundle,
    out: Path,
    device: torch.device,
    deadline: float,
    rehearsal: bool,
    small: bool,
) -> None:
    first, *others = bundle.studies
    steps = 2 if small else None
    match part:
        case "tests":
            run_tests(record, out, deadline)
        case "designs":
            batches = (1, 2) if small else (1, 4) if rehearsal else BATCHES
            measure_designs(record, bundle, ROOT / "studies" / "weights", device, deadline, batches)
        case "memory":
            measure_memory(record, device, deadline, rehearsal)
        case "operator":
            measure_operator(record, device, deadline, (200,) if small else POINTS[:1] if rehearsal else POINTS)
        case "replay":
            if device.type == "cuda":
                aside("replay", bundle, out, deadline)
        case "profile":
            aside("profile", bundle, out, deadline, "--device", device.type)
        case "torsion":
            train_together(record, bundle, [[first]], out, device, deadline, steps)
        case "others":
            queues = queues_of(bundle, others, graphs_pay(out, first), device)
            train_together(record, bundle, queues, out, device, deadline, steps)


def graphs_pay(out: Path, study: str) -> bool:
    """Whether that study's training ran on CUDA graphs."""
    rows = [row for row in read_rows(out) if row["case"] == f"{study}, training"]
    return any("CUDA graph" in row["beside"] for row in rows)


def aside(module: str, bundle: Bundle, out: Path, deadline: float, *options: str) -> None:
    """A part in a process of its own, with surrogates that ship."""
    seconds = deadline - time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.gpu.{module}", "--bundle", str(bundle.folder), "--out", str(out)]
    command += ["--weights", str(ROOT / "studies" / "weights"), "--seconds", f"{max(1.0, seconds - 8):.1f}", *options]
    subprocess.run(command, cwd=ROOT, check=True, timeout=seconds + 15)


def run_tests(record: Recorder, out: Path, deadline: float) -> None:
    """The tests that need CUDA, but for those of rooms that need dolfinx or gmsh; without a GPU all are skipped."""
    seconds = max(5.0, deadline - time.monotonic())
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider", "-rfEs"]
    command += ["-k", ONE_MOLLIFIER, "--continue-on-collection-errors", *map(str, gpu_test_files())]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds
        )
        text = done.stdout + done.stderr
        value = text.strip().splitlines()[-1] if text.strip() else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else str(error.stdout)
        value = f"not finished in {seconds:.0f} s"
    print(text[-3000:], flush=True)
    record.row("pytest -m gpu", value, "")
    write_row(out, {"part": "tests", "case": "pytest -m gpu", "value": text[-20_000:], "unit": "traceback"})


def gpu_test_files() -> list[Path]:
    """Test modules of the surrogate that have a test for a GPU and need neither dolfinx nor gmsh."""
    files = sorted((ROOT / "tests" / "surrogate").glob("test_*.py"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    needs = ("problem_cases", "shapewright.solvers.fem.solver", "shapewright.geometries.cad.mesher", "build_shape_map")
    return [
        file.relative_to(ROOT)
        for file, text in texts.items()
        if "mark.gpu" in text and not any(name in text for name in needs)
    ]


def main() -> None:
    """Run, or make the tables of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "gpu-bundle")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--parts", nargs="*", choices=tuple(SHARES), default=tuple(SHARES))
    parser.add_argument("--small", action="store_true", help="the least that touches every part, for tests")
    parser.add_argument(
        "--tables", type=Path, nargs="+", metavar="FOLDER",
        help="only make the tables of the runs in these folders, of one device, where later rows replace earlier ones",
    )  # fmt: skip
    chosen = parser.parse_args()
    if chosen.tables is not None:
        write_tables(chosen.tables, RESULTS)
        return
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: found cuda, but torch sees no CUDA device here; --device cpu rehearses")
    run(open_bundle(chosen.bundle), chosen.out, torch.device(chosen.device), chosen.minutes, tuple(chosen.parts),
        chosen.small)  # fmt: skip


if __name__ == "__main__":
    main()
