"""Operators for all shapes on families that training never saw: accuracy, and solves to a certified optimum.

Run as ``python -m benchmarks.operators [--only CASE ...] [--folder studies/operators]``; writes
``benchmarks/results/operators.json`` and ``operators.md``. Values are compared with finite elements on the same mesh.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.operator_population import population_rows, without_network
from shapewright.studies.files import write_json, write_text
from shapewright.studies.optimize.optimizer import ExitReason, optimize
from shapewright.studies.optimize.trust_region import Region, minimize_by_trust_region, restore
from shapewright.studies.optimize.trust_region_search import (
    SolutionStore,
    scaling_at,
    search_by_trust_region,
    trust_region_problem,
)
from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.known_solutions import KnownSolution, known_solution
from shapewright.studies.problem.linear_physics import PHYSICS
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operator_fit import unfit
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.shape_models import OperatorModel
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.study import Optimizer
from shapewright.surrogate.models.shape_operator_file import load_shape_operator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DESIGNS, SEED = 16, 11
TOLERANCE = 1e-3
"""KKT residual of the searches."""
KNOWN = (0, 1, 3)
"""Solutions of the study in the span beside the operator's fields."""
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
STRESSED = (ROOT / "studies" / "cantilever.yaml").read_text().replace(
    "constraints:\n", "constraints:\n  - {quantity: peak_von_mises, at_most: 5.05}\n"
)
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
        operator: that serves it; where it does not ship the case is measured on known solutions alone.
        population: what the family is, and whether training saw such shapes.
        study: path below ``studies``, or the text of a study.
        overrides: of its keys.
        searched: whether its optimum is sought.
        tolerance: KKT residual of the search.
    """

    operator: str
    population: str
    study: str
    overrides: tuple[str, ...] = ()
    searched: bool = True
    tolerance: float = TOLERANCE


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
    "hot_plate": Case(
        "poisson_2d", "plate_with_hole, peak of the temperature",
        HOLE.replace("PHYSICS", HEAT).replace("compliance", '{name: peak, integrand: "(u/2)**16"}'), tolerance=5e-3,
    ),
    "plate_hole": Case("elasticity_2d", "plate_with_hole, peak hoop stress", "plate_hole.yaml", tolerance=2e-2),
    "stressed_cantilever": Case("elasticity_2d", "bracket, limit on the peak stress", STRESSED, tolerance=5e-3),
    "loaded_plate": Case("elasticity_2d", "plate_with_hole, clamped and sheared", HOLE.replace("PHYSICS", PULLED)),
}  # fmt: skip
ANY = {"any_poisson": "poisson_2d", "any_elasticity": "elasticity_2d"}
"""Cases of problems drawn at random, and the operator that serves them."""


def setup_of(case: Case) -> Setup:
    """The study of a case, built."""
    if case.study.endswith(".yaml"):
        return build_setup(load_study(ROOT / "studies" / case.study, case.overrides))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(case.study.replace("examples/", f"{ROOT}/studies/examples/"))
        return build_setup(load_study(path, case.overrides))


def known_solutions(setup: Setup, count: int) -> list[KnownSolution]:
    """Solutions of the start and of random designs, with their adjoints and tangents."""
    designs = [setup.initial, *draw_designs(setup, max(1, count - 1), SEED + 1)][:count]
    return [known_solution(ProblemOnMesh(setup), theta, FemModel(setup).solve(theta)) for theta in designs]


def accuracy(case: Case, setup: Setup, model: OperatorModel, seconds: float) -> dict[str, Any]:
    """Mean errors over random designs, of the last functional and its gradient in parameters scaled to the bounds."""
    designs, fem = draw_designs(setup, DESIGNS, SEED), FemModel(setup)
    span = np.ptp(setup.family.bounds.numpy(), axis=1)
    errors = []
    for theta in designs:
        values, gradients, solution = fem.functionals(theta)
        exact = np.concatenate([solution.fields[field.name] for field in setup.problem.physics.fields], -1)
        fields = model.fields(theta).numpy()
        begun = time.perf_counter()
        found, slopes = model.evaluate(theta.numpy()[None])
        took = time.perf_counter() - begun
        last = len(values) - 1  # of two the one under a condition, which is not self-adjoint
        g, exact_g = slopes[0, last] * span, gradients[last] * span
        errors.append(
            (
                np.linalg.norm(fields - exact) / np.linalg.norm(exact),
                abs(found[0, last] / values[last] - 1),
                np.linalg.norm(g - exact_g) / np.linalg.norm(exact_g),
                g @ exact_g / (np.linalg.norm(g) * np.linalg.norm(exact_g)),
                took,
            )
        )
    names = ("field_error", "value_error", "gradient_error", "cosine", "seconds")
    return {
        "physics": case.operator,
        "population": case.population,
        "objective": setup.problem.functionals[-1].name,
        "gradient_form": model.gradient,
        "known_solutions": len(model.solutions()),
        "network": model.network is not None,
        **dict(zip(names, np.mean(errors, 0).tolist(), strict=True)),
        "training_seconds": seconds,
        "training_solves": 0,
    }


def searches(setup: Setup, model: OperatorModel, tolerance: float) -> list[dict[str, Any]]:
    """Solves and objective of each way to an optimum; every finite-element solve of the study is counted."""
    config = setup.study.model.optimizer.model_copy(update={"starts": 1, "kkt_tolerance": tolerance})
    rows: list[dict[str, Any]] = []

    def row(method: str, begun: float, objective: float, solves: Mapping[str, int], reason: str) -> None:
        rows.append(
            {
                "method": method,
                "objective": objective,
                "fem_solves": solves["forward"],
                "back_substitutions": solves["adjoint"] + solves.get("tangent", 0),
                "seconds": time.perf_counter() - begun,
                "reason": reason,
            }
        )
        print("  " + ", ".join(f"{value}" for value in rows[-1].values()), flush=True)

    fem, begun = FemModel(setup), time.perf_counter()
    alone = optimize(setup, fem, config.model_copy(update={"method": "slsqp", "on": "fem"}))
    row("fem", begun, alone.best.objective, fem.counts, alone.best.reason.name)
    with TemporaryDirectory() as folder:
        of_network = () if model.network is None else ("operator", "polynomials")
        for method in ("interpolation", "reduced basis", *of_network):
            store, begun = SolutionStore(setup, Path(folder) / method), time.perf_counter()
            if method == "interpolation":
                found = _by_interpolation(setup, config, store)
            else:
                own = None
                if model.network is not None and method != "reduced basis":
                    network = model.network if method == "operator" else without_network(model.network)
                    own = replace(model, network=network, solutions=store.spans)
                best = search_by_trust_region(setup, own, config, store, Path(folder) / f"{method}.json").best
                found = best.objective, best.reason
            row(method, begun, found[0], store.solves, found[1].name)
    best = rows[0]["objective"]
    return [one | {"gap_to_fem": setup.sign * (one["objective"] - best) / abs(best)} for one in rows]


def _by_interpolation(setup: Setup, config: Optimizer, store: SolutionStore) -> tuple[float, ExitReason]:
    """Objective and end of a trust region without a model."""
    unit = scaling_at(setup, None)
    start = unit.theta(restore(trust_region_problem(setup, None, store, unit), unit.z(setup.initial.numpy())))
    scaling = scaling_at(setup, store(start))
    region = Region(config.radius, config.least_radius, tolerance=config.kkt_tolerance, budget=config.max_solves)
    found = minimize_by_trust_region(trust_region_problem(setup, None, store, scaling), scaling.z(start), region)
    return setup.sign * scaling.objective * float(found.centre.values[0]), found.reason


def measure(name: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of accuracy and of searches of a case."""
    case = CASES[name]
    setup = setup_of(case)
    file, network, seconds = folder / f"{case.operator}.safetensors", None, 0.0
    if file.is_file():
        network, card = load_shape_operator(file, PHYSICS)
        network, seconds = network.requires_grad_(False), card.seconds
        if reasons := unfit(setup, card):
            print(f"{name}: {'; '.join(reasons)}; on known solutions alone", flush=True)
            network, seconds = None, 0.0
    print(f"{name}: {len(setup.initial)} variables, {len(setup.shape_map.mesh.nodes)} nodes", flush=True)
    found = []
    for count in KNOWN:
        known = known_solutions(setup, count)
        for form in FORMS if network is not None and count == 0 else FORMS[:1]:
            if network is not None or count:
                model = OperatorModel(setup, network, form, lambda known=known: known)
                found.append(accuracy(case, setup, model, seconds))
                shown = {k: v for k, v in found[-1].items() if isinstance(v, float)}
                print(f"  {count} known, {form}: " + ", ".join(f"{k} {v:.3g}" for k, v in shown.items()), flush=True)
    steps = searches(setup, OperatorModel(setup, network), case.tolerance) if case.searched else []
    about = {"case": name, "operator": case.operator, "variables": len(setup.initial), "tolerance": case.tolerance}
    return [{"case": name, **one} for one in found], [about | one for one in steps]


