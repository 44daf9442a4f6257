"""Slip along straight and curved walls: orders, known flows, exact derivatives, and the rotations that it leaves open.

A polygon for a curved wall would not slip at all in the limit (Babuska's paradox), which the orders would show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy

from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import (
    HYPERELASTICITY,
    NAVIER_STOKES,
    PLANE_STRAIN,
    PLANE_STRESS,
    POISSON,
    STOKES,
    Dirichlet,
    Functional,
    Natural,
    Pin,
    Problem,
)
from tests.solvers.solver_cases import zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square, quarter_annulus
from tests.solvers.sympy_solutions import X, Y, gradient, problem_with_solution

RADIUS = sympy.sqrt(X**2 + Y**2)
# zero on the circle of radius 1, and d/dr of (its slope)/r too: it slips there without friction
STREAM = ((RADIUS**2 - 1) / 2 + (RADIUS - 1) ** 3) * 2 * X * Y / RADIUS**2
VELOCITY = {"u": sympy.diff(STREAM, Y), "v": -sympy.diff(STREAM, X)}


def one(ops, q):
    return 1.0


def flow(physics):
    exact = VELOCITY | {"p": sympy.sin(X) * Y}
    slope = gradient(exact)
    flux = sympy.Rational(1, 2) * slope[:2, :] - exact["p"] * sympy.eye(2)
    inertia = -slope[:2, :] * sympy.Matrix(list(VELOCITY.values()))
    convection = dict(zip("uv", inertia, strict=True)) if physics is NAVIER_STOKES else None
    return problem_with_solution(physics, exact, flux, convection, {"viscosity": 0.5}, natural=("left", "top"))


def solid(physics):
    e, nu = 2.5, 0.3
    strain = (gradient(VELOCITY) + gradient(VELOCITY).T) / 2
    lame = e * nu / ((1 + nu) * (1 - 2 * nu)) if physics is PLANE_STRAIN else e * nu / (1 - nu**2)
    stress = e / (1 + nu) * strain + lame * strain.trace() * sympy.eye(2)
    coefficients = {"youngs_modulus": e, "poisson_ratio": nu}
    return problem_with_solution(physics, VELOCITY, stress, coefficients=coefficients, natural=("left", "top"))


def slipping(problem, tag="left"):
    """The problem with slip in place of the natural condition on ``tag``, and the tangential traction there."""
    traction = problem.physics.traction

    def along(ops, q):
        (a, b), (c, d) = traction(ops, q).values()
        n, t = (q["nx"], q["ny"]), (-q["ny"], q["nx"])
        return (t[0] * (a * n[0] + b * n[1]) + t[1] * (c * n[0] + d * n[1])) ** 2

    def through(ops, q):
        return (q["u"] * q["nx"] + q["v"] * q["ny"]) ** 2

    return replace(
        problem,
        natural=tuple(n for n in problem.natural if n.tag != tag),
        slip=(tag,),
        functionals=(
            *problem.functionals,
            Functional("along", along, "1", "", on=tag),
            Functional("through", through, "1", "", on=tag),
        ),
    )


CURVED = {
    "stokes": slipping(flow(STOKES)),
    "navier_stokes": slipping(flow(NAVIER_STOKES)),
    "plane_stress": slipping(solid(PLANE_STRESS)),
}


@pytest.mark.parametrize("name", CURVED)
def test_orders_on_a_circle(name):
    """Fields by their elements' orders; no flow through the wall and no traction along it, in the limit."""
    sizes = (8, 16)
    errors = [
        FemSolver(CURVED[name], mapped_square(n, quarter_annulus), quadrature_degree=8).solve().values for n in sizes
    ]
    orders = {key: np.log2(errors[0][key] / errors[1][key]) / 2 for key in errors[0]}
    for component in "uv":
        assert orders[component] > 2.9, component
    assert orders.get("p", 2.0) > 1.8
    assert orders["through"] > 2.5
    assert orders["along"] > 1.8


def test_plug_flow_in_a_channel_that_slips():
    inflow = (Dirichlet("u", "left", one), Dirichlet("v", "left", zero))
    plug = Problem(STOKES, dirichlet=inflow, slip=("top", "bottom"))
    flow = FemSolver(plug, mapped_square(3)).solve()
    np.testing.assert_allclose(flow.fields["velocity"], np.broadcast_to([1.0, 0.0], (49, 2)), atol=1e-12)
    np.testing.assert_allclose(flow.fields["pressure"], 0.0, atol=1e-11)


