"""Published flows at Reynolds 20 and 100: they say whether the equations are those of Navier and Stokes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shapewright.geometries.cad.mesher import mesh_family
from shapewright.geometries.family.body_in_channel import body_in_channel
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import NAVIER_STOKES, STOKES, Dirichlet, Pin, Problem
from tests.solvers.solver_cases import zero
from tests.solvers.solver_meshes import mapped_square


@pytest.fixture(scope="module")
def cylinder():
    """The laminar flow around a cylinder that M. Schaefer and S. Turek set (1996), case 2D-1, Reynolds 20."""
    family = body_in_channel(length=2.2, height=0.41, radius=0.05, center=(0.2, 0.2), control_points=48)
    mesh = mesh_family(family, family.control_points(family.default).numpy(), 0.005)
    problem = Problem(
        NAVIER_STOKES,
        coefficients={"viscosity": lambda ops, q: 1e-3},
        dirichlet=(
            Dirichlet("u", "inlet", lambda ops, q: 4 * 0.3 * q["y"] * (0.41 - q["y"]) / 0.41**2),
            Dirichlet("v", "inlet", zero),
            *(Dirichlet(c, tag, zero) for tag in ("wall", "body") for c in "uv"),
        ),
        functionals=(
            NAVIER_STOKES.functional("drag").at("body"),
            NAVIER_STOKES.functional("lift").at("body"),
            replace(STOKES.functional("drag").at("body"), name="surface_drag"),
        ),
    )
    return FemSolver(problem, mesh).solve()


def test_forces_on_a_cylinder(cylinder):
    """c_D = 5.57953523, c_L = 0.01061895: G. Nabh, preprint 42/98, Heidelberg (1998).

    Force over 1/2 density U^2 D = 0.002; U = 0.2, D = 0.1.
    """
    assert cylinder.values["drag"] / 0.002 == pytest.approx(5.57953523, rel=1e-4)
    assert cylinder.values["lift"] / 0.002 == pytest.approx(0.01061895, rel=5e-3)


def test_weak_form_is_nearer_than_the_surface_integral(cylinder):
    weak, surface = (abs(cylinder.values[name] / 0.002 - 5.57953523) for name in ("drag", "surface_drag"))
    assert weak < surface / 5
    assert surface < 0.05 * 5.58  # of one and the same force


def test_lid_driven_cavity():
    """Extremes of the velocity on the centre lines at Reynolds 100: U. Ghia, K. N. Ghia, C. T. Shin,
    J. Comput. Phys. 48 (1982) 387, tables I and II, on a grid of 129 points, whose own error is about 2 %.
    """
    walls = tuple(Dirichlet(c, side, zero) for side in ("left", "right", "bottom") for c in "uv")
    problem = Problem(
        NAVIER_STOKES,
        coefficients={"viscosity": lambda ops, q: 0.01},
        # the walls last: a lid that moves its corners lets 5 % of the flow through them
        dirichlet=(Dirichlet("u", "top", lambda ops, q: 1.0), Dirichlet("v", "top", zero), *walls),
        pins=(Pin("p", "bottom"),),
    )
    mesh = mapped_square(32)
    velocity = FemSolver(problem, mesh).solve().fields["velocity"]
    u = velocity[np.isclose(mesh.nodes[:, 0], 0.5), 0]
    v = velocity[np.isclose(mesh.nodes[:, 1], 0.5), 1]
    assert u.min() == pytest.approx(-0.21090, rel=0.025)
    assert v.max() == pytest.approx(0.17527, rel=0.035)
    assert v.min() == pytest.approx(-0.24533, rel=0.045)
