"""Solids, measured: ``python -m benchmarks.three_d [--only ball bracket]`` writes ``benchmarks/results/three_d.json``.

Rows of finite elements on known answers (ball and cube of volume 1), and of the shipped study of a bracket: the whole
run on the reduced basis, and a search by finite elements alone on the same mesh. Each row is measured in a process of
its own, whose peak memory it states, and is written as soon as it is there; rows of other cases stay.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shapewright.app.provenance import provenance
from shapewright.studies.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "three_d.json"
COLUMNS = (
    "case", "method", "dofs", "objective", "gap_to_fem_alone", "fem_solves", "seconds", "peak_mib",
    "moved_mesh_against_cad", "cad_deviation", "accepted",
)  # fmt: skip
MEMBRANE = {"ball": 0.0256556, "cube": 0.0201685}
"""int u of -lap u = 1 with u = 0 on the surface of a body of volume 1."""


def membrane(case: str) -> dict[str, Any]:
    """Finite elements on the CAD of a body of volume 1."""
    from OCP.BRepPrimAPI import BRepPrimAPI_MakeBox

    from shapewright.geometries.cad.shipped import shipped_part
    from shapewright.geometries.cad.solid_mesher import REST, MeshOptions, mesh_solid
    from shapewright.geometries.cad.step import CadShape, read_step
    from shapewright.geometries.fields.problem import Dirichlet, Problem
    from shapewright.solvers.fem.solver import FemSolver
    from shapewright.solvers.physics.poisson import poisson

    physics = poisson(dimension=3)
    cube = CadShape(BRepPrimAPI_MakeBox(1.0, 1.0, 1.0).Shape())
    cad = read_step(shipped_part("ball"), "mm") if case == "ball" else cube
    mesh = mesh_solid(cad, {}, MeshOptions(0.11, 0)).mesh
    problem = Problem(
        physics,
        sources={"u": lambda ops, q: 1.0},
        dirichlet=(Dirichlet("u", REST, lambda ops, q: 0.0),),
        functionals=(physics.functional("integral"),),
    )
    solution = FemSolver(problem, mesh).solve()
    value = solution.values["integral"]
    return {"dofs": solution.dofs, "objective": value, "relative_error": value / MEMBRANE[case] - 1, "fem_solves": 1,
            "linear_solver": solution.linear_solver}  # fmt: skip


def bracket(method: str) -> dict[str, Any]:
    """The shipped study: the whole run by the reduced basis, or the search by finite elements alone on one mesh."""
    import shapewright as sw

    path = ROOT / "studies" / "solid_bracket.yaml"
    with TemporaryDirectory() as folder:
        if method == "reduced_basis":
            return _run(sw.run(path, folder))
        return _search(path, Path(folder))


def _run(certificate: Any) -> dict[str, Any]:
    return {
        "dofs": certificate.rounds[0].dofs,
        "objective": certificate.objective.value,
        "initial": certificate.objective.initial,
        "change": certificate.objective.change,
        "first_mesh": certificate.rounds[0].objective,
        "fem_solves": sum(entry.solves for entry in certificate.rounds),
        "first_mesh_solves": certificate.rounds[0].solves,
        "moved_mesh_against_cad": certificate.rounds[-1].difference,
        "cad_deviation": certificate.cad.deviation,
        "accepted": certificate.accepted,
        "reasons": list(certificate.reasons),
        "kkt_residual": certificate.kkt_residual,
        "least_jacobian": certificate.least_jacobian,
        "finest_dofs": certificate.levels[-1].dofs,
    }


def _search(path: Path, folder: Path) -> dict[str, Any]:
    import numpy as np

    from shapewright.studies.optimize.solid_search import SolidStore, search_on_mesh
    from shapewright.studies.problem.solid_setup import build_solid_setup
    from shapewright.studies.schema.loader import load_study
    from shapewright.studies.schema.solid_study import SolidStudyModel

    setup = build_solid_setup(load_study(path, ["optimizer.model=fem", "optimizer.tolerance=1e-7"], SolidStudyModel))
    store = SolidStore(setup, folder, tangents=False)
    found = search_on_mesh(setup, store, setup.initial.numpy())
    dofs = len(setup.shape_map.mesh.nodes) * len(setup.problem.physics.components)
    values = {"dofs": dofs, "objective": found.objective, "first_mesh": found.objective}
    solves = sum(one is not None for one in store.solved.values())
    return {**values, "fem_solves": solves, "first_mesh_solves": solves, "exit": found.reason.name,
            "feasible": bool(np.isfinite(found.objective) and found.violation <= 1.0)}  # fmt: skip


CASES: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
    ("ball", "fem"): lambda: membrane("ball"),
    ("cube", "fem"): lambda: membrane("cube"),
    ("bracket", "fem"): lambda: bracket("fem"),
    ("bracket", "reduced_basis"): lambda: bracket("reduced_basis"),
}
"""What is measured, by case and method."""


def measure(case: str, method: str) -> None:
    """Measure one row in this process, and print it as JSON."""
    began = time.perf_counter()
    found = CASES[case, method]()
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss // 1024 for who in both)
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"case": case, "method": method} | found
    row |= {"seconds": round(time.perf_counter() - began, 1), "peak_mib": peak, "load": os.getloadavg()[1]}
    print("ROW " + json.dumps(row), flush=True)


def with_gaps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a reduced basis with their gap to finite elements alone, on the same mesh."""
    alone = {row["case"]: row for row in rows if row["method"] == "fem" and row.get("first_mesh")}
    for row in rows:
        other = alone.get(row["case"])
        if row["method"] != "fem" and other is not None and row.get("first_mesh"):
            row["gap_to_fem_alone"] = row["first_mesh"] / other["first_mesh"] - 1
    return rows


def main() -> None:
    """Measure what is asked for, each row in a process of its own, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="cases")
    parser.add_argument("--cad", action="store_true", help="the CAD alone, of many parts; see benchmarks.cad_parts")
    parser.add_argument("--public", type=Path, help="with --cad: a folder of STEP files")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        measure(*arguments.row)
        return
    if arguments.cad:
        from benchmarks.cad_parts import run

        run(arguments.only, arguments.public)
        return
    for case, method in CASES:
        if arguments.only and case not in arguments.only:
            continue
        command = [sys.executable, "-m", "benchmarks.three_d", "--row", case, method]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("ROW ")]
        if not lines:
            print(f"{case} {method}: no result\n{done.stderr[-2000:]}", flush=True)
            continue
        row = json.loads(lines[-1].removeprefix("ROW "))
        print(json.dumps(row), flush=True)
        left = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
        kept = [other for other in left if (other["case"], other["method"]) != (case, method)]
        write_json(RESULTS, {"machine": provenance("cpu", 0), "rows": with_gaps([*kept, row])})


if __name__ == "__main__":
    main()
