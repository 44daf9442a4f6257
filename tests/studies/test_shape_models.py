"""An operator for all shapes as a study's model, against finite elements, their adjoints and differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shapewright.studies.optimize.optimizer import ExitReason
from shapewright.studies.optimize.trust_region import Region, minimize_by_trust_region
from shapewright.studies.optimize.trust_region_search import SolutionStore, scaling_at, trust_region_problem
from shapewright.studies.problem.known_solutions import KnownSolution, known_solution
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operator_fit import operator_novelty, unfit
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh, linear_problem
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.shape_models import OperatorModel, reduced_basis
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.shape_descriptors import DESCRIPTORS
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard, sizes_of
from tests.studies.study_cases import write_tiny
from tests.surrogate.shape_cases import TINY, tiny

HEAT = (
    ("  dirichlet:\n    - {on: wall, u: 0.0}\n", "  natural:\n    - {on: wall, u: 3 - 2*u}\n"),
    ("{u: 2.0}", "{u: 2.0 + x}"),
    ("{maximize: torsional_constant}", "{maximize: integral}"),
)
SCALARS = {
    "torsion": (),
    "heat": HEAT,
    "lifted": (("u: 0.0", 'u: "x*y + y"'), ("{maximize: torsional_constant}", "{maximize: integral}")),
    "peak_heat": (*HEAT[:2], ("{maximize: torsional_constant}", '{minimize: {name: peak, integrand: "(u/2)**8"}}')),
}
CLAMPED = """\
name: clamped
geometry:
  family: plate_with_hole
  mesh_size: 0.5
physics:
  name: PHYSICS
  coefficients: {youngs_modulus: 210.0, poisson_ratio: 0.3}
  dirichlet:
    - {on: left, u: 0.0}
    - {on: bottom, v: 0.0}
  natural:
    - {on: right, u: 2.0}
objective: {minimize: compliance}
constraints:
  - {quantity: jacobian, at_least: 0.1}
sampling: {designs: 6, held_out: 3, tangents: 1, workers: 1}
training: {batch: 2}
"""


def fem_fields(setup: Setup, theta: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Nodal fields, values and gradients by finite elements."""
    values, gradients, solution = FemModel(setup).functionals(theta)
    fields = [torch.from_numpy(solution.fields[f.name]) for f in setup.problem.physics.fields]
    return torch.cat(fields, -1), values, gradients


def setup_of(folder: Path, kind: str) -> Setup:
    if kind in SCALARS:
        return build_setup(load_study(write_tiny(folder, *SCALARS[kind])))
    path = folder / "clamped.yaml"
    text = CLAMPED.replace("PHYSICS", kind.replace("peak_stress", "plane_stress"))
    path.write_text(text.replace("compliance", "peak_von_mises") if kind == "peak_stress" else text)
    return build_setup(load_study(path))


