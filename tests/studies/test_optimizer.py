"""Promise: both methods find known optima, every way to end has its own reason, and the best of all starts is kept.

Geometric optima come from the isoperimetric inequality: of all curves of one length the circle holds most area.
"""

import math
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapewright.studies.optimize.optimizer import ExitReason, Scaling, Search, _rank, optimize, start_designs
from shapewright.studies.problem.constraints import constraint_values, worst_violation
from shapewright.studies.problem.models import FemModel
from shapewright.studies.schema.study import Optimizer
from tests.studies.study_cases import Analytic, geometric, quadratic, setup_of

MINIMIZE = "objective={minimize: torsional_constant}"
METHODS = ("slsqp", "trust_constr")
CONFIG = Optimizer(starts=1, max_iterations=150, tolerance=1e-10)


def constraints(*entries):
    return f"constraints=[{', '.join(entries)}]"


def configured(method="slsqp", **changes):
    return CONFIG.model_copy(update={"method": method, **changes})


def shortest_at_equal_area():
    setup = setup_of(MINIMIZE, constraints("{quantity: area, equals: 3.0}"))
    return setup, geometric(setup, "perimeter"), 2 * math.sqrt(math.pi * 3.0)


def shortest_at_least_area():
    setup = setup_of(MINIMIZE, constraints("{quantity: area, at_least: 3.0}", "{quantity: thickness, at_least: 0.2}"))
    return setup, geometric(setup, "perimeter"), 2 * math.sqrt(math.pi * 3.0)


def largest_at_perimeter_four():
    setup = setup_of("geometry.options.radius=0.7", constraints("{quantity: perimeter, equals: 4.0}"))
    return setup, geometric(setup, "area"), 1.2732395


def largest_at_most_perimeter_four():
    setup = setup_of("geometry.options.radius=0.7", constraints("{quantity: perimeter, at_most: 4.0}"))
    return setup, geometric(setup, "area"), 1.2732395


