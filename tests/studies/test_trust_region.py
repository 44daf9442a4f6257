"""Promise: the trust region ends at the expensive problem's optimum with any cheap model, and says why it ended."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from shapewright.studies.optimize.optimizer import ExitReason
from shapewright.studies.optimize.trust_region import (
    Region,
    TrustRegionProblem,
    kkt,
    minimize_by_trust_region,
    restore,
    violation,
)

CONVERGE = Region(tolerance=1e-6, least_radius=1e-12, budget=400)
SHIFT = np.array([0.15, -0.2, 0.1])


def valley(z):
    """A curved valley in [0, 1]^3, its minimum 0 at (0.6, 0.36, 0.36) if nothing else holds."""
    a, b, c = z[0] - 0.6, z[1] - z[0] ** 2, z[2] - z[1]
    return a**2 + 10 * b**2 + 5 * c**2, np.array([2 * a - 40 * b * z[0], 20 * b - 10 * c, 10 * c])


def bulge(z):
    """A constraint that needs the expensive model: 0.5 - |z - centre|^2 + a wave."""
    return 0.45 - (z**2).sum() + 0.05 * np.sin(6 * z[0]), -2 * z + 0.3 * np.cos(6 * z[0]) * np.eye(3)[0]


def plane(z):
    """An exact equality and an exact inequality."""
    return np.array([z.sum() - 1.0, 0.55 - z[0]]), np.array([np.ones(3), [-1.0, 0, 0]])


def free(z):
    return np.zeros(0), np.zeros((0, 3))


def wrong(change):
    """A cheap model from the expensive one, functional by functional."""
    return lambda functional: lambda z: change(functional, z)


def single(functional, z):
    """A functional and its gradient with the rounding of a network in single precision."""
    value, gradient = functional(z.astype(np.float32).astype(float))
    return float(np.float32(value)), gradient.astype(np.float32).astype(float)


CHEAP = {
    "exact": wrong(lambda f, z: f(z)),
    "shifted": wrong(lambda f, z: f(z + SHIFT)),
    "scaled": wrong(lambda f, z: tuple(1.3 * part for part in f(z))),
    "untrained": wrong(lambda f, z: (float(np.sin(5 * z).sum()), 5 * np.cos(5 * z))),
    "nothing": wrong(lambda f, z: (0.0, np.zeros(3))),
    "gradient of the wrong sign": wrong(lambda f, z: (f(z)[0], -f(z)[1])),
    "gradient turned": wrong(lambda f, z: (f(z)[0], np.roll(f(z)[1], 1))),
    "single precision": wrong(lambda f, z: single(f, z + SHIFT)),
    "no answer": wrong(lambda f, z: (np.nan, np.full(3, np.nan))),
}


def stacked(functionals):
    def evaluate(z):
        pairs = [functional(z) for functional in functionals]
        return np.array([value for value, _ in pairs]), np.stack([gradient for _, gradient in pairs])

    return evaluate


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, z):
        self.calls += 1
        return self.function(z)


def problem(cheap="shifted", exact=free, expensive=(valley,), equal=()):
    gaps = len(exact(np.zeros(3))[0])
    return TrustRegionProblem(
        Counted(stacked(expensive)),
        lambda centre: stacked([CHEAP[cheap](functional) for functional in expensive]),
        exact,
        np.array([True, False][:gaps], dtype=bool),
        np.array(equal, dtype=bool),
        lambda: 1.0,
    )


@cache
def by_scipy(exact=free, expensive=(valley,), equal=()):
    """The same problem by SLSQP on the expensive functionals, from several starts."""
    conditions = []
    if len(exact(np.zeros(3))[0]):
        conditions.append({"type": "eq", "fun": lambda z: exact(z)[0][0]})
        conditions.append({"type": "ineq", "fun": lambda z: exact(z)[0][1]})
    for functional, equals in zip(expensive[1:], equal, strict=True):
        conditions.append({"type": "eq" if equals else "ineq", "fun": lambda z, f=functional: f(z)[0]})
    found = [
        minimize(valley, start, jac=True, method="SLSQP", bounds=[(0, 1)] * 3, constraints=conditions,
                 options={"ftol": 1e-15, "maxiter": 500})
        for start in np.random.default_rng(0).random((5, 3))
    ]  # fmt: skip
    return min((f for f in found if f.success), key=lambda f: f.fun)


PROBLEMS = {
    "free": {},
    "exact constraints": {"exact": plane},
    "expensive inequality": {"expensive": (valley, bulge), "equal": (False,)},
    "expensive equality": {"expensive": (valley, bulge), "equal": (True,)},
    "both": {"exact": plane, "expensive": (valley, bulge), "equal": (False,)},
}


@pytest.mark.parametrize("cheap", CHEAP)
@pytest.mark.parametrize("name", PROBLEMS)
def test_it_ends_at_the_expensive_optimum_with_any_cheap_model(name, cheap):
    parts = PROBLEMS[name]
    found = minimize_by_trust_region(problem(cheap, **parts), np.array([0.9, 0.1, 0.3]), CONVERGE)
    exact = by_scipy(**parts)
    assert found.reason is ExitReason.STATIONARY
    assert found.centre.values[0] == pytest.approx(exact.fun, abs=2e-6)
    np.testing.assert_allclose(found.centre.z, exact.x, atol=2e-3)
    gaps, _ = parts.get("exact", free)(found.centre.z)
    assert violation(gaps, np.array([True, False][: len(gaps)], dtype=bool)).max(initial=0) <= 1e-7
    assert violation(found.centre.values[1:], np.array(parts.get("equal", ()), dtype=bool)).max(initial=0) <= 1e-6


class Perturbed:
    """Values and gradients with random relative errors, the same whenever a design is asked for again."""

    def __init__(self, function, level, seed):
        self.function, self.level, self.random = function, level, np.random.default_rng(seed)
        self.known = {}

    def __call__(self, z):
        if z.tobytes() not in self.known:
            self.known[z.tobytes()] = tuple(self._perturbed(part) for part in self.function(z))
        return self.known[z.tobytes()]

    def _perturbed(self, part):
        return part * (1 + self.level * self.random.uniform(-1, 1, part.shape))


@pytest.mark.parametrize("cheap", ["shifted", "nothing"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("level", [1e-15, 1e-13, 1e-12])
def test_rounding_of_the_expensive_model_does_not_keep_it_from_being_stationary(level, name, cheap):
    """Reductions near the end are some 1e-16, less than the noise; gradients still tell them."""
    parts = PROBLEMS[name]
    task = problem(cheap, **parts)
    noisy = replace(task, expensive=Perturbed(task.expensive, level, seed=0))
    found = minimize_by_trust_region(noisy, np.array([0.9, 0.1, 0.3]), CONVERGE)
    assert found.reason is ExitReason.STATIONARY
    np.testing.assert_allclose(found.centre.z, by_scipy(**parts).x, atol=2e-3)
    values, jacobian = stacked(parts.get("expensive", (valley,)))(found.centre.z)
    assert kkt(task, found.centre.z, values, jacobian).residual <= 2 * CONVERGE.tolerance


def test_values_are_believed_where_they_rise_by_more_than_their_noise():
    """Gradients lead into the middle of a small plateau, which is worse than all around it."""

    def stepped(z):
        value, gradient = valley(z)
        return value + 1e-6 * (np.abs(z - [0.6, 0.36, 0.36]).max() < 1e-5), gradient

    region = replace(CONVERGE, least_radius=1e-6, budget=40)
    found = minimize_by_trust_region(problem("exact", expensive=(stepped,)), np.array([0.9, 0.1, 0.3]), region)
    assert found.reason is not ExitReason.STATIONARY
    assert found.centre.values[0] < 1e-7
    assert any(step.values[0] >= 1e-6 and step.kkt < found.centre.kkt for step in found.steps)


def test_a_better_model_takes_fewer_expensive_solves():
    def solves(cheap):
        return len(minimize_by_trust_region(problem(cheap, exact=plane), np.array([0.9, 0.1, 0.3]), CONVERGE).steps)

    assert solves("exact") <= solves("shifted") <= solves("nothing")
    assert solves("exact") <= 8


@pytest.mark.parametrize("cheap", ["shifted", "nothing"])
def test_what_was_solved_before_saves_solves(cheap):
    """The interpolated correction against the linear one, from the same start."""

    def solves(learn):
        region = Region(tolerance=1e-5, least_radius=1e-12, budget=400, learn=learn)
        return len(minimize_by_trust_region(problem(cheap), np.array([0.9, 0.1, 0.3]), region).steps)

    assert solves(True) < 0.7 * solves(False)


PLANES = np.random.default_rng(1).standard_normal((12, 3))


def stiff(z):
    """A smooth maximum of twelve planes, which turns within a hundredth, and a bowl."""
    heights = 300 * PLANES @ (z - np.array([0.4, 0.5, 0.6]))
    return logsumexp(heights) / 300 + 0.1 * (z**2).sum(), softmax(heights) @ PLANES + 0.2 * z


@pytest.mark.parametrize("cheap", CHEAP)
def test_a_stiff_objective_costs_solves_and_nothing_else(cheap):
    """A kernel far longer than the objective's turns has weights that cancel, and their rounding stalls the search."""
    region = Region(tolerance=1e-3, least_radius=1e-12, budget=400)
    found = minimize_by_trust_region(problem(cheap, expensive=(stiff,)), np.array([0.9, 0.1, 0.3]), region)
    assert found.reason is ExitReason.STATIONARY
    assert found.centre.values[0] == pytest.approx(0.0842109, abs=1e-6)


