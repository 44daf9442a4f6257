"""What has no unique solution is refused by name, with the cure; what has one is solved, however weakly it is held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shapewright.geometries.cad.mesher import mesh_family
from shapewright.geometries.family.catalogue import load_family
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import (
    HYPERELASTICITY,
    NAVIER_STOKES,
    NONLINEAR_POISSON,
    PLANE_STRAIN,
    PLANE_STRESS,
    POISSON,
    STOKES,
    Dirichlet,
    Natural,
    Patch,
    Pin,
    Problem,
)
from tests.solvers.solver_cases import zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square

SQUARE = mapped_square(3)
SOLIDS = (PLANE_STRESS, PLANE_STRAIN, HYPERELASTICITY)


def one(ops, q):
    return 1.0


def held(component, *tags):
    return tuple(Dirichlet(component, tag, zero) for tag in tags)


def gmsh_disc():
    """Curved cells of no particular order, where no row of the operator vanishes to rounding by itself."""
    family = load_family("closed_bar", {}, Path())
    return mesh_family(family, family.control_points(family.default).numpy(), 0.2)


@pytest.mark.parametrize("physics", [STOKES, NAVIER_STOKES], ids=lambda p: p.name)
@pytest.mark.parametrize("mesh", [SQUARE, mapped_square(8), mapped_square(5, bulged)], ids=("3", "8", "5"))
def test_enclosed_flow_without_a_pressure_level(physics, mesh):
    walls = (*held("u", *SIDES), *held("v", *SIDES))
    problem = Problem(physics, sources={"u": lambda ops, q: q["y"]}, dirichlet=walls)
    with pytest.raises(SolveError, match=r"singular, it determines 'p' only up to a constant: give 'p'.* pin it"):
        FemSolver(problem, mesh).solve()
    assert FemSolver(replace(problem, pins=(Pin("p", "left"),)), mesh).solve().values == {}


def test_enclosed_flow_on_an_unstructured_mesh():
    walls = (*held("u", "wall"), *held("v", "wall"))
    problem = Problem(STOKES, sources={"u": lambda ops, q: q["y"]}, dirichlet=walls)
    for scale in (1e-4, 1.0, 1e4):
        mesh = gmsh_disc()
        mesh = mesh.moved(scale * (mesh.nodes + 3))
        with pytest.raises(SolveError, match="'p' only up to a constant"):
            FemSolver(problem, mesh).solve()


@pytest.mark.parametrize("physics", [POISSON, NONLINEAR_POISSON], ids=lambda p: p.name)
def test_pure_neumann_problem(physics):
    for mesh in (SQUARE, mapped_square(5, bulged)):
        with pytest.raises(SolveError, match="'u' only up to a constant: give 'u' a boundary value"):
            FemSolver(Problem(physics, sources={"u": zero}), mesh).solve()


OPEN = {
    "nothing held": ((), (), ("'u' only up to a constant", "'v' only up to a constant", "rotation")),
    "u held on an upright wall": (held("u", "left"), (), ("'v' only up to a constant",)),
    "u held on a level wall": (held("u", "bottom"), (), ("'v' only up to a constant", "rotation about")),
    "two corners in one line": (
        (),
        (Pin("u", "left"), Pin("v", "left"), Pin("u", "right")),
        (r"'u' and 'v' only up to a rotation about \(0, 0\): hold 'u' or 'v' on a region, or pin it",),
    ),
    "one corner": ((), (Pin("u", "left"), Pin("v", "left")), (r"rotation about \(0, 0\)",)),
    "v pinned in a level line": ((), (Pin("v", "left"), Pin("v", "right")), ("'u' only up to a constant",)),
}


@pytest.mark.parametrize("physics", SOLIDS, ids=lambda p: p.name)
@pytest.mark.parametrize("name", OPEN)
def test_solid_that_may_move(physics, name):
    dirichlet, pins, modes = OPEN[name]
    problem = Problem(physics, natural=(Natural("u", "right", one),), dirichlet=dirichlet, pins=pins)
    with pytest.raises(SolveError, match="singular, it determines ") as caught:
        FemSolver(problem, SQUARE).solve()
    for mode in modes:
        caught.match(mode)
    assert str(caught.value).count("it determines") == len(modes)


def test_the_unit_does_not_matter():
    """A steel part in pascals and micrometres, far from the origin."""
    steel = {"youngs_modulus": lambda ops, q: 2.1e11}
    mesh = SQUARE.moved(1e-6 * (SQUARE.nodes + 5))
    load = (Natural("v", "right", one),)
    with pytest.raises(SolveError, match="'v' only up to a constant"):
        FemSolver(Problem(PLANE_STRESS, steel, dirichlet=held("u", "left"), natural=load), mesh).solve()
    stiffness = 2.1e11 / 1e-6 * 1e-8
    springs = tuple(Natural(c, side, lambda ops, q, c=c: -stiffness * q[c]) for c in "uv" for side in SIDES)
    weak = FemSolver(Problem(PLANE_STRESS, steel, natural=springs, sources={"v": one}), mesh).solve()
    carried = stiffness * weak.fields["displacement"][:, 1].mean() * 4e-6
    assert carried == pytest.approx(1e-12, rel=1e-3)  # the body force on the part


@pytest.mark.parametrize("physics", [PLANE_STRESS, PLANE_STRAIN], ids=lambda p: p.name)
def test_three_pins_hold_a_body_under_loads_that_balance(physics):
    """Uniform tension: strain 1/E' along it, and no reaction in any pin."""
    problem = Problem(
        physics,
        natural=tuple(Natural("u", side, lambda ops, q: q["nx"]) for side in ("left", "right")),
        pins=(Pin("u", "left"), Pin("v", "left"), Pin("v", "right")),
    )
    u = FemSolver(problem, SQUARE).solve().fields["displacement"]
    stiffness = 1.0 if physics is PLANE_STRESS else 1 / (1 - 0.3**2)
    np.testing.assert_allclose(u[:, 0], SQUARE.nodes[:, 0] / stiffness, atol=1e-12)