def cylinder_flow(n):
    """A quarter of a cylinder of radius 1 that slips, in a cell of radius 2 whose rim moves with velocity (1, 0).

    psi = g(r) sin(theta) with g = a r^3 + b r log r + c r + d/r; u_r = g/r cos(theta), u_theta = -g' sin(theta).
    """
    r = 2.0
    rows = np.array(
        [
            [1, 0, 1, 1],  # u_r at 1
            [-6 + 3 - 1, -1 + 1 - 0, 0 + 1 - 1, -2 - 1 - 1],  # shear at 1, -g'' + g'/r - g/r^2 times sin(theta)
            [r**2, np.log(r), 1, 1 / r**2],  # u_r at 2
            [3 * r**2, np.log(r) + 1, 1, -1 / r**2],  # u_theta at 2
        ]
    )
    a, b, c, d = np.linalg.solve(rows, [0, 0, 1, 1])

    def velocity(ops, q):
        rr = q["x"] ** 2 + q["y"] ** 2
        log = ops.log(rr) / 2
        across, along = a * rr + b * log + c + d / rr, 3 * a * rr + b * (log + 1) + c - d / rr
        return (across * q["x"] ** 2 + along * q["y"] ** 2) / rr, (across - along) * q["x"] * q["y"] / rr

    problem = Problem(
        STOKES,
        dirichlet=(
            Dirichlet("u", "right", one),
            Dirichlet("v", "right", zero),
            Dirichlet("v", "bottom", zero),
            Dirichlet("v", "top", zero),
        ),
        slip=("left",),
        functionals=(
            replace(STOKES.functional("drag"), on="left"),
            Functional("error", lambda ops, q: (q["u"] - velocity(ops, q)[0]) ** 2, "1", ""),
        ),
    )
    return FemSolver(problem, mapped_square(n, quarter_annulus), quadrature_degree=8).solve().values, b


def test_drag_of_a_cylinder_that_slips():
    """4 pi viscosity b on the whole cylinder, b of the Stokeslet r log r: the force through every circle."""
    values, b = cylinder_flow(8)
    assert np.sqrt(values["error"]) < 5e-4
    assert values["drag"] == pytest.approx(np.pi * b, rel=2e-3)


def test_confined_compression():
    """A block pressed between walls along which it slips: no shear, uniform strain, Lame's lambda + 2 mu."""
    pressed = Problem(
        PLANE_STRAIN, natural=(Natural("v", "top", lambda ops, q: -1.0),), slip=("left", "right", "bottom")
    )
    mesh = mapped_square(3)
    u = FemSolver(pressed, mesh).solve().fields["displacement"]
    stiffness = (1 - 0.3) / ((1 + 0.3) * (1 - 0.6))
    np.testing.assert_allclose(u, np.stack([0 * mesh.nodes[:, 1], -mesh.nodes[:, 1] / stiffness], -1), atol=1e-12)


def test_rubber_pressed_between_walls():
    """F = diag(1, s), and the stress along y that belongs to it."""
    mu, kappa, s = 1 / (2 * 1.3), 1 / (3 * 0.4), 0.9
    force = mu / s * (s - (1 + s**2) / (2 * s)) + kappa * (s - 1)
    pressed = Problem(
        HYPERELASTICITY,
        coefficients={"poisson_ratio": lambda ops, q: 0.3},
        natural=(Natural("v", "top", lambda ops, q: force),),
        slip=("left", "right", "bottom"),
    )
    mesh = mapped_square(2)
    u = FemSolver(pressed, mesh).solve().fields["displacement"]
    np.testing.assert_allclose(u, np.stack([0 * mesh.nodes[:, 1], (s - 1) * mesh.nodes[:, 1]], -1), atol=1e-10)


