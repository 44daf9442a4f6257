"""What is not trustworthy is refused with a message that names what was found and what is allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.errors import SolveError, StaleSolutionError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import POISSON, STOKES, Dirichlet, Functional, Natural, Problem
from shapewright.solvers.physics.poisson import poisson
from tests.solvers.solver_cases import CHANNEL, RADIATION, TORSION, zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square

MESH = mapped_square(3, bulged)


def test_unknown_tag_lists_the_tags():
    problem = replace(TORSION, dirichlet=(Dirichlet("u", "wall", zero),))
    with pytest.raises(ProblemError, match=r"'wall'.*bottom, right, top, left"):
        FemSolver(problem, MESH)
    over = replace(TORSION, functionals=(Functional("f", lambda ops, q: q["u"], "1", "", on="body"),))
    with pytest.raises(ProblemError, match=r"'body'.*bottom, right, top, left"):
        FemSolver(over, MESH)


def test_unknown_quantity_lists_the_quantities():
    with pytest.raises(ProblemError, match=r"unknown quantity 'T'.*x, y, u, u_x, u_y, conductivity"):
        FemSolver(replace(TORSION, sources={"u": lambda ops, q: q["T"]}), MESH)
    normal_inside = Functional("f", lambda ops, q: q["nx"], "1", "")
    with pytest.raises(ProblemError, match=r"unknown quantity 'nx'"):
        FemSolver(replace(TORSION, functionals=(normal_inside,)), MESH)


def test_pure_neumann_problem_is_singular():
    solver = FemSolver(replace(TORSION, dirichlet=()), MESH)
    for _ in range(2):
        with pytest.raises(SolveError, match=r"singular.*'u' only up to a constant"):
            solver.solve()


def test_weak_robin_condition_makes_it_regular():
    """Only what is singular is refused: here the source 2 leaves through one wall, 1e-6 int u = 2 area.

    The wall's 1e-6 beside the stiffness of the smallest cells makes a condition number of about 1e8: with it rounding
    grows to some 1e-8, from processor to processor on either side of that.
    """
    problem = replace(
        TORSION,
        dirichlet=(),
        natural=(Natural("u", "left", lambda ops, q: -1e-6 * q["u"]),),
        functionals=(
            POISSON.functional("area"),
            Functional("outflow", lambda ops, q: 1e-6 * q["u"], "1", "", on="left"),
        ),
    )
    values = FemSolver(problem, MESH).solve().values
    assert values["outflow"] == pytest.approx(2 * values["area"], rel=2e-7)


def test_enclosed_stokes_flow_has_no_pressure_level():
    walls = tuple(Dirichlet(c, side, zero) for side in SIDES for c in "uv")
    problem = Problem(STOKES, sources={"u": lambda ops, q: q["y"]}, dirichlet=walls)
    with pytest.raises(SolveError, match=r"singular.*'p' only up to a constant"):
        FemSolver(problem, MESH).solve()


def test_folded_mesh_is_refused_and_the_solver_goes_on():
    solver = FemSolver(TORSION, MESH)
    good = solver.solve()
    nodes = MESH.nodes.copy()
    nodes[24] += 0.6
    with pytest.raises(SolveError, match=r"folded: \d+ of 18 cells"):
        solver.solve(nodes)
    with pytest.raises(SolveError, match=r"folded: 18 of 18"):
        solver.solve(MESH.nodes * [-1, 1])
    good.gradient("compliance")  # a refused shape has replaced nothing
    with pytest.raises(SolveError, match="folded"):
        FemSolver(TORSION, MESH.moved(nodes))


def test_middle_node_past_the_corner_is_a_fold():
    """A cell whose corners are fine may still be folded near an edge."""
    nodes = mapped_square(3).nodes.copy()
    nodes[1] = nodes[2] - [0.02, 0]
    with pytest.raises(SolveError, match=r"folded: 1 of 18"):
        FemSolver(TORSION, mapped_square(3)).solve(nodes)


def test_nodes_must_be_finite_and_of_the_right_shape():
    solver = FemSolver(TORSION, MESH)
    nodes = MESH.nodes.copy()
    nodes[5] = np.nan
    with pytest.raises(SolveError, match=r"1 nodes .* not finite"):
        solver.solve(nodes)
    with pytest.raises(ProblemError, match="shape"):
        solver.solve(MESH.nodes[:-1])
    with pytest.raises(ProblemError, match=r"velocity has shape"):
        solver.solve().tangent(np.zeros(3))


def test_mesh_must_be_one():
    with pytest.raises(ProblemError, match=r"50 nodes, but its cells use 49"):
        FemSolver(TORSION, replace(MESH, nodes=np.vstack([MESH.nodes, [[9.0, 9.0]]])))
    inner = MESH.cells[:1, [0, 2, 5]]
    with pytest.raises(ProblemError, match=r"1 tagged facets"):
        FemSolver(TORSION, replace(MESH, facets=np.vstack([MESH.facets[1:], inner])))


def test_source_that_is_not_finite():
    """log of a negative number inside; after it the solver solves the next shape."""
    problem = replace(TORSION, sources={"u": lambda ops, q: ops.log(q["x"] + 2)})
    solver = FemSolver(problem, MESH)
    value = solver.solve().values["torsional_constant"]
    with pytest.raises(SolveError, match=r"first residual is not finite"):
        solver.solve(MESH.nodes - [5, 0])
    assert solver.solve().values["torsional_constant"] == value
    with pytest.raises(ProblemError, match=r"boundary value of 'u' on 'left'"):
        FemSolver(
            replace(TORSION, dirichlet=(Dirichlet("u", "left", lambda ops, q: ops.sqrt(q["x"] - 9)),)), MESH
        ).solve()
    infinite = Functional("pole", lambda ops, q: ops.log(q["u"] - 1e3), "1", "")
    with pytest.raises(SolveError, match=r"'pole' is not finite"):
        FemSolver(replace(TORSION, functionals=(infinite,)), MESH).solve()


def test_newton_that_does_not_converge_tells_its_history():
    with pytest.raises(SolveError, match=r"did not converge in 2 steps.*residuals .*e.*, .*e.*, .*e"):
        FemSolver(RADIATION, MESH, max_iterations=2).solve()
    residuals = np.array(FemSolver(RADIATION, MESH).solve().residuals)
    assert 4 <= len(residuals) <= 9
    assert residuals[-1] < 1e-10 * residuals[0]
    # quadratic convergence before rounding: the digits double
    exponent = np.log(residuals[-2] / residuals[-3]) / np.log(residuals[-3] / residuals[-4])
    assert exponent > 1.5


def test_linear_problems_take_one_step():
    for problem in (TORSION, CHANNEL):
        residuals = FemSolver(problem, MESH).solve().residuals
        assert len(residuals) == 2
        assert residuals[1] < 1e-12 * residuals[0]


def test_stale_solution_keeps_values_and_refuses_derivatives():
    solver = FemSolver(TORSION, MESH)
    old = solver.solve()
    value, field = old.values["compliance"], old.fields["u"].copy()
    new = solver.solve(1.1 * MESH.nodes)
    assert old.values["compliance"] == value != new.values["compliance"]
    np.testing.assert_array_equal(old.fields["u"], field)
    for derive in (lambda: old.gradient("compliance"), lambda: old.tangent(MESH.nodes)):
        with pytest.raises(StaleSolutionError, match=r"before the next solve"):
            derive()
    assert np.isfinite(new.gradient("compliance")).all()


def test_unknown_functional():
    with pytest.raises(ProblemError, match=r"'drag'.*torsional_constant, compliance"):
        FemSolver(TORSION, MESH).solve().gradient("drag")


def test_nodes_passed_in_are_copied():
    solver, nodes = FemSolver(TORSION, MESH), MESH.nodes.copy()
    solution = solver.solve(nodes)
    before = solution.gradient("compliance")
    nodes += 1
    np.testing.assert_array_equal(solution.gradient("compliance"), before)
    np.testing.assert_array_equal(solution.nodes, MESH.nodes)


def test_a_physics_in_space_is_refused_on_a_planar_mesh():
    with pytest.raises(ProblemError, match=r"the mesh has 2 dimensions, the physics 'poisson' has 3; allowed are"):
        FemSolver(Problem(poisson(dimension=3)), mapped_square(1))
