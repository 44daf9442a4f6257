"""The studies that need no training of their own: optima and solves."""

from pathlib import Path

import numpy as np
import pytest

from shapewright.studies.optimize.optimizer import ExitReason
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import open_operator
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import load_study

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


def test_the_stiffest_bar_is_a_disc_found_with_at_most_three_solves(bar, tmp_path):
    setup, operator = bar
    store = SolutionStore(setup, tmp_path)
    found = search_by_trust_region(
        setup, operator.knowing(store), setup.study.model.optimizer, store, tmp_path / "proposals.json"
    )
    assert found.best.reason is ExitReason.STATIONARY
    assert len(store.solved) <= 3
    assert found.best.objective == pytest.approx(np.pi / 2, rel=1e-3)  # of a disc of area pi


def test_the_cantilever_of_finite_elements_alone_is_found_on_its_own_solutions(tmp_path):
    setup = build_setup(load_study(STUDIES / "cantilever.yaml"))
    store = SolutionStore(setup, tmp_path)
    found = search_by_trust_region(setup, None, setup.study.model.optimizer, store, tmp_path / "proposals.json")
    assert found.best.reason is ExitReason.STATIONARY
    assert found.best.objective == pytest.approx(0.173261, rel=2e-3)  # by SLSQP from eight starts
