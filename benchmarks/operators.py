"""Operators for all shapes on families that training never saw: accuracy, and solves to a certified optimum.

Run as ``python -m benchmarks.operators [--only CASE ...] [--folder studies/operators]``; writes
``benchmarks/results/operators.json`` and ``operators.md``. Values are compared with finite elements on the same mesh.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

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
from shapewright.studies.problem.linear_physics import PHYSICS
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operator_fit import unfit
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.shape_models import OperatorModel, reduced_basis
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard, load_shape_operator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DESIGNS, SEED = 16, 11
TOLERANCE = 1e-3
"""KKT residual of the searches."""
FORMS = ("lagrangian", "through_operator")
HOLE = """\
name: plate
geometry:
  family: plate_with_hole
  options: {width: 4.0, height: 3.0, radius: 0.7}
  mesh_size: 0.15
physics:
PHYSICS
objective: {minimize: compliance}
constraints:
  - {quantity: area, equals: 1.6}
  - {quantity: jacobian, at_least: 0.1}
"""
HEAT = """\
  name: poisson
  source: {u: 1.0}
  dirichlet:
    - {on: [left, right], u: 0.0}"""
PULLED = """\
  name: plane_stress
  coefficients: {youngs_modulus: 1.0, poisson_ratio: 0.3}
  dirichlet:
    - {on: left, u: 0.0, v: 0.0}
  natural:
    - {on: right, v: 1.0}"""


@dataclass(frozen=True)
class Case:
    """A study of a family.

    Attributes:
        operator: that serves it.
        population: what the family is, and whether training saw such shapes.
        study: path below ``studies``, or the text of a study.
        overrides: of its keys.
        searched: whether its optimum is sought.
    """

    operator: str
    population: str
    study: str
    overrides: tuple[str, ...] = ()
    searched: bool = True


BAR = "torsion.yaml"
CASES = {
    "bar_8": Case("poisson_2d", "closed_bar, 8 control points", BAR),
    "bar_9_lopsided": Case(
        "poisson_2d", "closed_bar, 9 control points, lopsided bounds", BAR,
        ("geometry.options.control_points=9", "geometry.bounds.r0=[0.6,0.8]", "geometry.bounds.r3=[0.6,0.9]",
         "geometry.initial.r0=0.8", "geometry.initial.r3=0.88"),
    ),
    "bar_16": Case("poisson_2d", "closed_bar, 16 control points", BAR, ("geometry.options.control_points=16",), False),
    "bar_24": Case("poisson_2d", "closed_bar, 24 control points", BAR, ("geometry.options.control_points=24",), False),
    "heat_plate": Case("poisson_2d", "plate_with_hole, cooled sides", HOLE.replace("PHYSICS", HEAT)),
    "loaded_plate": Case("elasticity_2d", "plate_with_hole, clamped and sheared", HOLE.replace("PHYSICS", PULLED)),
}  # fmt: skip


def setup_of(case: Case) -> Setup:
    """The study of a case, built."""
    if case.study.endswith(".yaml"):
        return build_setup(load_study(ROOT / "studies" / case.study, case.overrides))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(case.study)
        return build_setup(load_study(path, case.overrides))


def accuracy(case: Case, setup: Setup, model: OperatorModel, card: ShapeOperatorCard) -> dict[str, Any]:
    """Mean errors over random designs, of the first functional and its gradient in parameters scaled to the bounds."""
    designs, fem = draw_designs(setup, DESIGNS, SEED), FemModel(setup)
    span = np.ptp(setup.family.bounds.numpy(), axis=1)
    errors = []
    for theta in designs:
        values, gradients, solution = fem.functionals(theta)
        exact = np.concatenate([solution.fields[field.name] for field in setup.problem.physics.fields], -1)
        fields = model.fields(theta).numpy()
        begun = time.perf_counter()
        found, slopes = model.evaluate(theta.numpy()[None])
        seconds = time.perf_counter() - begun
        g, exact_g = slopes[0, 0] * span, gradients[0] * span
        errors.append(
            (
                np.linalg.norm(fields - exact) / np.linalg.norm(exact),
                abs(found[0, 0] / values[0] - 1),
                np.linalg.norm(g - exact_g) / np.linalg.norm(exact_g),
                g @ exact_g / (np.linalg.norm(g) * np.linalg.norm(exact_g)),
                seconds,
            )
        )
    names = ("field_error", "value_error", "gradient_error", "cosine", "seconds")
    return {
        "physics": case.operator,
        "population": case.population,
        "objective": setup.problem.objective.name,
        "gradient_form": model.gradient,
        **dict(zip(names, np.mean(errors, 0).tolist(), strict=True)),
        "training_seconds": card.seconds,
        "training_solves": card.solves,
    }


def searches(setup: Setup, model: OperatorModel) -> list[dict[str, Any]]:
    """Solves and objective of each way to an optimum; every finite-element solve of the study is counted."""
    config = setup.study.model.optimizer.model_copy(update={"starts": 1, "kkt_tolerance": TOLERANCE})
    rows: list[dict[str, Any]] = []

    def row(method: str, begun: float, objective: float, solves: int, reason: str) -> None:
        seconds = time.perf_counter() - begun
        rows.append(
            {"method": method, "objective": objective, "fem_solves": solves, "seconds": seconds, "reason": reason}
        )
        print(f"  {method}: {solves} solves, {objective:.7g}, {seconds:.1f} s, {reason}", flush=True)

    fem, begun = FemModel(setup), time.perf_counter()
    alone = optimize(setup, fem, config.model_copy(update={"method": "slsqp", "on": "fem"}))
    row("fem", begun, alone.best.objective, fem.counts["forward"], alone.best.reason.name)
    with TemporaryDirectory() as folder:
        for method in ("interpolation", "reduced basis"):
            store, begun = SolutionStore(setup, Path(folder) / method), time.perf_counter()
            basis = reduced_basis(setup, store.spans) if method == "reduced basis" else None
            start = setup.initial.numpy()
            scaling = scaling_at(setup, store(start))
            problem = trust_region_problem(setup, basis, store, scaling)
            region = Region(config.radius, config.least_radius, tolerance=TOLERANCE, budget=config.max_solves)
            found = minimize_by_trust_region(problem, scaling.z(start), region)
            objective = setup.sign * scaling.objective * float(found.centre.values[0])
            row(method, begun, objective, len(store.solved), found.reason.name)
        for method in ("operator", "operator and reduced basis"):
            store, begun = SolutionStore(setup, Path(folder) / method), time.perf_counter()
            known = store.fields if method == "operator and reduced basis" else tuple
            own = OperatorModel(setup, model.network, model.gradient, known)
            optimum = search_by_trust_region(setup, own, config, store, Path(folder) / f"{method}.json")
            row(method, begun, optimum.best.objective, len(store.solved), optimum.best.reason.name)
    best = rows[0]["objective"]
    return [one | {"gap_to_fem": setup.sign * (one["objective"] - best) / abs(best)} for one in rows]


def measure(name: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of accuracy and of searches of a case."""
    case = CASES[name]
    setup = setup_of(case)
    network, card = load_shape_operator(folder / f"{case.operator}.safetensors", PHYSICS)
    if reasons := unfit(setup, card):
        raise ValueError(f"{name}: {'; '.join(reasons)}")
    print(f"{name}: {len(setup.initial)} variables, {len(setup.shape_map.mesh.nodes)} nodes", flush=True)
    found = [accuracy(case, setup, OperatorModel(setup, network, form), card) for form in FORMS]
    for one in found:
        print("  " + ", ".join(f"{k} {v:.3g}" for k, v in one.items() if isinstance(v, float)), flush=True)
    steps = searches(setup, OperatorModel(setup, network)) if case.searched else []
    about = {"case": name, "operator": case.operator, "variables": len(setup.initial)}
    return [{"case": name, **one} for one in found], [about | one for one in steps]


