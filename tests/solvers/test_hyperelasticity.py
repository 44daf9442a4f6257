"""Rubber: uniform deformations, the limit of small ones, and what is no deformation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import HYPERELASTICITY, PLANE_STRAIN, POISSON, Dirichlet, Problem
from tests.solvers.solver_cases import RUBBER, TORSION, zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square

MU, KAPPA = 1 / (2 * 1.49), 1 / (3 * 0.02)


def strain_energy(f):
    j = np.linalg.det(f)
    return MU / 2 * (np.trace(f.T @ f) / j - 2) + KAPPA / 2 * (j - 1) ** 2


@pytest.mark.parametrize("f", [[[1.2, 0.1], [-0.05, 0.9]], [[0.8, 0.3], [0.0, 1.25]], [[0.0, -1.0], [1.0, 0.0]]])
def test_uniform_deformation_is_exact(f):
    """The last one is a rotation by a right angle, reached by load steps and free of energy."""
    f = np.array(f)
    slope = f - np.eye(2)
    conditions = tuple(
        Dirichlet(c, side, lambda ops, q, row=row: row[0] * q["x"] + row[1] * q["y"])
        for side in SIDES
        for c, row in zip("uv", slope, strict=True)
    )
    functionals = (HYPERELASTICITY.functional("strain_energy"), HYPERELASTICITY.functional("area"))
    mesh = mapped_square(4, bulged)
    solution = FemSolver(Problem(HYPERELASTICITY, dirichlet=conditions, functionals=functionals), mesh).solve()
    np.testing.assert_allclose(solution.fields["displacement"], mesh.nodes @ slope.T, atol=1e-9)
    expected = strain_energy(f) * solution.values["area"]
    assert solution.values["strain_energy"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_uniaxial_compression_between_smooth_plates():
    """Free sides: the width follows from no stress across, the force from the derivative of the energy."""
    height, step = 0.8, 1e-6

    def energy(width, height):
        return strain_energy(np.diag([width, height]))

    width = brentq(lambda w: energy(w + step, height) - energy(w - step, height), 1.0, 1.5, xtol=1e-14)
    force = (energy(width, height + step) - energy(width, height - step)) / (2 * step)
    problem = Problem(
        HYPERELASTICITY,
        dirichlet=(
            Dirichlet("v", "bottom", zero),
            Dirichlet("u", "left", zero),
            Dirichlet("v", "top", lambda ops, q: height - 1),
        ),
        functionals=(HYPERELASTICITY.functional("top_force").at("top"),),
    )
    mesh = mapped_square(4)
    solution = FemSolver(problem, mesh).solve()
    expected = mesh.nodes * [width - 1, height - 1]
    np.testing.assert_allclose(solution.fields["displacement"], expected, atol=1e-8)
    assert solution.values["top_force"] == pytest.approx(force, rel=1e-7)


def test_small_loads_deform_as_linear_elasticity():
    """The elastic constants that have the same shear modulus, and lambda + mu = kappa; the difference is quadratic."""
    nu = (KAPPA - MU) / (2 * KAPPA)
    linear = replace(
        RUBBER,
        physics=PLANE_STRAIN,
        coefficients={"youngs_modulus": lambda ops, q: 2 * MU * (1 + nu), "poisson_ratio": lambda ops, q: nu},
        functionals=(),
    )
    differences = []
    for size in (1e-3, 5e-4):
        scaled = {
            "sources": {},
            "natural": (),
            "dirichlet": (*RUBBER.dirichlet[:3], Dirichlet("v", "top", lambda ops, q, size=size: -size)),
        }
        mesh = mapped_square(4, bulged)
        fields = [FemSolver(replace(p, **scaled), mesh).solve().fields["displacement"] for p in (RUBBER, linear)]
        differences.append(np.abs(fields[0] - fields[1]).max())
        assert differences[-1] < 5 * size**2
    assert differences[0] / differences[1] == pytest.approx(4, rel=0.05)


def test_everted_solution_is_refused():
    """The top pushed through the bottom: no load step leads there, and no answer is made up."""
    with pytest.raises(SolveError, match=r"smaller load steps reached 0\.\d+ of the load"):
        FemSolver(RUBBER, mapped_square(3)).solve(parameters={"load": 1.5})


def test_solution_that_is_not_admissible():
    """What must stay positive is looked at inside the cells of every solution, also of a linear problem."""
    warped = replace(POISSON, admissible=lambda ops, q: 0.1 - q["u"])
    with pytest.raises(SolveError, match=r"'poisson' is not admissible: what must stay positive is -0\.0"):
        FemSolver(replace(TORSION, physics=warped), mapped_square(3)).solve()
    mild = replace(TORSION, physics=warped, sources={"u": lambda ops, q: 1.0})
    FemSolver(mild, mapped_square(3)).solve()