def as_markdown(content: dict[str, Any]) -> str:
    """Two tables."""
    lines = ["# Operators for all shapes, on families that training never saw", "", f"{content['machine']}", ""]
    lines += ["Known: finite-element solutions of the study in the span, with adjoints and tangents."]
    lines += ["Polynomials: as many functions without a network, times the factor that vanishes at supports.", ""]
    lines += ["| case | span | gradient | field | value | gradient error | cosine | ms a design |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in content["rows"]:
        first = "operator, " if r["network"] else "" if r["known_solutions"] else "polynomials, "
        cost = f"{1e3 * r['seconds']:.0f}" if "seconds" in r else ""
        lines.append(
            f"| {r['case']}: {r['population']}, {r['objective']} | {first}{r['known_solutions']} known |"
            f" {r['gradient_form']} | {_share(r['field_error'])} | {_share(r['value_error'])} |"
            f" {_share(r['gradient_error'])} | {r['cosine']:.4f} | {cost} |"
        )
    lines += ["", "Searches; every finite-element solve counts. Back-substitutions are adjoints and tangents.", ""]
    lines += ["| case | KKT residual | method | FEM solves | back-substitutions | objective | gap | seconds |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in content["searches"]:
        lines.append(
            f"| {r['case']} | {r['tolerance']:g} | {r['method']} | {r['fem_solves']} | {r['back_substitutions']} |"
            f" {r['objective']:.7g} | {r['gap_to_fem']:.1e} | {r['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=(*CASES, *ANY), default=(*CASES, *ANY))
    parser.add_argument("--folder", type=Path, default=ROOT / "studies" / "operators")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        if name in CASES:
            keep(chosen.out, name, *measure(name, chosen.folder))
        elif (file := chosen.folder / f"{ANY[name]}.safetensors").is_file():
            rows = population_rows(*load_shape_operator(file, PHYSICS))
            keep(chosen.out, name, [{"case": name, **row} for row in rows], [])


def keep(out: Path, case: str, rows: list[dict[str, Any]], searched: list[dict[str, Any]]) -> None:
    """Put what was measured of a case in the place of what was there of it, in the order of the cases."""
    file = out / "operators.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"rows": [], "searches": []}
    content: dict[str, Any] = {"machine": hardware("cpu")}
    for part, new in (("rows", rows), ("searches", searched)):
        every = [one for one in before[part] if one["case"] != case] + new
        content[part] = sorted(every, key=lambda one: [*CASES, *ANY].index(one["case"]))
    write_json(file, content)
    write_text(out / "operators.md", as_markdown(content))


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"


if __name__ == "__main__":
    main()
