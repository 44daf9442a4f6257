"""What ``shapewright plan`` knows of searches: solves and seconds of the measured studies, as a file of the package.

Run as ``python -m benchmarks.measured_solves``; writes ``studies/measured_solves.json`` from
``studies.json``, ``operators.json`` and ``flows.json`` in ``benchmarks/results``, which :mod:`benchmarks.studies`,
:mod:`benchmarks.operators` and :mod:`benchmarks.flows` measure.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from shapewright.studies.files import write_json
from shapewright.studies.problem.families import families
from shapewright.studies.problem.operators import OPERATORS
from shapewright.studies.run.measured import FILE, METHODS
from shapewright.studies.schema.loader import load_study

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "FEM alone": "fem",
    "trust region without surrogate": "interpolation",
    "managed": "surrogate",
} | {name.replace("_", " "): name for name in METHODS}  # fmt: skip
"""Method of the benchmark -> way of the plan."""
SEARCHES = {"reduced basis": "reduced_basis", "operator": "operator"}
"""The same of the benchmark of operators, as far as the operator ships."""


def content() -> dict[str, Any]:
    """What the file holds."""
    measured, on_operators = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("studies", "operators")
    )
    rows = [_row(entry) for entry in measured["rows"] if entry["method"] in NAMES]
    flows = json.loads((ROOT / "benchmarks" / "results" / "flows.json").read_text(encoding="utf-8"))
    rows += [
        _search(entry, "flow_basis") for entry in flows["searches"] if entry["method"] == "reduced basis"
    ]
    rows += [
        _search(entry, SEARCHES[entry["method"]])
        for entry in on_operators["searches"]
        if entry["method"] in SEARCHES and entry["operator"] in OPERATORS
    ]
    on = measured["machine"]["hardware"]
    return {"machine": f"{on['processor']}, {on['cores']} cores", "rows": rows}


def _search(entry: dict[str, Any], method: str) -> dict[str, Any]:
    return {
        "study": entry["case"],
        "variables": entry["variables"],
        "method": method,
        "solves": entry["fem_solves"],
        "gap": entry["gap_to_fem"],
        "seconds": entry["seconds"],
        "training_seconds": 0.0,
        "training_solves": 0,
    }


@cache
def _variables(study: str) -> int:
    return len(families(load_study(ROOT / "studies" / f"{study}.yaml"))[1].parameters)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "study": entry["study"],
        "variables": _variables(entry["study"]),
        "method": NAMES[entry["method"]],
        "solves": entry["fem_solves"],
        "gap": entry["gap_to_fem_alone"],
        "seconds": entry["seconds"],
        "training_seconds": entry["training_seconds"],
        "training_solves": entry["training_solves"],
    }


if __name__ == "__main__":
    write_json(FILE, content())
    print(f"wrote {FILE}")
