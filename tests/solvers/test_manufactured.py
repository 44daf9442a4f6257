"""Manufactured solutions on curved cells: each unknown converges with the order of its element."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import POISSON, STOKES, Dirichlet, Functional, Natural, Problem
from tests.solvers.solver_meshes import bulged, mapped_square, quarter_annulus


def observed_orders(problem, mapping, sizes):
    """Functional -> orders at which its square root falls between consecutive meshes."""
    errors = []
    for n in sizes:
        values = FemSolver(problem, mapped_square(n, mapping), quadrature_degree=8).solve().values
        errors.append({name: np.sqrt(value) for name, value in values.items()})
    ratio = np.log(sizes[1] / sizes[0])
    return {name: [np.log(a[name] / b[name]) / ratio for a, b in pairwise(errors)] for name in errors[0]}


def conduction_problem():
    """u = sin 2x cos y with conductivity 1 + x y / 2, and every kind of boundary condition."""

    def exact(ops, q):
        return ops.sin(2 * q["x"]) * ops.cos(q["y"])

    def slope(ops, q):
        return 2 * ops.cos(2 * q["x"]) * ops.cos(q["y"]), -ops.sin(2 * q["x"]) * ops.sin(q["y"])

    def conductivity(ops, q):
        return 1 + q["x"] * q["y"] / 2

    def source(ops, q):
        ux, uy = slope(ops, q)
        return -(q["y"] / 2 * ux + q["x"] / 2 * uy - 5 * conductivity(ops, q) * exact(ops, q))

    def flux(ops, q):
        ux, uy = slope(ops, q)
        return conductivity(ops, q) * (ux * q["nx"] + uy * q["ny"])

    def slope_error(ops, q):
        ux, uy = slope(ops, q)
        return (q["u_x"] - ux) ** 2 + (q["u_y"] - uy) ** 2

    return Problem(
        POISSON,
        coefficients={"conductivity": conductivity},
        sources={"u": source},
        dirichlet=(Dirichlet("u", "left", exact), Dirichlet("u", "bottom", exact)),
        natural=(
            Natural("u", "top", flux),
            Natural("u", "right", lambda ops, q: flux(ops, q) + 3 * (exact(ops, q) - q["u"])),
        ),
        functionals=(
            Functional("value", lambda ops, q: (q["u"] - exact(ops, q)) ** 2, "1", "squared error"),
            Functional("slope", slope_error, "1", "squared error of the gradient"),
            Functional("trace", lambda ops, q: (q["u"] - exact(ops, q)) ** 2, "1", "on Robin", on="right"),
        ),
    )


def stokes_problem():
    """u = sin x cos y, v = -cos x sin y, p = sin(x + 2 y), viscosity 0.5, traction given on one side."""
    nu = 0.5

    def velocity(ops, q):
        return ops.sin(q["x"]) * ops.cos(q["y"]), -ops.cos(q["x"]) * ops.sin(q["y"])

    def pressure(ops, q):
        return ops.sin(q["x"] + 2 * q["y"])

    def traction_u(ops, q):
        ux, uy = ops.cos(q["x"]) * ops.cos(q["y"]), -ops.sin(q["x"]) * ops.sin(q["y"])
        return nu * (ux * q["nx"] + uy * q["ny"]) - pressure(ops, q) * q["nx"]

    def traction_v(ops, q):
        vx, vy = ops.sin(q["x"]) * ops.sin(q["y"]), -ops.cos(q["x"]) * ops.cos(q["y"])
        return nu * (vx * q["nx"] + vy * q["ny"]) - pressure(ops, q) * q["ny"]

    def velocity_error(ops, q):
        u, v = velocity(ops, q)
        return (q["u"] - u) ** 2 + (q["v"] - v) ** 2

    walls = ("left", "bottom", "top")
    return Problem(
        STOKES,
        coefficients={"viscosity": lambda ops, q: nu},
        sources={
            "u": lambda ops, q: ops.cos(q["x"] + 2 * q["y"]) + 2 * nu * velocity(ops, q)[0],
            "v": lambda ops, q: 2 * ops.cos(q["x"] + 2 * q["y"]) + 2 * nu * velocity(ops, q)[1],
        },
        dirichlet=tuple(
            Dirichlet(c, wall, lambda ops, q, k=k: velocity(ops, q)[k])
            for wall in walls
            for k, c in enumerate(("u", "v"))
        ),
        natural=(Natural("u", "right", traction_u), Natural("v", "right", traction_v)),
        functionals=(
            Functional("velocity", velocity_error, "1", "squared error"),
            Functional("pressure", lambda ops, q: (q["p"] - pressure(ops, q)) ** 2, "1", "squared error"),
        ),
    )


@pytest.mark.parametrize("mapping", [bulged, quarter_annulus])
def test_poisson_orders(mapping):
    orders = observed_orders(conduction_problem(), mapping, (5, 10, 20))
    assert orders["value"][-1] == pytest.approx(3, abs=0.15)
    assert orders["slope"][-1] == pytest.approx(2, abs=0.15)
    assert orders["trace"][-1] > 2.8


@pytest.mark.parametrize("mapping", [bulged, quarter_annulus])
def test_stokes_orders(mapping):
    orders = observed_orders(stokes_problem(), mapping, (16, 32))
    assert orders["velocity"][-1] == pytest.approx(3, abs=0.2)
    assert orders["pressure"][-1] == pytest.approx(2, abs=0.1)
