"""Parameters that change from solve to solve, starts from earlier solutions, load steps, pinned levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem import weak_form
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import POISSON, STOKES, Dirichlet, Functional, Natural, Pin, Problem
from tests.solvers.solver_cases import CASES, RUBBER, TORSION, WAKE, zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square

MESH = mapped_square(3, bulged)


def everywhere(value):
    """A problem in which the function ``value`` of the quantities stands in every place that takes one."""
    return Problem(
        POISSON,
        coefficients={"conductivity": lambda ops, q: 1 + value(q) * q["x"]},
        sources={"u": lambda ops, q: value(q) * q["y"]},
        dirichlet=(Dirichlet("u", "left", lambda ops, q: value(q) * ops.sin(q["y"])),),
        natural=(Natural("u", "right", lambda ops, q: value(q) ** 2 - q["u"]),),
        functionals=(Functional("f", lambda ops, q: value(q) * q["u"] ** 2, "1", ""),),
    )


def test_parameters_act_as_numbers_in_the_formulas(monkeypatch):
    solver = FemSolver(replace(everywhere(lambda q: q["t"]), parameters={"t": 0.3}), MESH)
    velocity = np.cos(MESH.nodes)
    solver.solve().gradient("f")
    solver.solve().tangent(velocity)
    monkeypatch.setattr(weak_form, "compile_form", lambda form: pytest.fail("compiled again"))
    solutions = {}
    for given, value in ((None, 0.3), ({"t": 0.7}, 0.7), (None, 0.3)):
        solution = solver.solve(parameters=given)
        solutions[value] = solution.parameters, solution.values, solution.gradient("f"), solution.tangent(velocity)
    monkeypatch.undo()
    for value, (parameters, values, gradient, tangent) in solutions.items():
        assert parameters == {"t": value}
        fixed = FemSolver(everywhere(lambda q, value=value: value), MESH).solve()
        assert values == pytest.approx(fixed.values, rel=1e-12)
        np.testing.assert_allclose(gradient, fixed.gradient("f"), atol=1e-12)
        np.testing.assert_allclose(tangent.fields["u"], fixed.tangent(velocity).fields["u"], atol=1e-12)
    assert solutions[0.3][1] != solutions[0.7][1]


def test_wrong_parameters():
    with pytest.raises(ProblemError, match="parameter 'speed' is unknown; allowed are load"):
        FemSolver(RUBBER, MESH).solve(parameters={"speed": 1.0})
    for name in ("u_x", "conductivity", "source_u", "nx"):
        with pytest.raises(ProblemError, match=f"parameter '{name}' has the name of a quantity of physics 'poisson'"):
            Problem(POISSON, parameters={name: 1.0})
    with pytest.raises(ProblemError, match=r"unknown quantity 'T'.*u_y, strength, load, nonlinearity"):
        FemSolver(replace(CASES["kirchhoff"], sources={"u": lambda ops, q: q["T"]}), MESH)


def test_start_saves_steps_and_changes_nothing():
    solver = FemSolver(RUBBER, mapped_square(5))
    near = solver.solve(parameters={"load": 0.119})
    cold, warm = solver.solve(), solver.solve(start=near)
    assert len(warm.residuals) < len(cold.residuals)
    assert warm.residuals[-1] < 1e-9 * cold.residuals[0]
    np.testing.assert_allclose(warm.fields["displacement"], cold.fields["displacement"], atol=1e-8)
    again = solver.solve(start=warm)  # there already
    assert again.values == pytest.approx(warm.values, rel=1e-8)  # the residual's tolerance is 1e-10 of the first
    with pytest.raises(ProblemError, match="start from is of another solver"):
        solver.solve(start=FemSolver(RUBBER, MESH).solve())


def test_load_steps_lead_to_what_small_loads_in_turn_lead_to():
    solver = FemSolver(RUBBER, mapped_square(5))
    at_once = solver.solve(parameters={"load": 0.3})
    assert len(at_once.steps) > 1
    assert at_once.steps[-1] == 1
    assert all(np.diff(at_once.steps) > 0)
    step = solver.solve(parameters={"load": 0.05})
    for load in (0.1, 0.15, 0.2, 0.25, 0.3):
        step = solver.solve(parameters={"load": load}, start=step)
        assert step.steps == (1.0,)
    np.testing.assert_allclose(at_once.fields["displacement"], step.fields["displacement"], atol=1e-8)
    assert at_once.values == pytest.approx(step.values, rel=1e-8)
    # from an earlier solution the steps lead on from its load
    onward = solver.solve(parameters={"load": 0.3}, start=solver.solve(parameters={"load": 0.02}))
    np.testing.assert_allclose(onward.fields["displacement"], step.fields["displacement"], atol=1e-8)


def test_reynolds_number_in_load_steps():
    """At Reynolds 1000 Newton's method does not converge from rest; two ways up lead to one flow."""
    solver = FemSolver(WAKE, mapped_square(6, bulged))
    direct = solver.solve(parameters={"reynolds": 1000.0})
    assert len(direct.steps) > 1
    slower = solver.solve(parameters={"reynolds": 300.0})
    raised = solver.solve(parameters={"reynolds": 1000.0}, start=slower)
    np.testing.assert_allclose(raised.fields["velocity"], direct.fields["velocity"], atol=1e-8)


def test_hopeless_load_says_how_far_it_got():
    solver = FemSolver(WAKE, MESH)
    with pytest.raises(SolveError, match=r"Newton .*residuals .*; smaller load steps reached 0\S* of the load"):
        solver.solve(parameters={"reynolds": 1e7})
    assert solver.solve().steps == (1.0,)


def test_enclosed_flow_with_pinned_pressure():
    """The pin fixes the level and nothing else: a constant force has no flow, and its pressure is a plane."""
    walls = tuple(Dirichlet(c, side, zero) for side in SIDES for c in "uv")
    mesh = mapped_square(4)
    problem = Problem(
        STOKES, sources={"u": lambda ops, q: 3.0}, dirichlet=walls, pins=(Pin("p", "bottom"),)
    )
    fields = FemSolver(problem, mesh).solve().fields
    np.testing.assert_allclose(fields["velocity"], 0, atol=1e-12)
    np.testing.assert_allclose(fields["pressure"][:, 0], 3 * mesh.nodes[:, 0], atol=1e-10)
    pinned_right = replace(problem, pins=(Pin("p", "right"),))
    level = FemSolver(pinned_right, mesh).solve().fields["pressure"][:, 0]
    np.testing.assert_allclose(level, 3 * mesh.nodes[:, 0] - 3, atol=1e-10)
    with pytest.raises(ProblemError, match="pin of component 'q' is unknown; allowed are u, v, p"):
        replace(problem, pins=(Pin("q", "bottom"),))
    with pytest.raises(ProblemError, match=r"unknown boundary tag 'floor'"):
        FemSolver(replace(problem, pins=(Pin("p", "floor"),)), mesh)


def test_lifting_has_its_place():
    with pytest.raises(ProblemError, match=r"'f' is over 'left' and has a lifting of 'right'"):
        Functional("f", zero, "1", "", on="left", lifting="right")
    over_all = replace(TORSION, functionals=(Functional("f", lambda ops, q: q["lifting"], "1", ""),))
    with pytest.raises(ProblemError, match="unknown quantity 'lifting'"):
        FemSolver(over_all, MESH)
    nowhere = replace(TORSION, functionals=(Functional("f", lambda ops, q: q["lifting"], "1", "", lifting="body"),))
    with pytest.raises(ProblemError, match="unknown boundary tag 'body'"):
        FemSolver(nowhere, MESH)
