"""Flows: solves to an optimum by finite elements alone, on interpolation, on reduced bases, and on an operator.

Run as ``python -m benchmarks.flows [--only CASE ...] [--operator FILE]``; writes ``benchmarks/results/flows.json`` and
``flows.md``. Every finite-element solve of a study counts; adjoints and tangents, each a back-substitution in the
factorization of a solve, are listed apart. With an operator's file its errors are measured, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.operators import FORMS, RESULTS, Case, accuracy, setup_of
from shapewright.studies.files import write_json, write_text
from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.optimize.trust_region import Region, minimize_by_trust_region
from shapewright.studies.optimize.trust_region_search import (
    SolutionStore,
    scaling_at,
    search_by_trust_region,
    trust_region_problem,
)
from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.flow_models import FlowModel
from shapewright.studies.problem.linear_physics import FLOW_PHYSICS
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.models.shape_operator_file import load_shape_operator

CASES = {
    "stokes_body": (Case("stokes_2d", "body_in_channel, symmetric", "stokes_body.yaml"), 1e-3),
    "stokes_square": (Case("stokes_2d", "body_in_channel, square", "stokes_square.yaml"), 1e-3),
    "stokes_lopsided": (
        Case("stokes_2d", "body_in_channel, 10 control points, off the middle", "stokes_body.yaml",
             ("geometry.options.symmetric=false", "geometry.options.control_points=10",
              "geometry.options.center=[0.8,0.45]", "surrogate.weights=null")),
        1e-3,
    ),
    "ns_body": (Case("navier_stokes_2d", "body_in_channel, Reynolds 40", "ns_body.yaml"), 1e-2),
}  # fmt: skip
"""Study, and KKT residual of the searches."""


def searches(setup: Setup, tolerance: float, operator: FlowModel | None) -> list[dict[str, Any]]:
    """Solves and objective of each way to an optimum."""
    config = setup.study.model.optimizer.model_copy(update={"starts": 1, "kkt_tolerance": tolerance})
    rows: list[dict[str, Any]] = []

    def row(method: str, begun: float, objective: float, solves: Mapping[str, int], reason: str) -> None:
        counts = {"fem_solves": solves["forward"], "adjoints": solves["adjoint"], "tangents": solves.get("tangent", 0)}
        seconds = time.perf_counter() - begun
        rows.append({"method": method, "objective": objective, **counts, "seconds": seconds, "reason": reason})
        print(f"  {method}: {counts}, {objective:.8g}, {seconds:.1f} s, {reason}", flush=True)

    fem, begun = FemModel(setup), time.perf_counter()
    alone = optimize(setup, fem, config.model_copy(update={"method": "slsqp", "on": "fem"}))
    row("fem", begun, alone.best.objective, fem.counts, alone.best.reason.name)
    with TemporaryDirectory() as folder:
        store, begun = SolutionStore(setup, Path(folder) / "interpolation"), time.perf_counter()
        scaling = scaling_at(setup, store(setup.initial.numpy()))
        problem = trust_region_problem(setup, None, store, scaling)
        region = Region(config.radius, config.least_radius, tolerance=tolerance, budget=config.max_solves)
        found = minimize_by_trust_region(problem, scaling.z(setup.initial.numpy()), region)
        objective = setup.sign * scaling.objective * float(found.centre.values[0])
        row("interpolation", begun, objective, store.solves, found.reason.name)
        ways = {"reduced basis": None} | ({} if operator is None else {"operator and reduced basis": operator})
        for method, model in ways.items():
            store, begun = SolutionStore(setup, Path(folder) / method), time.perf_counter()
            if model is not None:
                model = replace(model, solutions=store.spans, _spans={})
            found = search_by_trust_region(setup, model, config, store, Path(folder) / f"{method}.json")
            row(method, begun, found.best.objective, store.solves, found.best.reason.name)
    best = rows[0]["objective"]
    return [one | {"gap_to_fem": setup.sign * (one["objective"] - best) / abs(best)} for one in rows]


def as_markdown(content: dict[str, Any]) -> str:
    """Two tables."""
    lines = ["# Flows: solves to an optimum", "", f"{content['machine']}; other work beside it", ""]
    lines += ["| case | method | FEM solves | adjoints | tangents | objective | gap to FEM alone | seconds |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in content["searches"]:
        lines.append(
            f"| {r['case']} | {r['method']} | {r['fem_solves']} | {r['adjoints']} | {r['tangents']} |"
            f" {r['objective']:.8g} | {r['gap_to_fem']:.1e} | {r['seconds']:.1f} |"
        )
    if content["rows"]:
        lines += ["", "| operator, on | gradient | field | value | gradient | cosine | ms a design |"]
        lines += ["|---|---|---|---|---|---|---|"]
    for r in content["rows"]:
        lines.append(
            f"| {r['case']}: {r['population']}, {r['objective']} | {r['gradient_form']} | {r['field_error']:.2%} |"
            f" {r['value_error']:.3%} | {r['gradient_error']:.2%} | {r['cosine']:.4f} | {1e3 * r['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--operator", type=Path, help="weights of stokes_2d")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows, steps = [], []
    for name in chosen.only:
        case, tolerance = CASES[name]
        setup, operator = setup_of(case), None
        print(f"{name}: {len(setup.initial)} variables, {len(setup.shape_map.mesh.nodes)} nodes", flush=True)
        if chosen.operator is not None and case.operator in FLOW_PHYSICS:
            network, card = load_shape_operator(chosen.operator, FLOW_PHYSICS)
            operator = FlowModel(setup, network=network.requires_grad_(False))  # type: ignore[arg-type]
            for form in FORMS:
                found = accuracy(case, setup, replace(operator, gradient=form), card)  # type: ignore[arg-type]
                rows.append({"case": name, **found})
                print("  " + ", ".join(f"{k} {v:.3g}" for k, v in found.items() if isinstance(v, float)), flush=True)
        about = {"case": name, "operator": case.operator, "variables": len(setup.initial)}
        steps += [about | one for one in searches(setup, tolerance, operator)]
        content = {"machine": hardware("cpu"), "rows": rows, "searches": steps}
        chosen.out.mkdir(parents=True, exist_ok=True)
        write_json(chosen.out / "flows.json", content)
        write_text(chosen.out / "flows.md", as_markdown(content))


if __name__ == "__main__":
    main()