def test_source_and_flux_that_do_not_balance():
    problem = Problem(
        POISSON,
        sources={"u": lambda ops, q: 2.0},
        natural=tuple(Natural("u", side, lambda ops, q: -0.45) for side in SIDES),
        pins=(Pin("u", "left"),),
    )
    with pytest.raises(SolveError, match=r"total of the source is 2, that of the boundary flux -1\.8") as caught:
        FemSolver(problem, SQUARE).solve()
    assert "a pin hides it (that of 'u' on 'left')" in str(caught.value)
    balanced = tuple(Natural("u", side, lambda ops, q: -0.5) for side in SIDES)
    assert FemSolver(replace(problem, natural=balanced), SQUARE).solve().fields["u"].max() == pytest.approx(0.25)


def test_inflow_and_outflow_that_do_not_balance():
    def through(speed):
        profile = {"left": 1.0, "right": speed}
        return Problem(
            STOKES,
            dirichlet=(
                *(Dirichlet("u", s, lambda ops, q, k=k: k * q["y"] * (1 - q["y"])) for s, k in profile.items()),
                *held("v", *SIDES),
                *held("u", "bottom", "top"),
            ),
            pins=(Pin("p", "left"),),
        )

    with pytest.raises(SolveError, match=r"inflow 0\.166667 against outflow 0\.165 through the boundary"):
        FemSolver(through(0.99), SQUARE).solve()
    flow = FemSolver(through(1.0), SQUARE).solve().fields["velocity"]
    y = SQUARE.nodes[:, 1]
    np.testing.assert_allclose(flow, np.stack([y * (1 - y), 0 * y], -1), atol=1e-12)


def test_source_of_the_pressure_counts_as_inflow():
    walls = (*held("u", *SIDES), *held("v", *SIDES))
    problem = Problem(STOKES, sources={"p": one}, dirichlet=walls, pins=(Pin("p", "left"),))
    with pytest.raises(SolveError, match=r"inflow 0 against outflow 0 .*and a source of 'p' of 1 in all"):
        FemSolver(problem, SQUARE).solve()


def test_leaky_lid_is_no_imbalance():
    """The corner nodes move with the lid, so that the walls' cells leak, on one side more than on the other."""
    graded = mapped_square(4, lambda points: np.stack([points[:, 0], points[:, 1] ** 1.5], -1))
    lid = (Dirichlet("u", "top", one), *held("v", *SIDES))
    problem = Problem(STOKES, dirichlet=(*held("u", "left", "bottom", "right"), *lid), pins=(Pin("p", "bottom"),))
    x, y = graded.nodes.T
    skewed = graded.moved(np.stack([x, y + x * y * (1 - y)], -1))
    assert np.isfinite(FemSolver(problem, skewed).solve().fields["pressure"]).all()


def test_force_and_moment_that_only_pins_would_carry():
    pins = (Pin("u", "left"), Pin("v", "left"), Pin("v", "right"))
    pulled = Problem(PLANE_STRESS, natural=(Natural("u", "right", one),), pins=pins)
    with pytest.raises(SolveError, match=r"total of the source is 0, that of the boundary flux 1\..*'u' only up to"):
        FemSolver(pulled, SQUARE).solve()
    couple = tuple(Natural("v", side, lambda ops, q: q["nx"]) for side in ("left", "right"))
    with pytest.raises(SolveError, match=r"moment of the source is 0, that of the boundary flux 1\..*rotation about"):
        FemSolver(replace(pulled, natural=couple), SQUARE).solve()


def test_point_loads_count_in_the_balance():
    pins = (Pin("u", "left"), Pin("v", "left"), Pin("v", "right"))
    pull = (Patch("left", (0.0, 0.5), 0.4, {"u": -1.0}), Patch("right", (1.0, 0.5), 0.4, {"u": 1.0}))
    balanced = Problem(PLANE_STRESS, pins=pins, patches=pull)
    assert FemSolver(balanced, SQUARE).solve().fields["displacement"][:, 0].max() > 0.5
    with pytest.raises(SolveError, match=r"total of the source is 0, that of the boundary flux 1\."):
        FemSolver(replace(balanced, patches=pull[1:]), SQUARE).solve()


def test_pin_too_many():
    problem = Problem(POISSON, dirichlet=(Dirichlet("u", "left", one),), pins=(Pin("u", "right"),))
    with pytest.raises(SolveError, match=r"1 of the pins fix the u \('u' on 'right'\).*remove it"):
        FemSolver(problem, SQUARE).solve()
    outlet = (*held("u", "bottom", "top"), *held("v", "bottom", "top"), Dirichlet("u", "left", one), *held("v", "left"))
    with pytest.raises(SolveError, match=r"fix the pressure \('p' on 'right'\)"):
        FemSolver(Problem(STOKES, dirichlet=outlet, pins=(Pin("p", "right"),)), SQUARE).solve()