def as_markdown(content: dict[str, Any]) -> str:
    """Two tables."""
    lines = ["# Operators for all shapes, on families that training never saw", "", f"{content['machine']}", ""]
    lines += ["| case | gradient | field | value | gradient | cosine | ms a design |", "|---|---|---|---|---|---|---|"]
    for r in content["rows"]:
        lines.append(
            f"| {r['case']}: {r['population']}, {r['objective']} | {r['gradient_form']} | {r['field_error']:.2%} |"
            f" {r['value_error']:.3%} | {r['gradient_error']:.2%} | {r['cosine']:.4f} | {1e3 * r['seconds']:.0f} |"
        )
    lines += ["", f"Searches to a KKT residual of {TOLERANCE:g}; every finite-element solve counts.", ""]
    lines += ["| case | method | FEM solves | objective | gap to FEM alone | seconds |", "|---|---|---|---|---|---|"]
    for r in content["searches"]:
        lines.append(
            f"| {r['case']} | {r['method']} | {r['fem_solves']} | {r['objective']:.7g} | {r['gap_to_fem']:.1e} |"
            f" {r['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--folder", type=Path, default=ROOT / "studies" / "operators")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows, steps = [], []
    for name in chosen.only:
        found, searched = measure(name, chosen.folder)
        rows, steps = rows + found, steps + searched
    content = {"machine": hardware("cpu"), "rows": rows, "searches": steps}
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / "operators.json", content)
    write_text(chosen.out / "operators.md", as_markdown(content))


if __name__ == "__main__":
    main()
