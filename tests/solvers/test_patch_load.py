"""Promise: a load on a patch has its total exactly, follows its material point, and has exact shape derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.patch_load import boundary_point
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import PLANE_STRESS, POISSON, Dirichlet, Functional, Patch, Pin, Problem
from shapewright.solvers.physics.reaction import reaction
from tests.solvers.solver_cases import RADIATION, zero
from tests.solvers.solver_meshes import bulged, mapped_square

MESH = mapped_square(6, bulged)
PATCH = Patch("right", (1.02, 0.45), 0.3, {"u": 0.7, "v": -1.3})
MOVED = np.stack([np.sin(3 * MESH.nodes[:, 1]) + MESH.nodes[:, 0], np.cos(2 * MESH.nodes[:, 0])], -1)


def pulled(component):
    """The force that the held side gives back, by the residual of the discrete equations."""
    integrand = reaction(PLANE_STRESS.flux, PLANE_STRESS.source, component)
    return Functional(f"pull_{component}", integrand, "1", "", lifting="left")


BRACKET = Problem(
    PLANE_STRESS,
    dirichlet=tuple(Dirichlet(c, "left", zero) for c in "uv"),
    functionals=(PLANE_STRESS.functional("compliance"), pulled("u"), pulled("v")),
    patches=(PATCH,),
)
HEATED = replace(RADIATION, natural=(), patches=(Patch("top", (0.4, 1.1), 0.25, {"u": 0.5}),))


def anew(problem, mesh, at):
    """A solver that shares nothing with the one that gave the gradient, its point found on the moved mesh."""
    patch = problem.patches[0]
    nodes, shape = boundary_point(mesh, patch.tag, np.array(patch.at))
    moved = replace(patch, at=tuple(shape @ at[nodes]))
    return FemSolver(replace(problem, patches=(moved,)), mesh.moved(at)).solve().values


@pytest.mark.parametrize("moved", [0.0, 0.15])
def test_the_total_is_exact_on_any_mesh(moved):
    values = FemSolver(BRACKET, MESH).solve(MESH.nodes + moved * MOVED).values
    assert values["pull_u"] == pytest.approx(-0.7, rel=1e-10)
    assert values["pull_v"] == pytest.approx(1.3, rel=1e-10)


@pytest.mark.parametrize(("problem", "name"), [(BRACKET, "compliance"), (HEATED, "square")])
def test_gradients_and_tangents_are_those_of_values_made_anew(problem, name):
    """In a linear problem, and in one that Newton solves."""
    solver = FemSolver(problem, MESH)
    at = MESH.nodes + 0.03 * MOVED
    solution = solver.solve(at)
    slope = float((solution.gradient(name) * MOVED).sum())
    tangent = solution.tangent(MOVED).values[name]
    steps = (1e-3, 5e-4, 2.5e-4)
    ahead = [anew(problem, MESH, at + h * MOVED)[name] for h in steps]
    behind = [anew(problem, MESH, at - h * MOVED)[name] for h in steps]
    central = [(a - b) / (2 * h) for a, b, h in zip(ahead, behind, steps, strict=True)]
    assert abs(slope) > 1e-2
    assert tangent == pytest.approx(slope, rel=1e-8)
    assert (4 * central[1] - central[0]) / 3 == pytest.approx(slope, rel=1e-5)
    remainders = [abs(a - solution.values[name] - h * slope) for a, h in zip(ahead, steps, strict=True)]
    assert np.log2(remainders[0] / remainders[1]) == pytest.approx(2, abs=0.1)


def test_the_patch_follows_its_material_point():
    """Turning mesh, support and load of a body as a whole changes nothing."""
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    conduction = Problem(
        POISSON, dirichlet=(Dirichlet("u", "left", zero),), functionals=(POISSON.functional("compliance"),),
        patches=(Patch("right", (1.02, 0.45), 0.3, {"u": 1.0}),),
    )  # fmt: skip
    solver = FemSolver(conduction, MESH)
    values = [solver.solve(nodes).values["compliance"] for nodes in (MESH.nodes, MESH.nodes @ turn.T + 5)]
    assert values[1] == pytest.approx(values[0], rel=1e-10)


def test_a_patch_that_meets_nothing_is_refused():
    with pytest.raises(ProblemError, match=r"patch at \[2.0, 0.5\] of width 0.3 meets no boundary: 'right' is"):
        FemSolver(replace(BRACKET, patches=(replace(PATCH, at=(2.0, 0.5)),)), MESH)
    with pytest.raises(ProblemError, match="total of component 'w' is unknown"):
        replace(BRACKET, patches=(replace(PATCH, totals={"w": 1.0}),))
    with pytest.raises(ProblemError, match="'u' has a boundary value and a natural condition on 'left'"):
        replace(BRACKET, patches=(replace(PATCH, tag="left"),))
    middle = tuple(MESH.nodes[MESH.facets_on("right")[2, 2]])  # where no quadrature point is
    solver = FemSolver(replace(BRACKET, patches=(replace(PATCH, at=middle, width=1e-5),)), MESH)
    with pytest.raises(SolveError, match=r"narrower than the cells on 'right': no quadrature point is inside"):
        solver.solve()


@pytest.mark.parametrize("out", [-1.0, -0.7])
def test_a_pin_hides_no_patch_that_does_not_balance(out):
    """What one patch brings into a body without any support another one has to take out."""
    pinned = Problem(
        POISSON, functionals=(POISSON.functional("compliance"),), pins=(Pin("u", "left"),),
        patches=(Patch("right", (1.02, 0.45), 0.3, {"u": 1.0}), Patch("left", (0.0, 0.5), 0.3, {"u": out})),
    )  # fmt: skip
    solver = FemSolver(pinned, MESH)
    if out == -1.0:
        assert solver.solve().values["compliance"] > 0.1
    else:
        with pytest.raises(SolveError, match=r"do not balance.* that of the boundary flux 0.3"):
            solver.solve()