def aside(setup: Setup) -> Tensor:
    """A design somewhat off the start."""
    lower, upper = setup.family.bounds.T
    share = torch.rand(len(lower), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (setup.initial + 0.1 * (upper - lower) * (share - 0.5)).clamp(lower, upper)


def known_at(setup: Setup, theta: Tensor) -> KnownSolution:
    """A finite-element solution with its adjoints and tangents."""
    return known_solution(ProblemOnMesh(setup), theta, FemModel(setup).solve(theta))


KINDS = ["torsion", "heat", "lifted", "peak_heat", "plane_stress", "plane_strain", "peak_stress"]


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_solution_its_adjoint_and_its_tangents_in_the_span_all_is_that_of_finite_elements(
    kind: str, tmp_path: Path
) -> None:
    """Values and gradients at the design, whatever the functional; off it to third and to second order."""
    setup = setup_of(tmp_path, kind)
    theta = aside(setup)
    known = known_at(setup, theta)
    model = OperatorModel(setup, None, solutions=lambda: [known])
    found, slopes = model.evaluate(theta.numpy()[None])
    fields, values, gradients = fem_fields(setup, theta)
    rule = {"peak_heat": 1e-5, "peak_stress": 1e-3}.get(kind, 1e-6)  # high powers in coarse cells, by two rules
    np.testing.assert_allclose(found[0], values, rtol=rule)
    np.testing.assert_allclose(slopes[0], gradients, atol=10 * rule * np.abs(gradients).max())
    np.testing.assert_allclose(model.fields(theta), fields, atol=3e-6 * float(fields.abs().max()))
    direction = np.random.default_rng(3).standard_normal(len(theta)) * np.ptp(setup.family.bounds.numpy(), axis=1)
    missed = []
    for step in (0.04, 0.02):
        there = theta + torch.from_numpy(step * direction / np.linalg.norm(direction))
        _, exact, steep = fem_fields(setup, there)
        off, slope = model.around(theta).evaluate(there.numpy()[None])
        constant = found[0] - values  # of the quadrature of a peak
        missed.append((np.abs(off[0] - exact - constant).max(), np.abs(slope[0] - steep - slopes[0] + gradients).max()))
    small = 0.1 * rule * np.abs(values).max(), rule * np.abs(gradients).max()
    for after, before, order, least in zip(missed[1], missed[0], (3, 2), small, strict=True):
        assert after < 2.0 ** (0.5 - order) * before + least


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_with_the_fields_held_are_those_of_the_values(kind: str, tmp_path: Path) -> None:
    """By Taylor's remainder off the centre, where state and adjoint are those of the span only."""
    setup = setup_of(tmp_path, kind)
    theta = aside(setup)
    known = known_at(setup, setup.initial)
    model = OperatorModel(setup, None, solutions=lambda: [known]).around(setup.initial)
    direction = np.random.default_rng(0).standard_normal(len(theta)) * np.ptp(setup.family.bounds.numpy(), axis=1)
    values, gradients = model.evaluate(theta.numpy()[None])
    assert np.abs(gradients[0] @ direction).min() > 1e-3 * np.abs(values).max()  # there is something to compare
    remainders = []
    for step in (2e-3, 1e-3, 5e-4):
        moved, _ = model.evaluate((theta.numpy() + step * direction)[None])
        remainders.append(np.abs(moved[0] - values[0] - step * gradients[0] @ direction))
    orders = np.log2(np.array(remainders[:-1]) / np.array(remainders[1:]))
    assert (orders > 1.9).all(), orders


@pytest.mark.parametrize("kind", ["torsion", "heat", "plane_strain"])
def test_gradients_through_the_operator_are_those_of_its_values(kind: str, tmp_path: Path) -> None:
    setup = setup_of(tmp_path, kind)
    operator = "elasticity_2d" if kind == "plane_strain" else "poisson_2d"
    model = OperatorModel(setup, tiny(operator), "through_operator")
    theta = aside(setup)
    direction = np.random.default_rng(0).standard_normal(len(theta)) * np.ptp(setup.family.bounds.numpy(), axis=1)
    _, gradients = model.evaluate(theta.numpy()[None])
    step = 1e-5
    both = np.stack([theta.numpy() + s * step * direction for s in (1, -1)])
    values, _ = model.evaluate(both)
    slope = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(gradients[0] @ direction, slope, rtol=1e-5)


def test_a_study_outside_the_card_is_told_why(tmp_path: Path) -> None:
    card = ShapeOperatorCard(
        {"operator": "poisson_2d", "sizes": sizes_of(TINY)}, {}, {}, {name: [0.0, 1.5] for name in DESCRIPTORS}, {},
        {"seen": {"mean": 0.1}}, {}, 1.0,
    )  # fmt: skip
    setup = setup_of(tmp_path, "torsion")
    assert unfit(setup, card) == []
    assert operator_novelty(setup, card, setup.initial)["aspect"] == 0.0
    assert operator_novelty(setup, card, setup.initial)["extent"] > 0
    assert "physics is 'plane_stress'" in unfit(setup_of(tmp_path, "plane_stress"), card)[0]
    varying = ("  source: {u: 2.0}", "  source: {u: 2.0}\n  coefficients: {conductivity: 1 + x**2}")
    assert "'conductivity' varies in space" in unfit(build_setup(load_study(write_tiny(tmp_path, varying))), card)[0]


def test_a_domain_that_is_none_has_no_answer(tmp_path: Path) -> None:
    setup = setup_of(tmp_path, "torsion")
    values, gradients = OperatorModel(setup, tiny("poisson_2d")).evaluate(
        np.stack([setup.initial.numpy(), setup.family.bounds[:, 0].numpy() * 0])
    )
    assert np.isfinite(values[0]).all()
    assert np.isfinite(gradients[0]).all()
    assert np.isnan(values[1]).all()


@pytest.mark.parametrize(("condition", "reason"), [("u: -u*v", "is not linear"), ("u: -u, v: -2*v", "differ")])
def test_springs_that_are_no_film_are_told(condition: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "sprung.yaml"
    text = CLAMPED.replace("PHYSICS", "plane_stress")
    path.write_text(text.replace("{on: right, u: 2.0}", f"{{on: right, {condition}}}"))
    found = linear_problem(build_setup(load_study(path)), "a reduced basis")
    assert isinstance(found, list)
    assert reason in found[0]


def test_small_springs_beside_large_loads_are_one_film(tmp_path: Path) -> None:
    path = tmp_path / "sprung.yaml"
    text = CLAMPED.replace("PHYSICS", "plane_stress")
    path.write_text(text.replace("{on: right, u: 2.0}", '{on: right, u: "2*nx - 5e-8*u", v: "ny - 5e-8*v"}'))
    shapes = linear_problem(build_setup(load_study(path)), "a reduced basis")
    assert not isinstance(shapes, list)
    assert float(shapes.robin.max()) > 0


@pytest.mark.parametrize("kind", ["torsion", "plane_strain"])
def test_the_reduced_basis_needs_fewer_solves_than_the_interpolation(kind: str, tmp_path: Path) -> None:
    setup = setup_of(tmp_path, kind)
    solves = {}
    for name in ("basis", "interpolation"):
        store = SolutionStore(setup, tmp_path / name)
        store.keep_spans()
        scaling = scaling_at(setup, store(setup.initial.numpy()))
        model = reduced_basis(setup, store.spans) if name == "basis" else None
        problem = trust_region_problem(setup, model, store, scaling)
        region = Region(tolerance=1e-3, budget=40)
        found = minimize_by_trust_region(problem, scaling.z(setup.initial.numpy()), region)
        assert found.reason is ExitReason.STATIONARY
        solves[name] = len(store.solved)
    assert solves["basis"] < solves["interpolation"]
