"""Values known in closed form: they say whether the equations solved are the ones named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import POISSON, STOKES, Dirichlet, Functional, Problem
from tests.solvers.solver_cases import TORSION, zero
from tests.solvers.solver_meshes import SIDES, identity, mapped_square, quarter_annulus


def test_torsional_constant_of_the_unit_square():
    """Saint-Venant's series for a square of side 1: 0.140577."""
    odd = np.arange(1, 60, 2)
    exact = 1 / 3 - 64 / np.pi**5 * (np.tanh(odd * np.pi / 2) / odd**5).sum()
    assert exact == pytest.approx(2.2492 / 16, abs=5e-6)
    values = FemSolver(TORSION, mapped_square(16)).solve().values
    assert values["torsional_constant"] == pytest.approx(exact, rel=3e-5)
    # the work of the source 2 is the integral of 2 u
    assert values["compliance"] == pytest.approx(values["torsional_constant"], rel=1e-12)


def test_quadratic_solution_is_exact_at_every_node():
    def exact(ops, q):
        return q["x"] ** 2 + q["x"] * q["y"] - 3 * q["y"] ** 2

    problem = Problem(
        POISSON, sources={"u": lambda ops, q: 4.0}, dirichlet=tuple(Dirichlet("u", s, exact) for s in SIDES)
    )
    mesh = mapped_square(5)
    x, y = mesh.nodes.T
    fields = FemSolver(problem, mesh).solve().fields
    assert fields["u"].shape == (len(mesh.nodes), 1)
    np.testing.assert_allclose(fields["u"][:, 0], x**2 + x * y - 3 * y**2, atol=1e-12)


def test_heat_through_a_quarter_annulus():
    """u = ln r / ln 2 between radii 1 and 2: the flux through a quarter is (pi / 2) / ln 2."""
    problem = Problem(
        POISSON,
        dirichlet=(Dirichlet("u", "left", zero), Dirichlet("u", "right", lambda ops, q: 1.0)),
        functionals=(POISSON.functional("compliance"), POISSON.functional("area")),
    )
    values = FemSolver(problem, mapped_square(16, quarter_annulus)).solve().values
    assert values["compliance"] == pytest.approx(0.5 * np.pi / np.log(2), rel=1e-6)
    assert values["area"] == pytest.approx(0.75 * np.pi, rel=1e-6)


def test_plane_poiseuille_flow_is_exact():
    """u = y (1 - y), p = 2 nu (1 - x) in a unit channel: dissipation and pumping power nu / 3, drag nu."""
    nu = 0.7
    problem = Problem(
        STOKES,
        coefficients={"viscosity": lambda ops, q: nu},
        dirichlet=(
            *(Dirichlet(c, side, zero) for side in ("top", "bottom") for c in "uv"),
            Dirichlet("u", "left", lambda ops, q: q["y"] * (1 - q["y"])),
            Dirichlet("v", "left", zero),
        ),
        functionals=(
            STOKES.functional("dissipation"),
            replace(STOKES.functional("pumping_power"), on="left"),
            replace(STOKES.functional("inlet_pressure"), on="left"),
            replace(STOKES.functional("drag"), on="bottom"),
            Functional("outflow", lambda ops, q: q["u"] * q["nx"], "m^2/s", "", on="right"),
        ),
    )
    mesh = mapped_square(4, identity)
    solution = FemSolver(problem, mesh).solve()
    x, y = mesh.nodes.T
    np.testing.assert_allclose(solution.fields["velocity"][:, 0], y * (1 - y), atol=1e-12)
    np.testing.assert_allclose(solution.fields["velocity"][:, 1], 0, atol=1e-12)
    np.testing.assert_allclose(solution.fields["pressure"][:, 0], 2 * nu * (1 - x), atol=1e-11)
    assert solution.values == pytest.approx(
        {
            "dissipation": nu / 3,
            "pumping_power": nu / 3,
            "inlet_pressure": 2 * nu,
            "drag": nu,
            "outflow": 1 / 6,
        },
        abs=1e-11,
    )