def test_every_solve_is_recorded_and_accepted_ones_never_get_worse():
    task, reported = problem("untrained", exact=plane), []
    found = minimize_by_trust_region(task, np.array([0.9, 0.1, 0.3]), CONVERGE, reported.append)
    assert reported == list(found.steps)
    assert len(found.steps) == task.expensive.calls
    accepted = [step.values[0] for step in found.steps if step.accepted]
    assert accepted == sorted(accepted, reverse=True)
    assert found.centre is [step for step in found.steps if step.accepted][-1]
    for before, step in zip([found.steps[0]] * 2 + list(found.steps[1:-1]), found.steps, strict=True):
        assert step.radius <= 2 * before.radius
    for step in found.steps:
        assert violation(task.exact(step.z)[0], task.equal).max() <= task.feasible


def test_a_rejected_step_shrinks_the_region():
    found = minimize_by_trust_region(problem("gradient of the wrong sign"), np.array([0.9, 0.1, 0.3]), CONVERGE)
    after = [(a, b) for a, b in zip(found.steps, found.steps[1:], strict=False) if not a.accepted]
    assert after
    assert all(b.radius < a.radius for a, b in after)


def test_an_infeasible_start_is_restored_to_the_nearest_feasible_design():
    restored = restore(problem(exact=plane), np.array([0.5, 0.5, 0.5]))
    np.testing.assert_allclose(restored, [1 / 3] * 3, atol=1e-9)
    inside = np.array([0.2, 0.3, 0.5])
    assert restore(problem(exact=plane), inside) is inside


