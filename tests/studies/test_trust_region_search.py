"""Promise: a managed search ends at finite elements' own optimum with any surrogate, and a break loses no solve."""

import math

import numpy as np
import pytest
import torch

from shapewright.studies.optimize import trust_region_search
from shapewright.studies.optimize.optimizer import ExitReason, optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel, SurrogateModel
from shapewright.studies.problem.surrogates import build_surrogate
from shapewright.studies.schema.study import Optimizer
from tests.studies.study_cases import Analytic, setup_of

CONFIG = Optimizer(method="trust_region", starts=2, max_iterations=15, kkt_tolerance=1e-3)


@pytest.fixture(scope="module")
def by_fem_alone():
    setup = setup_of()
    return optimize(setup, FemModel(setup), CONFIG.model_copy(update={"method": "slsqp", "starts": 1})).best


class Turned(Analytic):
    """Values of a function with the gradient of another: deliberately wrong."""

    def evaluate(self, theta):
        values, gradients = super().evaluate(theta)
        return values, -gradients


def near(design):
    """A stand-in for a trained surrogate: that of the disc of the same area, less what uneven radii cost."""
    area = setup_of().quantity("area", design)
    return 1.02 * area**2 / (2 * math.pi) - 0.5 * (design - design.mean()).square().sum()


SURROGATES = {
    "near": Analytic(near),
    "untrained": Analytic(lambda design: (design * torch.tensor([3.0, -2.0, 1.0, 4.0, -1.0, 2.0])).sin().sum()),
    "wrong gradient": Turned(near),
    "no answer": Analytic(lambda design: design.sum() * math.nan),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_any_surrogate_leads_to_the_optimum_of_finite_elements_alone(name, tmp_path, by_fem_alone):
    setup = setup_of()
    store = SolutionStore(setup, tmp_path)
    best = search_by_trust_region(setup, SURROGATES[name], CONFIG, store, tmp_path / "starts.json").best
    assert best.reason is ExitReason.STATIONARY
    assert best.violation <= 1
    assert best.objective == pytest.approx(by_fem_alone.objective, rel=1e-4)
    value = FemModel(setup).evaluate(best.theta[None])[0]
    assert value[0, 0] == pytest.approx(best.objective, rel=1e-9)  # what it claims is what an independent solve gives
    assert best.history[-1].fem.kkt_residual <= 1e-3
    if name == "near":
        assert store.solves["forward"] <= 6
    assert best.history[-1].fem.forward == store.solves["forward"] == store.solves["adjoint"]


def test_a_network_that_was_never_trained_costs_solves_and_nothing_else(tmp_path, by_fem_alone):
    setup = setup_of()
    fresh = SurrogateModel(setup, build_surrogate(setup).double().eval().requires_grad_(False))
    solves = {}
    for name, surrogate in {"fresh": fresh, "truth": FemModel(setup), "near": SURROGATES["near"]}.items():
        store = SolutionStore(setup, tmp_path / name)
        best = search_by_trust_region(setup, surrogate, CONFIG, store, tmp_path / f"{name}.json").best
        assert best.reason is ExitReason.STATIONARY
        assert best.history[-1].fem.kkt_residual <= CONFIG.kkt_tolerance
        assert best.objective == pytest.approx(by_fem_alone.objective, rel=1e-4)
        solves[name] = store.solves["forward"]
    assert solves["truth"] <= solves["near"] < solves["fresh"]


def test_the_surrogates_design_is_left_where_finite_elements_prefer_the_start(tmp_path):
    """A surrogate that promises much at a poor design: the start is asked too, and is the better one."""
    disc = "geometry.initial={r0: 1.0, r1: 1.0, r2: 1.0, r3: 1.0, r4: 1.0, r5: 1.0}"
    setup = setup_of(disc, "constraints=[{quantity: area, equals: initial}]")
    liar = Analytic(lambda design: 100 * (design[0] - design[3]))
    store = SolutionStore(setup, tmp_path)
    found = search_by_trust_region(setup, liar, CONFIG, store, tmp_path / "starts.json")
    np.testing.assert_array_equal(found.best.history[0].theta, setup.initial.numpy())
    assert found.best.objective >= found.best.history[0].objective * (1 - 1e-12)


def test_a_break_loses_no_solve(tmp_path, monkeypatch):
    setup, solved = setup_of(), []
    original = trust_region_search.sample_of

    def counting(*arguments):
        solved.append(1)
        return original(*arguments)

    monkeypatch.setattr(trust_region_search, "sample_of", counting)
    store = SolutionStore(setup, tmp_path / "a")
    whole = search_by_trust_region(setup, SURROGATES["untrained"], CONFIG, store, tmp_path / "a.json")
    in_all, solved[:] = len(solved), []

    def report(iterate):
        if iterate.fem is not None and iterate.iteration == 2:
            raise KeyboardInterrupt

    parts = setup, SURROGATES["untrained"], CONFIG
    with pytest.raises(KeyboardInterrupt):
        search_by_trust_region(*parts, SolutionStore(setup, tmp_path / "b"), tmp_path / "b.json", report)
    asked = len(SURROGATES["untrained"].batches)
    store = SolutionStore(setup, tmp_path / "b")
    resumed = search_by_trust_region(*parts, store, tmp_path / "b.json")
    assert len(solved) == in_all
    assert store.solves["forward"] == in_all
    np.testing.assert_array_equal(resumed.best.theta, whole.best.theta)
    assert resumed.searches[0].history == whole.searches[0].history
    assert all(len(batch) == 1 for batch in SURROGATES["untrained"].batches[asked + 1 :])  # no search was begun again


def test_the_budget_can_be_raised_and_nothing_is_solved_twice(tmp_path, monkeypatch):
    setup = setup_of()
    small = CONFIG.model_copy(update={"max_solves": 3})
    parts = setup, SURROGATES["untrained"]
    short = search_by_trust_region(*parts, small, SolutionStore(setup, tmp_path), tmp_path / "starts.json")
    assert short.best.reason is ExitReason.SOLVE_BUDGET
    assert short.best.history[-1].fem.forward <= 3
    solved = []
    original = trust_region_search.sample_of
    monkeypatch.setattr(trust_region_search, "sample_of", lambda *a: (solved.append(1), original(*a))[1])
    store = SolutionStore(setup, tmp_path)
    assert search_by_trust_region(*parts, CONFIG, store, tmp_path / "starts.json").best.reason is ExitReason.STATIONARY
    assert len(solved) == store.solves["forward"] - 3


def test_a_folded_design_has_no_answer_and_no_file(tmp_path):
    setup = setup_of()
    store = SolutionStore(setup, tmp_path)
    assert store(setup.initial.numpy() * np.array([-2.0, 1, 1, 1, 1, 1])) is None
    assert store.solves["forward"] == 0
    assert store.files == []
