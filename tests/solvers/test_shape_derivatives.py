"""Adjoint and tangent against values of solvers built afresh on the moved mesh.

A fresh solver shares no matrix, state or mesh with the one that gave the derivative. What a passing test
would not show is that a functional is the one named: test_known_answers and test_independent do.
"""

from __future__ import annotations

import numpy as np
import pytest

from shapewright.solvers.fem.solver import FemSolver
from tests.solvers.solver_cases import CASES
from tests.solvers.solver_meshes import bulged, mapped_square

STEPS = 0.02 * 0.5 ** np.arange(4)


def smooth_velocity(nodes):
    """A velocity that moves every side, corners included, along and across itself."""
    x, y = nodes.T
    return np.stack([0.3 * np.cos(2 * x + y) + 0.4 * x * y, 0.5 * np.sin(x - 2 * y) + 0.2 * x**2], -1)


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    """Problem, mesh, velocity, solution and the fresh solutions at the steps."""
    problem, mesh = CASES[request.param], mapped_square(3, bulged)
    velocity = smooth_velocity(mesh.nodes)
    fresh = [FemSolver(problem, mesh.moved(mesh.nodes + h * velocity)).solve() for h in STEPS]
    return problem, mesh, velocity, FemSolver(problem, mesh).solve(), fresh


def orders(remainders):
    return np.log2(remainders[:-1] / remainders[1:])


def test_adjoint_has_second_order_taylor_remainder(case):
    problem, _, velocity, solution, fresh = case
    for functional in problem.functionals:
        name = functional.name
        slope = float((solution.gradient(name) * velocity).sum())
        change = np.array([moved.values[name] - solution.values[name] for moved in fresh])
        assert abs(change[0]) > 1e-4 * STEPS[0], f"{name} does not depend on this motion"
        remainders = np.abs(change - STEPS * slope)
        if remainders[0] < 1e-11:  # a functional that is affine along the motion
            continue
        assert orders(remainders)[-1] == pytest.approx(2, abs=0.1), name


def test_tangent_has_second_order_taylor_remainder(case):
    _, _, velocity, solution, fresh = case
    tangent = solution.tangent(velocity)
    for name, value in solution.fields.items():
        derivative = tangent.fields[name]
        assert derivative.shape == value.shape
        change = [moved.fields[name] - value for moved in fresh]
        assert np.abs(change[0]).max() > 1e-3 * STEPS[0]
        remainders = np.array(
            [np.linalg.norm(d - h * derivative) for d, h in zip(change, STEPS, strict=True)]
        )
        assert orders(remainders)[-1] == pytest.approx(2, abs=0.1), name


def test_adjoint_agrees_with_tangent_in_rough_directions(case):
    problem, mesh, _, solution, _ = case
    velocities = np.random.default_rng(1).standard_normal((3, *mesh.nodes.shape))
    for functional in problem.functionals:
        gradient = solution.gradient(functional.name)
        for velocity in velocities:
            expected = solution.tangent(velocity).values[functional.name]
            scale = np.linalg.norm(gradient) * np.linalg.norm(velocity)
            assert abs((gradient * velocity).sum() - expected) < 1e-10 * scale


def test_tangent_is_linear(case):
    _, mesh, velocity, solution, _ = case
    other = np.random.default_rng(2).standard_normal(mesh.nodes.shape)
    both = solution.tangent(2 * velocity - 3 * other)
    for name, field in both.fields.items():
        expected = 2 * solution.tangent(velocity).fields[name] - 3 * solution.tangent(other).fields[name]
        np.testing.assert_allclose(field, expected, atol=1e-9 * np.abs(expected).max())


def test_reused_solver_gives_what_a_fresh_one_gives(case):
    """Nothing of earlier shapes is left in matrix, symbolic factors, boundary values or derivatives."""
    problem, mesh, velocity, _, fresh = case
    solver = FemSolver(problem, mesh)
    solver.solve(mesh.nodes - 0.03 * velocity).gradient(problem.objective.name)
    reused = solver.solve(fresh[0].nodes)
    for name, value in reused.values.items():
        assert value == pytest.approx(fresh[0].values[name], rel=1e-10)
        expected = fresh[0].gradient(name)
        np.testing.assert_allclose(reused.gradient(name), expected, atol=1e-9 * np.abs(expected).max())
