"""Coefficients outside the values for which a physics has a meaning are refused, by name and position."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
import torch

from shapewright.geometries.fields.admissible import excess
from shapewright.geometries.fields.interval import Interval
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.data_checks import excesses, refusal
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import PHYSICS, Dirichlet, Problem
from tests.solvers.solver_cases import TORSION, zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square

MESH = mapped_square(3, bulged)

REFUSED = {
    ("poisson", "conductivity"): (-1.0, 0.0, nan, inf),
    ("nonlinear_poisson", "nonlinearity"): (-0.1,),
    ("stokes", "viscosity"): (-1.0, 0.0),
    ("navier_stokes", "viscosity"): (-1.0, 0.0),
    ("navier_stokes", "density"): (-1e-3,),
    ("plane_stress", "youngs_modulus"): (-1.0, 0.0),
    ("plane_stress", "poisson_ratio"): (-1.0, 0.51, 0.7, 2.0),
    ("plane_stress", "density"): (-1.0,),
    ("plane_stress", "reference_stress"): (0.0, -2.0),
    ("plane_strain", "youngs_modulus"): (-1.0, 0.0),
    ("plane_strain", "poisson_ratio"): (-1.0, 0.5, 0.7, 2.0),
    ("plane_strain", "density"): (-1.0,),
    ("plane_strain", "reference_stress"): (0.0,),
    ("hyperelasticity", "youngs_modulus"): (-1.0, 0.0),
    ("hyperelasticity", "poisson_ratio"): (-1.0, 0.5, 0.7),
}


def clamped(physics, name, value):
    everything = tuple(Dirichlet(c, side, zero) for c in physics.components[:2] for side in SIDES[:3])
    return Problem(physics, coefficients={name: value}, dirichlet=everything)


@pytest.mark.parametrize(("physics", "name"), REFUSED)
def test_constants_outside_are_refused(physics, name):
    for value in REFUSED[physics, name]:
        problem = clamped(PHYSICS[physics], name, lambda ops, q, value=value: value)
        (found,) = excesses(problem, MESH, MESH.nodes, {})
        assert refusal(found).startswith(f"the coefficient '{name}' is {value:g}; allowed is a ")


def test_parameter_that_makes_a_constant_inadmissible():
    """Half a Poisson's ratio is no traceback, and the next value is solved."""
    problem = replace(clamped(PHYSICS["plane_strain"], "poisson_ratio", lambda ops, q: q["k"]), parameters={"k": 0.3})
    solver = FemSolver(problem, MESH)
    with pytest.raises(SolveError, match=r"'poisson_ratio' is 0\.5; allowed is a number above -1 and below 0\.5"):
        solver.solve(parameters={"k": 0.5})
    assert not solver.solve().fields["displacement"].any()


def test_every_coefficient_has_its_values():
    assert set(REFUSED) == {(p.name, c.name) for p in PHYSICS.values() for c in p.coefficients}
    for physics in PHYSICS.values():
        for coefficient in physics.coefficients:
            assert excess(coefficient.name, coefficient.allowed, coefficient.default, {}) is None


def test_ends_of_an_interval():
    values = torch.tensor([-1.0, 0.0, 0.5, nan, inf])
    assert Interval(-1.0, 0.5).contains(values).tolist() == [False, True, False, False, False]
    assert Interval(-1.0, 0.5, closed="both").contains(values).tolist() == [True, True, True, False, False]
    assert Interval(0.0).contains(values).tolist() == [False, False, True, False, False]
    assert Interval(-1.0, 0.5, closed="below").text == "a number above -1 and at most 0.5"
    assert Interval(0.0, closed="above").text == "a number at least 0"


def test_incompressible_plate_is_solved():
    """Plane stress has no pole at 1/2: the plate gives way across its plane."""
    physics = PHYSICS["plane_stress"]
    problem = clamped(physics, "poisson_ratio", lambda ops, q: 0.5)
    assert FemSolver(replace(problem, sources={"u": lambda ops, q: 1.0}), MESH).solve().fields["displacement"].max() > 0


def test_formula_is_refused_where_the_shape_takes_it_out_of_range():
    """On the reference mesh it is admissible; on a mesh that moved it is not, and the next shape is solved again."""
    solver = FemSolver(replace(TORSION, coefficients={"conductivity": lambda ops, q: 3 - q["x"]}), MESH)
    value = solver.solve().values["compliance"]
    with pytest.raises(SolveError, match=r"'conductivity' is -0\.\d+ at x = 3\.\d+, y = .*a number above 0"):
        solver.solve(MESH.nodes + np.array([2.5, 0]))
    assert solver.solve().values["compliance"] == value


def test_formula_of_the_solution_is_checked_at_the_solution():
    falls = {"conductivity": lambda ops, q: 1 - q["strength"] * q["u"]}
    problem = replace(TORSION, coefficients=falls, parameters={"strength": 1.0})
    assert np.isfinite(FemSolver(problem, MESH).solve().fields["u"]).all()
    cold = replace(problem, dirichlet=tuple(Dirichlet("u", side, lambda ops, q: 3.0) for side in SIDES), sources={})
    with pytest.raises(SolveError, match=r"the coefficient 'conductivity' is -\d.* at x = "):
        FemSolver(cold, MESH).solve()
