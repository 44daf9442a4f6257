"""Promise: the surrogate's side evaluates every functional as the finite-element solver does, with exact gradients.

Fed with the solver's own nodal fields, so that nothing is left but the quadrature. A functional that is wrong in
both would pass: known values are the matter of ``tests/solvers``.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.plate_with_hole import plate_with_hole
from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import NAVIER_STOKES, PLANE_STRESS
from shapewright.solvers.physics.smooth_maximum import kreisselmeier_steinhauser, p_norm
from shapewright.surrogate.models.functionals import integrate, integrate_all
from tests.geometries.shapes import taylor_order
from tests.solvers.solver_cases import CASES
from tests.solvers.solver_meshes import bulged, mapped_square

MESH = mapped_square(6, bulged)


def constant(value):
    return lambda ops, q: value


def space_of(physics, coefficients=None, sources=None, parameters=None):
    known = {c.name: constant(c.default) for c in physics.coefficients} | dict(coefficients or {})
    return FieldSpace(physics.components, known, sources or {}, parameters or {})


@pytest.mark.parametrize("name", CASES)
def test_fields_of_finite_elements_give_their_functionals(name):
    """Sources, parameters, liftings and smooth maxima among them.

    Along a boundary the rule is the solver's own, so that smooth maxima agree to rounding; inside it is another one,
    which the 16th power of a stress on coarse cells shows most.
    """
    problem = CASES[name]
    solution = FemSolver(problem, MESH).solve()
    fields = np.concatenate([solution.fields[f.name] for f in problem.physics.fields], -1)
    space = space_of(problem.physics, problem.coefficients, problem.sources, problem.parameters)
    nodes = torch.from_numpy(solution.nodes)[None]
    values = integrate_all(problem.functionals, space, MESH, nodes, torch.from_numpy(fields)[None])[0]
    for functional, value in zip(problem.functionals, values.tolist(), strict=True):
        inside = 3e-3 if functional.outer else 1e-4
        tolerance = 1e-12 if functional.on and functional.outer else inside
        assert value == pytest.approx(solution.values[functional.name], rel=tolerance), functional.name


@pytest.fixture(scope="module")
def plate():
    return build_shape_map(plate_with_hole(), 0.4)


def along_x(ops, q):
    return q["youngs_modulus"] * q["u_x"] * q["nx"] ** 2


FUNCTIONALS = {
    "ks": (PLANE_STRESS, kreisselmeier_steinhauser("ks", along_x, "1", "", sharpness=20.0, on="hole")),
    "p-norm": (PLANE_STRESS, p_norm("p", along_x, "1", "", exponent=16, on="hole", scale=2.0)),
    "von Mises": (PLANE_STRESS, PLANE_STRESS.functional("peak_von_mises")),
    "lift": (NAVIER_STOKES, NAVIER_STOKES.functional("lift").at("body")),
}


def fields_of(nodes, count):
    """Smooth functions of the place, so that they move with the shape."""
    x, y = nodes.unbind(-1)
    return torch.stack([torch.sin(0.3 * x + k) * torch.cos(0.2 * y - k) + 0.1 * x for k in range(count)], -1)


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_gradients_in_the_design_are_exact(plate, name):
    """Taylor remainder of second order, and forward mode gives the same slope as reverse mode."""
    physics, functional = FUNCTIONALS[name]
    if functional.lifting is not None:  # of the family's own region
        functional = replace(functional, lifting="hole")
    space, theta = space_of(physics), plate.family.reference
    direction = torch.linspace(0.3, -0.2, len(theta), dtype=torch.float64)

    def value(design):
        nodes = plate.nodes(design[None])
        return integrate(functional, space, plate.mesh, nodes, fields_of(nodes, len(physics.components)))[0]

    assert taylor_order(value, theta, direction, (3e-2, 1e-2, 3e-3, 1e-3)) == pytest.approx(2, abs=0.1)
    slope = torch.func.jvp(value, (theta,), (direction,))[1]
    assert float(slope) == pytest.approx(float(torch.func.grad(value)(theta) @ direction), rel=1e-10)
    assert abs(float(slope)) > 1e-3


def test_single_precision_bears_the_exponentials(plate):
    """exp(20 * 8) is beyond single precision, in which surrogates are trained."""
    space, nodes = space_of(PLANE_STRESS), plate.reference_nodes[None]
    fields = 80 * fields_of(nodes, 2)
    _, functional = FUNCTIONALS["ks"]
    double = float(integrate(functional, space, plate.mesh, nodes, fields))
    single = integrate(functional, space, plate.mesh, nodes.float(), fields.float())
    assert single.dtype == torch.float32
    assert double > math.log(torch.finfo(torch.float32).max) / 20
    assert float(single) == pytest.approx(double, rel=1e-4)
