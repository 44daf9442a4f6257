"""Designs solved by one process and by several: ``python -m benchmarks.sampling [--designs 1000] [--processes 2]``.

Prints the speed-up, with the processes' start and without it. Each number of processes has two turns, of which the
faster counts; every design is solved afresh. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from shapewright.studies.problem.samples import draw_designs, random_directions
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.engines import Engine
from shapewright.studies.run.sampling import Designs, make_ready, sample_designs
from shapewright.studies.schema.loader import Study, load_study

STUDIES = Path(__file__).resolve().parents[1] / "studies"
TURNS = 2


def seconds_of(study: Study, theta: Tensor, directions: Tensor) -> tuple[float, float]:
    """Seconds until the processes are ready, and from then on until all designs are solved and written."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder, Engine(study, Path(folder)) as engine:
        for future in engine.prepare(make_ready, study):
            future.result()
        ready = time.perf_counter()
        sample_designs(engine, Designs(theta, directions), Path(folder) / "samples")
        return ready - began, time.perf_counter() - ready


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="torsion", help="a shipped study")
    parser.add_argument("--designs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    path = STUDIES / f"{arguments.study}.yaml"
    setup = build_setup(load_study(path))
    theta = draw_designs(setup, arguments.designs, 0)
    directions = random_directions(setup, arguments.designs, setup.study.model.sampling.tangents, 0)
    counts = (1, arguments.processes)
    best: dict[int, tuple[float, float]] = {}
    for _ in range(TURNS):
        for count in counts:
            start, solving = seconds_of(load_study(path, (f"sampling.workers={count}",)), theta, directions)
            best[count] = min(best.get(count, (start, solving)), (start, solving), key=lambda pair: pair[1])
            print(f"{count} processes: ready after {start:.1f} s, {len(theta) / solving:.1f} designs/s", flush=True)
    (start, alone), (other_start, together) = (best[count] for count in counts)
    print(
        f"{arguments.study}, {len(theta)} designs on {counts[1]} processes beside 1:"
        f" {alone / together:.2f} x as fast, {(start + alone) / (other_start + together):.2f} x with their start"
    )


if __name__ == "__main__":
    main()