def test_the_budget_ends_it():
    found = minimize_by_trust_region(problem("nothing"), np.array([0.9, 0.1, 0.3]), Region(tolerance=1e-12, budget=3))
    assert found.reason is ExitReason.SOLVE_BUDGET
    assert len(found.steps) == 3


def test_the_least_radius_ends_it():
    """A residual that rounding does not let a gradient reach."""
    task = problem("nothing", exact=plane)
    found = minimize_by_trust_region(task, np.array([0.9, 0.1, 0.3]), Region(tolerance=1e-300, least_radius=1e-3))
    assert found.reason is ExitReason.LEAST_RADIUS
    assert found.centre.kkt < 1e-8


def test_constraints_that_contradict_each_other_end_it_before_a_solve():
    def contradiction(z):
        return np.array([z.sum() - 4.0, 1.0]), np.array([np.ones(3), np.zeros(3)])

    task = problem(exact=contradiction)
    assert minimize_by_trust_region(task, np.full(3, 0.5), CONVERGE).reason is ExitReason.INFEASIBLE
    assert task.expensive.calls == 0


def test_no_answer_at_the_start_and_a_wall_on_the_way():
    def walled(z):
        return (np.nan, np.full(3, np.nan)) if z[0] > 0.5 else valley(z)

    task = problem("shifted", expensive=(walled,))
    assert minimize_by_trust_region(task, np.array([0.9, 0.1, 0.3]), CONVERGE).reason is ExitReason.NO_ANSWER
    found = minimize_by_trust_region(task, np.array([0.3, 0.1, 0.3]), CONVERGE)
    assert found.centre.z[0] <= 0.5
    assert found.centre.values[0] < 0.2 * valley(np.array([0.3, 0.1, 0.3]))[0]
    assert any(not np.isfinite(step.values).all() and not step.accepted for step in found.steps)
