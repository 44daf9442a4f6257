"""Promise: load cases are what each alone would be, on one factorization, with exact derivatives of combinations."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.errors import SolveError, StaleSolutionError
from shapewright.solvers.fem.factorization import Factorization
from shapewright.solvers.fem.load_cases import CaseSolver, smooth_maximum, solver_of
from shapewright.solvers.fem.patch_load import boundary_point
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import (
    PLANE_STRESS,
    CaseFunctional,
    Dirichlet,
    Functional,
    Natural,
    Patch,
    Pin,
    Problem,
)
from tests.solvers.solver_cases import zero
from tests.solvers.solver_meshes import bulged, mapped_square

MESH = mapped_square(4, bulged)
MOVED = np.stack([np.sin(3 * MESH.nodes[:, 1]) + MESH.nodes[:, 0], np.cos(2 * MESH.nodes[:, 0])], -1)
COMPLIANCE = PLANE_STRESS.functional("compliance")
PUSH = Functional("push", lambda ops, q: q["v"] ** 2 * q["nx"], "1", "", on="right")


def over(functional, name, combine):
    given = {f.name: getattr(functional, f.name) for f in fields(Functional)} | {"name": name}
    return CaseFunctional(**given, of=functional.name, combine=combine)


def times(name, function):
    return lambda ops, q: q[name] * function(ops, q)


SHEAR, LIFT = (lambda ops, q: 0.4 + q["y"]), (lambda ops, q: -0.7 * q["x"])
SUPPORT = tuple(Dirichlet(c, "left", zero) for c in "uv")
SPRING = Natural("v", "bottom", lambda ops, q: -0.3 * q["v"])
SPIKE = Patch("right", (1.02, 0.45), 0.4, {"u": 0.7})
SETTLED = Dirichlet("v", "left", lambda ops, q: 0.05 * q["y"])
CASES = Problem(
    PLANE_STRESS,
    sources={"v": times("side", lambda ops, q: -0.5 * q["density"])},
    dirichlet=(SUPPORT[0], Dirichlet("v", "left", times("settled", SETTLED.value))),
    natural=(SPRING, Natural("u", "right", times("side", SHEAR)), Natural("v", "top", times("down", LIFT))),
    patches=(replace(SPIKE, factor="settled"),),
    functionals=(
        over(COMPLIANCE, "total", lambda values: values[0] + 2 * values[1] + 0.5 * values[2]),
        over(COMPLIANCE, "worst", lambda values: smooth_maximum(values, 20.0)),
        over(PUSH, "push", lambda values: values[2]),
    ),
    parameters={"down": 1.0, "side": 0.0, "settled": 0.0},
    cases={name: {other: float(name == other) for other in ("down", "side", "settled")}
           for name in ("down", "side", "settled")},
)  # fmt: skip
PLAIN = Problem(PLANE_STRESS, dirichlet=SUPPORT, functionals=(COMPLIANCE, PUSH))
ALONE = {
    "down": replace(PLAIN, natural=(SPRING, Natural("v", "top", LIFT))),
    "side": replace(
        PLAIN, natural=(SPRING, Natural("u", "right", SHEAR)), sources={"v": lambda ops, q: -0.5 * q["density"]}
    ),
    "settled": replace(PLAIN, natural=(SPRING,), dirichlet=(SUPPORT[0], SETTLED), patches=(SPIKE,)),
}

SPIKE_NODES, SPIKE_SHAPE = boundary_point(MESH, "right", np.array(SPIKE.at))


def anew(nodes):
    """Values of the combinations by solvers of each case alone, on a mesh of their own."""
    mesh = MESH.moved(nodes)
    at = tuple((SPIKE_SHAPE @ nodes[SPIKE_NODES]).tolist())
    problems = ALONE | {"settled": replace(ALONE["settled"], patches=(replace(SPIKE, at=at),))}
    values = [FemSolver(problem, mesh).solve().values for problem in problems.values()]
    of = {name: torch.tensor([v[name] for v in values], dtype=torch.float64) for name in ("compliance", "push")}
    return {f.name: float(f.combine(of[f.of])) for f in CASES.functionals}


@pytest.fixture
def factorized(monkeypatch):
    """How often a matrix was made, each to be factorized once."""
    count, assemble = [], Factorization.assemble
    monkeypatch.setattr(Factorization, "assemble", lambda self: (count.append(1), assemble(self))[1])
    return count


def test_cases_are_those_of_each_alone_on_one_factorization(factorized):
    solver, nodes = CaseSolver(CASES, MESH), MESH.nodes + 0.05 * MOVED
    solution = solver.solve(nodes)
    for functional in CASES.functionals:
        solution.gradient(functional.name)
    solution.tangent(MOVED)
    assert len(factorized) == 1
    assert solution.adjoints == 4  # of the compliance in three cases, and of the push in one
    expected = anew(nodes)
    for name, value in solution.values.items():
        assert value == pytest.approx(expected[name], rel=1e-9)
    solver.solve(MESH.nodes)
    assert len(factorized) == 2 + 3  # once on the other nodes; and each case alone, by itself


@pytest.mark.parametrize("name", [functional.name for functional in CASES.functionals])
def test_derivatives_are_those_of_values_made_anew(name):
    nodes = MESH.nodes + 0.05 * MOVED
    solution = CaseSolver(CASES, MESH).solve(nodes)
    tangent = solution.tangent(MOVED)
    slope = float((solution.gradient(name) * MOVED).sum())
    assert tangent.values[name] == pytest.approx(slope, rel=1e-8)
    values = [[anew(nodes + sign * h * MOVED)[name] for sign in (1, -1)] for h in (1e-3, 5e-4)]
    central = [(ahead - behind) / (2 * h) for (ahead, behind), h in zip(values, (1e-3, 5e-4), strict=True)]
    assert abs(slope) > 1e-4
    assert (4 * central[1] - central[0]) / 3 == pytest.approx(slope, rel=1e-6)
    rest = [abs(ahead - solution.values[name] - h * slope) for (ahead, _), h in zip(values, (1e-3, 5e-4), strict=True)]
    assert np.log2(rest[0] / rest[1]) == pytest.approx(2, abs=0.1)


def test_a_matrix_that_differs_between_cases_is_made_for_each(factorized):
    """A spring that is there in one case only."""
    spring = Natural("v", "bottom", times("down", SPRING.value))
    varied = replace(CASES, natural=(spring, *CASES.natural[1:]))
    solution = CaseSolver(varied, MESH).solve()
    assert len(factorized) == 3
    alone = [replace(p, natural=p.natural[1:] if case != "down" else p.natural) for case, p in ALONE.items()]
    values = torch.tensor([FemSolver(p, MESH).solve().values["compliance"] for p in alone], dtype=torch.float64)
    assert solution.values["total"] == pytest.approx(float(CASES.functionals[0].combine(values)), rel=1e-9)
    slope = float((solution.gradient("total") * MOVED).sum())
    assert solution.tangent(MOVED).values["total"] == pytest.approx(slope, rel=1e-8)


def test_derivatives_go_stale_when_the_mesh_moves():
    solver = CaseSolver(CASES, MESH)
    solution = solver.solve()
    solver.solve(MESH.nodes + 0.01 * MOVED)
    with pytest.raises(StaleSolutionError, match="mesh has moved"):
        solution.gradient("worst")
    with pytest.raises(ProblemError, match="unknown functional 'drag'; this problem has total, worst, push"):
        solver.solve().gradient("drag")


def test_the_plain_solver_refuses_cases():
    with pytest.raises(ProblemError, match="load cases is solved by"):
        FemSolver(CASES, MESH)
    with pytest.raises(ProblemError, match="'compliance' does not say of which load cases it is"):
        replace(CASES, functionals=(COMPLIANCE,))
    assert isinstance(solver_of(PLAIN, MESH), FemSolver)


@pytest.mark.parametrize("values", [[3.0, 3.0], [1.0, 2.0, 2.5], [-4.0, -1.0], [1e-9, 2e-9], [0.0, 0.0]])
def test_the_smooth_maximum_is_below_the_true_one_by_what_it_says(values):
    given = torch.tensor(values, dtype=torch.float64)
    found = float(smooth_maximum(given, 50.0))
    slack = float((given**2).mean().sqrt()) * np.log(len(values)) / 50
    assert max(values) - slack - 1e-15 <= found <= max(values) + 1e-15
    assert float(smooth_maximum(1e3 * given, 50.0)) == pytest.approx(1e3 * found, rel=1e-12)
    if len(set(values)) == 1:
        assert found == pytest.approx(values[0], rel=1e-14)


def test_the_case_that_cannot_be_solved_is_named():
    """The body may rise: a pull along is balanced on its wall, one upward is hidden by the pin."""
    problem = Problem(
        PLANE_STRESS,
        dirichlet=(Dirichlet("u", "left", zero),),
        pins=(Pin("v", "left"),),
        natural=(Natural("u", "right", times("along", SHEAR)), Natural("v", "right", times("up", LIFT))),
        functionals=(over(COMPLIANCE, "total", lambda values: values.sum()),),
        parameters={"along": 1.0, "up": 0.0},
        cases={"along": {"along": 1.0, "up": 0.0}, "up": {"along": 0.0, "up": 1.0}},
    )
    with pytest.raises(SolveError, match="load case 'up': the data do not balance"):
        CaseSolver(problem, mapped_square(4)).solve()
