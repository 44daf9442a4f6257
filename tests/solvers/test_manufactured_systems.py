"""Manufactured solutions of the nonlinear and the vector-valued physics: each unknown with its element's order.

The equations are written out here again, the stress of rubber as the derivative of its energy.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import sympy

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import (
    HYPERELASTICITY,
    NAVIER_STOKES,
    NONLINEAR_POISSON,
    PLANE_STRAIN,
    PLANE_STRESS,
)
from tests.solvers.solver_meshes import bulged, mapped_square
from tests.solvers.sympy_solutions import X, Y, gradient, problem_with_solution

DISPLACEMENT = {"u": sympy.sin(2 * X) * sympy.cos(Y) / 10, "v": (X * Y + sympy.cos(X + Y)) / 10}


def conduction():
    u = sympy.sin(2 * X) * sympy.cos(Y) + X
    return problem_with_solution(NONLINEAR_POISSON, {"u": u}, (1 + u**2 / 10) * gradient({"u": u}))


def rubber():
    """Derivative of mu/2 (J^(-1) I_C - 2) + kappa/2 (J - 1)^2 by the deformation gradient."""
    f = sympy.Matrix(2, 2, sympy.symbols("f:4"))
    mu, kappa = 1 / (2 * 1.3), 1 / (3 * 0.4)
    j, invariant = f.det(), (f.T * f).trace()
    psi = mu / 2 * (invariant / j - 2) + kappa / 2 * (j - 1) ** 2
    deformed = sympy.eye(2) + gradient(DISPLACEMENT)
    stress = sympy.Matrix(2, 2, [sympy.diff(psi, entry) for entry in f]).subs(dict(zip(f, deformed, strict=True)))
    return problem_with_solution(HYPERELASTICITY, DISPLACEMENT, stress, coefficients={"poisson_ratio": 0.3})


def plate():
    """epsilon = ((1 + nu) sigma - nu tr(sigma) I) / E, solved for sigma."""
    e, nu = 2.5, 0.35
    strain = (gradient(DISPLACEMENT) + gradient(DISPLACEMENT).T) / 2
    trace = e / (1 - nu) * strain.trace()
    stress = (e * strain + nu * trace * sympy.eye(2)) / (1 + nu)
    return problem_with_solution(
        PLANE_STRESS, DISPLACEMENT, stress, coefficients={"youngs_modulus": e, "poisson_ratio": nu}
    )


def prism():
    """Hooke's law in three dimensions with no strain along z."""
    e, nu = 2.5, 0.35
    strain = ((gradient(DISPLACEMENT) + gradient(DISPLACEMENT).T) / 2).row_join(sympy.zeros(2, 1))
    strain = strain.col_join(sympy.zeros(1, 3))
    stress = e / (1 + nu) * (strain + nu / (1 - 2 * nu) * strain.trace() * sympy.eye(3))
    return problem_with_solution(
        PLANE_STRAIN, DISPLACEMENT, stress[:2, :2], coefficients={"youngs_modulus": e, "poisson_ratio": nu}
    )


def kovasznay():
    """Flow behind a grid at Reynolds 40: L. I. G. Kovasznay, Proc. Camb. Phil. Soc. 44 (1948) 58."""
    nu = 1 / 40
    rate = 20 - float(np.sqrt(400 + 4 * np.pi**2))
    decay = sympy.exp(rate * X)
    exact = {
        "u": 1 - decay * sympy.cos(2 * sympy.pi * Y),
        "v": rate / (2 * sympy.pi) * decay * sympy.sin(2 * sympy.pi * Y),
        "p": (1 - decay**2) / 2,
    }
    slope, velocity = gradient(exact), sympy.Matrix([exact["u"], exact["v"]])
    flux = nu * slope[:2, :] - exact["p"] * sympy.eye(2)
    inertia = -slope[:2, :] * velocity
    problem = problem_with_solution(
        NAVIER_STOKES, exact, flux, dict(zip("uv", inertia, strict=True)), coefficients={"viscosity": nu}
    )
    for source in problem.sources.values():  # an exact solution needs none
        assert abs(source(np, {"x": 0.3, "y": 0.7})) < 1e-12
    return problem


def observed_orders(problem, sizes):
    errors = []
    for n in sizes:
        values = FemSolver(problem, mapped_square(n, bulged), quadrature_degree=8).solve().values
        errors.append({name: np.sqrt(value) for name, value in values.items()})
    ratio = np.log(sizes[1] / sizes[0])
    return {name: [np.log(a[name] / b[name]) / ratio for a, b in pairwise(errors)] for name in errors[0]}


@pytest.mark.parametrize("make", [conduction, rubber, plate, prism])
def test_second_degree_fields_converge_with_order_three(make):
    for name, orders in observed_orders(make(), (8, 16)).items():
        assert orders[-1] == pytest.approx(3, abs=0.15), name


def test_kovasznay_orders():
    orders = observed_orders(kovasznay(), (24, 48))
    assert orders["u"][-1] == pytest.approx(3, abs=0.2)
    assert orders["v"][-1] == pytest.approx(3, abs=0.2)
    assert orders["p"][-1] == pytest.approx(2, abs=0.2)
