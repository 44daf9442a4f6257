"""Fronts of two objectives: finite-element solves and seconds of the same front by each way of searching.

Run as ``python -m benchmarks.fronts [--only CASE ...] [--points 20] [--out FOLDER]``; writes ``fronts.json`` and
``fronts.md`` into ``benchmarks/results``. Solves are those of the searches; certificates cost the same in each way.
Hypervolumes are of the values on the moved mesh, in the frame of the front by finite elements alone. Processor seconds
stand beside wall seconds, which other work on the machine lengthens.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch

from shapewright.studies.certify.front_model import FrontResult
from shapewright.studies.files import write_json, write_text
from shapewright.studies.optimize import trust_region_search
from shapewright.studies.optimize.dominance import hypervolume
from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.front import Frame
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.front import REFERENCE
from shapewright.studies.run.pipeline import Run, front_of
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Case:
    """A shipped study of a front, with overrides of its keys, and the ways that it is searched in."""

    study: str
    overrides: tuple[str, ...]
    methods: tuple[str, ...]


CASES = {
    "section": Case("section", (), ("fem", "interpolation", "reduced basis")),
    "section_operator": Case("section", (), ("fem", "operator")),
    "duct_navier_stokes": Case("duct", ("geometry.mesh_size=0.25",), ("fem", "interpolation", "reduced basis")),
}
METHODS: dict[str, tuple[str, ...]] = {
    "fem": ("optimizer.method=slsqp", "optimizer.on=fem"),
    "interpolation": (),
    "reduced basis": (),
    "operator": ("model={operator: poisson_2d}",),
}


@contextmanager
def _interpolating(method: str) -> Iterator[None]:
    """The trust region without a reduced basis, where that is the method."""
    if method == "interpolation":
        with mock.patch.object(trust_region_search, "own_model", return_value=None):
            yield
    else:
        yield


def measured(case: Case, method: str, points: int) -> tuple[FrontResult, dict[str, Any]]:
    """A front, and what its searches took; the two ends have whole certificates."""
    overrides = (*case.overrides, *METHODS[method], f"front.points={points}", "front.certificates=ends")
    setup = build_setup(load_study(ROOT / "studies" / f"{case.study}.yaml", overrides))
    with TemporaryDirectory() as folder, _interpolating(method):
        begun, processor = time.perf_counter(), time.process_time()
        front = front_of(Run(setup, Workspace(Path(folder))))
        wall, processor = time.perf_counter() - begun, time.process_time() - processor
    row = {
        "method": method,
        "variables": len(setup.initial),
        "nodes": len(setup.shape_map.mesh.nodes),
        "points": points,
        "forward": front.search_solves["forward"],
        "adjoint": front.search_solves["adjoint"],
        "tangent": front.search_solves.get("tangent", 0),
        "accepted": sum(point.accepted for point in front.points),
        "dominated": sum(point.dominated_by is not None for point in front.points),
        "wall_seconds": wall,
        "processor_seconds": processor,
        "load": os.getloadavg()[0],
    }
    return front, row


def objectives(front: FrontResult) -> np.ndarray:
    """(n, 2) in the sense of minimization."""
    signs = np.array([objective.sign for objective in front.objectives])
    return np.array([point.objectives for point in front.points], dtype=np.float64) * signs


def rows_of(name: str, points: int) -> list[dict[str, Any]]:
    """A row for each way, with the hypervolume in the frame of finite elements alone."""
    case, rows, frame = CASES[name], [], None
    for method in case.methods:
        front, row = measured(case, method, points)
        values = objectives(front)
        frame = Frame.of(values[[0, -1]]) if frame is None else frame
        row["hypervolume"] = hypervolume(frame.scaled(values), np.array(REFERENCE))
        rows.append({"case": name} | row)
        print(rows[-1], flush=True)
    return rows


def as_markdown(content: dict[str, Any]) -> str:
    """One table."""
    lines = [
        "# Fronts of two objectives",
        "",
        f"{content['machine']}. Solves of all searches; seconds of the whole front with the certificates of its ends,"
        " beside other work on the machine (load: processes that wanted one of its cores).",
        "",
        "| front | search | forward | adjoint | tangent | accepted | dominated | hypervolume | wall s | CPU s | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in content["rows"]:
        lines.append(
            f"| {r['case']}, {r['points']} points, {r['variables']} variables, {r['nodes']} nodes | {r['method']} |"
            f" {r['forward']} | {r['adjoint']} | {r['tangent']} | {r['accepted']} | {r['dominated']} |"
            f" {r['hypervolume']:.4f} | {r['wall_seconds']:.0f} | {r['processor_seconds']:.0f} | {r['load']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [row for name in chosen.only for row in rows_of(name, chosen.points)]
    content = {"machine": hardware("cpu"), "rows": rows}
    write_json(chosen.out / "fronts.json", content)
    write_text(chosen.out / "fronts.md", as_markdown(content))


if __name__ == "__main__":
    main()