DERIVATIVES = {
    "navier_stokes": Problem(
        NAVIER_STOKES,
        coefficients={"viscosity": lambda ops, q: 0.3 + 0.1 * q["x"]},
        dirichlet=(Dirichlet("u", "left", lambda ops, q: 1 + q["y"]), Dirichlet("v", "left", zero)),
        functionals=(
            replace(NAVIER_STOKES.functional("drag"), lifting="top"),
            Functional("speed", lambda ops, q: q["u"] ** 2 + q["v"] ** 2, "1", "", on="top"),
        ),
        slip=("top", "bottom"),
    ),
    "plane_stress": Problem(
        PLANE_STRESS,
        sources={"u": lambda ops, q: q["y"]},
        natural=(Natural("v", "right", lambda ops, q: 1 + q["x"]),),
        functionals=(PLANE_STRESS.functional("compliance"),),
        slip=("top", "bottom", "left"),
    ),
}
STEPS = 0.02 * 0.5 ** np.arange(1, 3)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_adjoint_and_tangent_are_those_of_solvers_built_anew(name):
    """Walls curved and moving: normals, cell heights and penalties have their derivatives too."""
    problem, mesh = DERIVATIVES[name], mapped_square(3, bulged)
    x, y = mesh.nodes.T
    velocity = np.stack([0.3 * np.cos(2 * x + y) + 0.4 * x * y, 0.5 * np.sin(x - 2 * y) + 0.2 * x**2], -1)
    solution = FemSolver(problem, mesh).solve()
    tangent = solution.tangent(velocity)
    fresh = [FemSolver(problem, mesh.moved(mesh.nodes + h * velocity)).solve() for h in STEPS]
    for functional in problem.functionals:
        key = functional.name
        slope = float((solution.gradient(key) * velocity).sum())
        assert slope == pytest.approx(tangent.values[key], rel=1e-9)
        change = np.array([moved.values[key] - solution.values[key] for moved in fresh])
        assert abs(change[0]) > 1e-3 * abs(solution.values[key]) * STEPS[0]
        remainders = np.abs(change - STEPS * slope)
        assert np.log2(remainders[-2] / remainders[-1]) == pytest.approx(2, abs=0.12), key
    for key, field in solution.fields.items():
        remainders = [
            np.linalg.norm(moved.fields[key] - field - h * tangent.fields[key])
            for moved, h in zip(fresh, STEPS, strict=True)
        ]
        assert np.log2(remainders[-2] / remainders[-1]) == pytest.approx(2, abs=0.12), key


def to_disc(points):
    """The unit square mapped to a disc around (0.3, -0.2), its sides to quarters of the circle."""
    x, y = 2 * points.T - 1
    return np.stack([0.3 + x * np.sqrt(1 - y**2 / 2), y * np.sqrt(1 - x**2 / 2) - 0.2], -1)


@pytest.mark.parametrize("physics", [PLANE_STRESS, PLANE_STRAIN])
def test_shift_along_parallel_walls_is_refused(physics):
    problem = Problem(physics, sources={"u": one}, slip=("top", "bottom"))
    with pytest.raises(SolveError, match="singular, it determines 'u' only up to a constant: give 'u' a "):
        FemSolver(problem, mapped_square(3)).solve()


def test_rotation_of_a_disc_that_slips_is_refused():
    """Its cells are no circle to rounding, but to what they resolve; a sector of it cannot turn."""
    turning = Problem(PLANE_STRESS, sources={"u": lambda ops, q: -q["y"], "v": lambda ops, q: q["x"]}, slip=SIDES)
    for n in (3, 6):
        mesh = mapped_square(n, to_disc)
        with pytest.raises(SolveError, match=r"'u' and 'v' only up to a rotation about \(.*hold 'u' or 'v'"):
            FemSolver(turning, mesh).solve()
        longer = mesh.moved(mesh.nodes * [1.2, 1.0])
        assert np.abs(FemSolver(turning, longer).solve().fields["displacement"]).max() < 100


def test_flow_in_a_closed_vessel_that_slips():
    """Pressure has no level, and in a disc the fluid may turn."""
    stirred = Problem(STOKES, sources={"u": lambda ops, q: -q["y"] ** 3}, slip=SIDES)
    with pytest.raises(SolveError, match="'p' only up to a constant"):
        FemSolver(stirred, mapped_square(3)).solve()
    pinned = replace(stirred, pins=(Pin("p", "left"),))
    assert np.abs(FemSolver(pinned, mapped_square(3)).solve().fields["velocity"]).max() > 1e-4
    with pytest.raises(SolveError, match="rotation"):
        FemSolver(pinned, mapped_square(4, to_disc)).solve()


def test_what_cannot_slip_is_refused():
    with pytest.raises(ProblemError, match="physics 'poisson' has no vector field that could slip on 'left'"):
        Problem(POISSON, slip=("left",))
    with pytest.raises(ProblemError, match="'v' has a boundary value on 'left', along which it slips; give one"):
        Problem(STOKES, dirichlet=(Dirichlet("v", "left", zero),), slip=("left",))
    with pytest.raises(ProblemError, match="'u' has a natural condition on 'left', along which it slips"):
        Problem(PLANE_STRESS, natural=(Natural("u", "left", one),), slip=("left",))
    with pytest.raises(ProblemError, match="unknown boundary tag 'wall'"):
        FemSolver(Problem(PLANE_STRESS, slip=("wall",)), mapped_square(3))