ISOPERIMETRIC = (
    shortest_at_equal_area,
    shortest_at_least_area,
    largest_at_perimeter_four,
    largest_at_most_perimeter_four,
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("problem", ISOPERIMETRIC, ids=lambda problem: problem.__name__)
def test_the_circle_is_found(problem, method):
    setup, model, exact = problem()
    best = optimize(setup, model, configured(method)).best
    assert best.reason.ok
    assert best.violation <= 1.0
    # six control points make no exact circle: its best is 3e-4 off, and never on the better side
    assert 0 <= setup.sign * (best.objective - exact) / exact < 1e-3
    np.testing.assert_allclose(best.theta, best.theta.mean(), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_active_bounds_and_interior_parameters_together(method, sign):
    """The projection on a box is known: each parameter is clipped on its own."""
    setup = setup_of("constraints=[]", *([MINIMIZE] if sign > 0 else []))
    centre = [0.2, 0.9, 2.0, 1.1, 0.5, 1.4]
    model = quadratic(centre)
    if sign < 0:
        model.function = lambda design, f=model.function: -f(design)
    best = optimize(setup, model, configured(method)).best
    assert best.reason is ExitReason.CONVERGED
    np.testing.assert_allclose(best.theta, np.clip(centre, 0.6, 1.5), atol=2e-5)
    assert ((best.theta >= 0.6) & (best.theta <= 1.5)).all()


@pytest.mark.parametrize("method", METHODS)
def test_an_equality_that_is_linear_along_the_way(method):
    """min |theta - c|^2 at a given centroid_x and without it differ; Lagrange's condition holds at the answer."""
    setup = setup_of(MINIMIZE, constraints("{quantity: centroid_x, equals: 0.1}"))
    best = optimize(setup, quadratic([1.0] * 6), configured(method)).best
    values, rows = constraint_values(setup, best.theta)
    gradient = 2 * (best.theta - 1.0)
    multiplier = gradient @ rows[0] / (rows[0] @ rows[0])
    assert values[0] == pytest.approx(0.1, abs=1e-7)
    assert np.linalg.norm(gradient - multiplier * rows[0]) < 1e-4 * np.linalg.norm(gradient)


def ends(model, *overrides, **changes):
    setup = setup_of(*overrides)
    return optimize(setup, model, configured(**changes)).best


def with_values(function):
    """A model whose value and gradient are given design by design; consistent or not."""

    class Given:
        def evaluate(self, theta):
            pairs = [function(design) for design in theta]
            values, gradients = zip(*pairs, strict=True)
            return np.array(values)[:, None], np.stack(gradients)[:, None]

    return Given()


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_gradient_is_noticed(method):
    model = with_values(lambda design: (3.0, np.zeros(6)))
    best = ends(model, MINIMIZE, "constraints=[]", method=method)
    assert best.reason is ExitReason.ZERO_GRADIENT
    assert not best.reason.ok


def test_a_zero_gradient_does_not_make_the_start_feasible():
    best = ends(with_values(lambda design: (3.0, np.zeros(6))), MINIMIZE)
    assert best.violation > 1.0


def test_a_design_that_does_not_move_is_noticed():
    """The start lies in the corner that the objective pulls to."""
    model = quadratic([3.0] * 6)
    corner = "geometry.initial={r0: 1.5, r1: 1.5, r2: 1.5, r3: 1.5, r4: 1.5, r5: 1.5}"
    best = ends(model, MINIMIZE, "constraints=[]", corner)
    assert best.reason is ExitReason.DID_NOT_MOVE


def test_a_start_that_is_the_optimum_already_is_kept():
    """Other starts move, and end at it within their tolerance, or elsewhere: none is better."""
    optimum = ends(quadratic([1.0] * 6), MINIMIZE, "constraints=[]", starts=1)
    radii = ", ".join(f"r{k}: {value!r}" for k, value in enumerate(optimum.theta.tolist()))
    setup = setup_of(MINIMIZE, "constraints=[]", f"geometry.initial={{{radii}}}")
    config = setup.study.model.optimizer.model_copy(update={"starts": 4, "max_iterations": 1})
    found = optimize(setup, quadratic([1.0] * 6), config)
    assert found.best.start == 0
    assert found.best.reason in (ExitReason.DID_NOT_MOVE, ExitReason.ZERO_GRADIENT)
    assert found.ok
    assert not replace(found, searches=(found.best,)).ok


def test_an_objective_that_does_not_change_is_noticed():
    """A gradient that promises what the value does not keep, while the constraint moves the design."""
    broken = with_values(lambda design: (3.0, np.full(6, 1e-3)))
    area = constraints("{quantity: area, equals: 3.0}")
    best = ends(broken, MINIMIZE, area, max_iterations=10)
    assert best.reason is ExitReason.OBJECTIVE_UNCHANGED


@pytest.mark.parametrize("method", METHODS)
def test_targets_out_of_reach_are_noticed(method):
    area = constraints("{quantity: area, equals: 100}")
    best = ends(quadratic([1.0] * 6), MINIMIZE, area, method=method, max_iterations=20)
    assert best.reason is ExitReason.INFEASIBLE
    assert best.violation > 1.0


@pytest.mark.parametrize("method", METHODS)
def test_the_iteration_limit_is_noticed(method):
    best = ends(Analytic(two_wells), MINIMIZE, "constraints=[]", method=method, max_iterations=2)
    assert best.reason is ExitReason.ITERATION_LIMIT
    assert "max_iterations" in best.reason.value


def test_a_start_without_an_answer_is_noticed():
    best = ends(with_values(lambda design: (math.nan, np.full(6, math.nan))), MINIMIZE)
    assert best.reason is ExitReason.NO_ANSWER
    assert best.history == ()


@pytest.mark.parametrize("method", METHODS)
def test_a_wall_without_answers_is_not_crossed(method):
    """The objective falls towards designs that the model cannot answer: the result is one that it can."""

    def pulled(design):
        if design[0] > 1.3:
            return math.nan, np.full(6, math.nan)
        return float(2 - design[0]), np.array([-1.0, 0, 0, 0, 0, 0])

    start = "geometry.initial={r0: 0.9}"
    best = ends(with_values(pulled), MINIMIZE, "constraints=[]", start, method=method, max_iterations=100)
    if best.reason.ok:
        assert best.theta[0] <= 1.3
        assert math.isfinite(best.objective)
        assert best.objective < 2 - 0.9
    else:
        assert best.reason is ExitReason.NO_ANSWER


def test_a_folded_design_is_a_wall_to_the_solver():
    """The map of an inverted bar folds: finite elements have no answer, and say so by a value that is none."""
    setup = setup_of()
    folded = setup.initial.numpy() * np.array([-2.0, 1, 1, 1, 1, 1])
    values, gradients = FemModel(setup).evaluate(np.stack([folded, setup.initial.numpy()]))
    assert np.isnan(values[0])
    assert np.isnan(gradients[0]).all()
    assert np.isfinite(values[1])
    assert np.isfinite(gradients[1]).all()


def two_wells(design):
    """A shallow well at r0 = 0.8 and a deeper one at 1.35."""
    x = design[0]
    return 20 * ((x - 0.8) * (x - 1.35)) ** 2 - 0.05 * (x - 0.8) + ((design[1:] - 1) ** 2).sum() + 1


def test_the_best_of_many_starts_is_kept():
    setup = setup_of(MINIMIZE, "constraints=[]", "geometry.initial={r0: 0.81}")
    alone = optimize(setup, Analytic(two_wells), CONFIG)
    assert alone.best.theta[0] == pytest.approx(0.8, abs=0.05)
    many = optimize(setup, Analytic(two_wells), configured(starts=8))
    assert many.best.theta[0] == pytest.approx(1.35, abs=0.05)
    assert len(many.searches) == 8
    assert many.best.objective == min(search.objective for search in many.searches)


def test_a_feasible_result_beats_a_better_one_that_is_not():
    """However it ended: at the iteration limit, or with no answer at all."""
    better = Search(0, np.ones(6), 1.0, 1.1, ExitReason.INFEASIBLE, ())
    none = Search(1, np.ones(6), math.nan, 0.0, ExitReason.NO_ANSWER, ())
    for reason in (ExitReason.CONVERGED, ExitReason.ITERATION_LIMIT):
        worse = Search(2, np.ones(6), 9.0, 1.0, reason, ())
        for sign in ([], [MINIMIZE]):
            assert min((better, none, worse), key=partial(_rank, setup_of(*sign))) is worse


def test_starts_are_evaluated_together_and_each_search_is_as_if_alone():
    setup, model, _ = shortest_at_equal_area()
    together = optimize(setup, model, configured(starts=4))
    assert [len(batch) for batch in model.batches[:3]] == [4, 4, 4]
    evaluations = [search.history[-1].evaluations for search in together.searches]
    assert len(model.batches) == max(evaluations)
    assert sum(map(len, model.batches)) == sum(evaluations)
    alone = optimize(setup, geometric(setup, "perimeter"), CONFIG)
    assert together.searches[0] == replace(alone.best, theta=together.searches[0].theta)
    assert np.array_equal(together.searches[0].theta, alone.best.theta)


def test_an_error_of_the_model_reaches_the_caller():
    setup, model, _ = shortest_at_equal_area()
    answered = iter(range(3))

    def breaks(theta, evaluate=model.evaluate):
        if next(answered, None) is None:
            raise MemoryError("fourth batch")
        return evaluate(theta)

    model.evaluate = breaks
    before = threading.active_count()
    with pytest.raises(MemoryError, match="fourth batch"):
        optimize(setup, model, configured(starts=3))
    assert threading.active_count() == before


@pytest.mark.parametrize("method", METHODS)
def test_the_history_is_what_happened(method):
    setup, model, _ = shortest_at_equal_area()
    reported = []
    found = optimize(setup, model, configured(method, starts=2, max_iterations=10), reported.append)
    assert sorted(reported, key=lambda i: (i.start, i.iteration)) == [
        iterate for search in found.searches for iterate in search.history
    ]
    for search in found.searches:
        assert [iterate.iteration for iterate in search.history] == list(range(len(search.history)))
        evaluations = [iterate.evaluations for iterate in search.history]
        assert evaluations == sorted(evaluations)
        assert evaluations[0] == 1
        np.testing.assert_array_equal(search.history[-1].theta, search.theta)
        for iterate in search.history:
            values, gradients = model.evaluate(np.array([iterate.theta]))
            assert iterate.objective == pytest.approx(values[0, 0], rel=1e-12)
            span = 0.9  # bounds 0.6 to 1.5
            assert iterate.gradient_norm == pytest.approx(np.linalg.norm(gradients[0, 0] * span), rel=1e-9)
            quantities, _ = constraint_values(setup, np.array(iterate.theta))
            np.testing.assert_allclose(iterate.quantities, quantities, rtol=1e-12)
        assert search.violation == worst_violation(setup, np.array(search.history[-1].quantities))


def test_the_same_seed_gives_the_same_starts_and_another_others():
    setup = setup_of()
    first, again, other = (start_designs(setup, 5, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.array_equal(first[0], setup.initial.numpy())
    assert not np.array_equal(first[1:], other[1:])
    bounds = setup.family.bounds.numpy()
    assert ((first >= bounds[:, 0]) & (first <= bounds[:, 1])).all()
    run = partial(optimize, setup, config=configured(starts=3, seed=3, max_iterations=5))
    one, two = (run(model=geometric(setup, "area")) for _ in range(2))
    assert [search.history for search in one.searches] == [search.history for search in two.searches]


@given(
    lower=st.floats(-1e3, 1e3),
    span=st.floats(1e-3, 1e3),
    z=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_scaling_goes_there_and_back(lower, span, z):
    z = np.array(z)
    scaling = Scaling(np.full(len(z), lower), np.full(len(z), span), 1.0)
    rounding = 4e-16 * (abs(lower) + span) / span
    np.testing.assert_allclose(scaling.z(scaling.theta(z)), z, atol=rounding, rtol=1e-15)


def test_every_reason_tells_what_to_do():
    for reason in ExitReason:
        assert len(reason.value) > 40
        assert reason.value.endswith(".")
