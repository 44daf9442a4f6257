"""The studies that need no training of their own: optima and solves."""

from pathlib import Path

import numpy as np
import pytest

from shapewright.studies.optimize.optimizer import ExitReason, optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import open_operator
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.shape_operator import ShapeOperator

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def bar():
    """A bar of nine control points on the shipped operator, which was trained on other families."""
    setup = build_setup(load_study(STUDIES / "bar_operator.yaml", ("geometry.mesh_size=0.25",)))
    choice = setup.study.model.operator
    assert choice is not None
    return setup, open_operator(setup, choice)


def test_the_shipped_operator_knows_value_and_gradient_of_a_family_it_never_saw(bar):
    setup, operator = bar
    designs = draw_designs(setup, 4, 5).numpy()
    span = np.ptp(setup.family.bounds.numpy(), axis=1)
    values, gradients = operator.evaluate(designs)
    exact, slopes = FemModel(setup).evaluate(designs)
    assert np.abs(values / exact - 1).max() < 3e-3
    missed = np.linalg.norm((gradients - slopes)[:, 0] * span, axis=1) / np.linalg.norm(slopes[:, 0] * span, axis=1)
    assert missed.max() < 1e-2


def test_the_stiffest_bar_is_a_disc_found_with_at_most_two_solves_and_few_calls_of_the_network(
    bar, tmp_path, monkeypatch
):
    setup, operator = bar
    calls, original = [], ShapeOperator.basis
    monkeypatch.setattr(ShapeOperator, "basis", lambda *given: (calls.append(1), original(*given))[1])
    store = SolutionStore(setup, tmp_path)
    found = search_by_trust_region(
        setup, operator.knowing(store), setup.study.model.optimizer, store, tmp_path / "proposals.json"
    )
    assert found.best.reason is ExitReason.STATIONARY
    assert len(store.solved) <= 2
    assert len(calls) <= 12
    assert found.best.objective == pytest.approx(np.pi / 2, rel=1e-3)  # of a disc of area pi


def test_the_cantilever_of_finite_elements_alone_is_found_on_its_own_solutions(tmp_path):
    setup = build_setup(load_study(STUDIES / "cantilever.yaml"))
    store = SolutionStore(setup, tmp_path)
    found = search_by_trust_region(setup, None, setup.study.model.optimizer, store, tmp_path / "proposals.json")
    assert found.best.reason is ExitReason.STATIONARY
    assert found.best.objective == pytest.approx(0.173261, rel=2e-3)  # by SLSQP from eight starts


STRESSED = """\
name: stressed
geometry:
  family: examples/bracket.py:Bracket
  options: {length: 2.0, height: 1.0, control_points: 6}
  fixed: {lower5: 0.3, upper5: 0.3}
  mesh_size: 0.2
physics:
  name: plane_stress
  coefficients: {youngs_modulus: 100.0, poisson_ratio: 0.3}
  dirichlet:
    - {on: root, u: 0.0, v: 0.0}
  natural:
    - {on: tip, v: -1.0}
objective: {minimize: compliance}
constraints:
  - {quantity: peak_von_mises, at_most: 5.05}
  - {quantity: area, at_most: 1.6}
  - {quantity: jacobian, at_least: 0.1}
optimizer: {method: trust_region, starts: 1, on: fem}
"""


def test_a_limit_on_the_peak_stress_is_met_in_a_third_of_the_solves_of_finite_elements_alone(tmp_path):
    """Not self-adjoint: its adjoint joins the span, and the penalty is steered by the model."""
    (tmp_path / "study.yaml").write_text(STRESSED.replace("examples/", f"{STUDIES}/examples/"))
    setup = build_setup(load_study(tmp_path / "study.yaml"))
    config, fem = setup.study.model.optimizer, FemModel(setup)
    alone = optimize(setup, fem, config.model_copy(update={"method": "slsqp"})).best
    store = SolutionStore(setup, tmp_path / "store")
    found = search_by_trust_region(setup, None, config, store, tmp_path / "proposals.json").best
    assert found.reason is ExitReason.STATIONARY
    assert found.violation <= 1.0
    assert found.objective == pytest.approx(alone.objective, rel=1e-4)
    assert store.solves["forward"] <= fem.counts["forward"] / 3


def test_the_hole_of_least_peak_stress_is_an_ellipse_found_with_a_third_of_the_solves(tmp_path):
    """Pulled twice as hard along one axis: axes as 2 to 1, and the same hoop stress all along, the sum of both."""
    setup = build_setup(load_study(STUDIES / "plate_hole.yaml"))
    store = SolutionStore(setup, tmp_path)
    config = setup.study.model.optimizer
    best = search_by_trust_region(setup, None, config, store, tmp_path / "proposals.json").best
    assert best.reason is ExitReason.STATIONARY
    assert store.solves["forward"] <= 5  # finite elements alone take 16
    names = [parameter.name for parameter in setup.family.parameters]
    assert best.theta[names.index("aspect")] == pytest.approx(2.0, rel=0.05)
    perimeter = 9.69  # of the ellipse 2:1 of area pi
    assert best.objective == pytest.approx(3.0 + np.log(perimeter) / 30, rel=0.05)
