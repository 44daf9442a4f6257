"""Promise: formulas with conditions have exact derivatives by state and shape, and integrals that vanish are zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import Functional, Natural
from shapewright.studies.schema.expressions import parse
from tests.solvers.solver_cases import CONDUCTION
from tests.solvers.solver_meshes import bulged, mapped_square

MESH = mapped_square(4, bulged)
QUANTITIES = ("x", "y", "u", "u_x", "u_y", "nx", "ny", "conductivity")


def formula(text):
    return parse(text, QUANTITIES, "formula")


CONDITIONAL = replace(
    CONDUCTION,
    coefficients={"conductivity": formula("where(u > 0.2 and x < 0.7, 1 + u**2, 1 + 0.04 + (u - 0.2)**2)")},
    sources={"u": formula("where((x > 0.3) | (y > 0.6), sqrt(x + y) + u, 1)")},
    natural=(Natural("u", "top", formula("where(u > 0.3, -sqrt(u), 1/(1 + u**2))")),),
    functionals=(
        Functional("inside", formula("where(x < y, log(2 + x)*u**2, u)"), "1", ""),
        Functional("rim", formula("where(y < 0.4 < x + 1, u*nx, (u_x*nx + u_y*ny)**2)"), "1", "", on="left"),
        Functional("safe", formula("where(x > 0.4, (x - 0.4)**1.5*u, exp(-500*x)*u)"), "1", ""),
    ),
)
MOVED = np.stack([np.sin(3 * MESH.nodes[:, 1]), np.cos(2 * MESH.nodes[:, 0])], -1)


@pytest.mark.parametrize("name", [functional.name for functional in CONDITIONAL.functionals])
def test_gradients_and_tangents_are_those_of_values_made_anew(name):
    """With steps so small that no quadrature point changes sides."""
    solver = FemSolver(CONDITIONAL, MESH)
    solution = solver.solve()
    slope = float((solution.gradient(name) * MOVED).sum())
    assert solution.tangent(MOVED).values[name] == pytest.approx(slope, rel=1e-9)
    values = [FemSolver(CONDITIONAL, MESH.moved(MESH.nodes + h * MOVED)).solve().values[name] for h in (1e-5, -1e-5)]
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_a_condition_gives_what_it_says():
    """The area right of a line that the cells follow, and by torch the same at every point."""
    square = mapped_square(4)
    right = Functional("right", formula("where(x > 0.5, 2, 0.5)"), "1", "")
    both = Functional("both", formula("where((x > 0.5) & (y > 0.25), 1, 0)"), "1", "")
    either = Functional("either", formula("where((x > 0.5) | (y > 0.25), 1, 0)"), "1", "")
    solution = FemSolver(replace(CONDUCTION, functionals=(right, both, either)), square).solve()
    assert solution.values["right"] == pytest.approx(1.25, rel=1e-12)
    assert solution.values["both"] == pytest.approx(0.375, rel=1e-12)
    assert solution.values["either"] == pytest.approx(0.875, rel=1e-12)


def test_an_integral_that_vanishes_is_zero_with_zero_derivatives():
    """UFL drops it, so that there is no form to compile."""
    zero = Functional("zero", lambda ops, q: 0 * q["u"], "1", "")
    solution = FemSolver(replace(CONDUCTION, functionals=(zero,)), MESH).solve()
    assert solution.values["zero"] == 0.0
    assert not solution.gradient("zero").any()
    assert solution.tangent(MOVED).values["zero"] == 0.0
