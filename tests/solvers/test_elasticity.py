"""Linear elasticity against closed forms, against scikit-fem, and against the classical plate with a hole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skfem
import torch
from skfem.helpers import ddot, sym_grad, trace

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.plate_with_hole import plate_with_hole
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import PLANE_STRAIN, PLANE_STRESS, Dirichlet, Functional, Natural, Problem
from tests.solvers.solver_cases import PLATE, PRISM, zero
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square
from tests.solvers.test_independent import DEGREE, skfem_mesh


@pytest.mark.parametrize("physics", [PLANE_STRESS, PLANE_STRAIN])
def test_rigid_motions_are_free_of_stress(physics):
    conditions = tuple(Dirichlet("u", side, lambda ops, q: 0.2 - 0.3 * q["y"]) for side in SIDES)
    conditions += tuple(Dirichlet("v", side, lambda ops, q: 0.1 + 0.3 * q["x"]) for side in SIDES)
    problem = Problem(physics, dirichlet=conditions, functionals=(physics.functional("compliance"),))
    solution = FemSolver(problem, mapped_square(3, bulged)).solve()
    assert abs(solution.values["compliance"]) < 1e-25
    np.testing.assert_allclose(solution.fields["displacement"][:, 1], 0.1 + 0.3 * solution.nodes[:, 0], atol=1e-12)


@pytest.mark.parametrize(("physics", "out_of_plane"), [(PLANE_STRESS, 0.0), (PLANE_STRAIN, 0.3 * 3.0)])
def test_uniform_stress_by_natural_conditions_alone(physics, out_of_plane):
    """Stress (2, 1) with shear 1/2 on a curved body held by one corner of each kind: exact."""
    xx, yy, xy = 2.0, 1.0, 0.5
    problem = Problem(
        physics,
        dirichlet=tuple(
            Dirichlet(c, "left", formula) for c, formula in zip("uv", uniform_displacement(physics), strict=True)
        ),
        natural=tuple(
            Natural(c, side, lambda ops, q, row=row: row[0] * q["nx"] + row[1] * q["ny"])
            for side in SIDES[:3]
            for c, row in zip("uv", ((xx, xy), (xy, yy)), strict=True)
        ),
        functionals=(physics.functional("peak_von_mises"), physics.functional("area")),
    )
    values = FemSolver(problem, mapped_square(3, bulged)).solve().values
    deviator = ((xx - yy) ** 2 + (yy - out_of_plane) ** 2 + (out_of_plane - xx) ** 2) / 2 + 3 * xy**2
    assert values["peak_von_mises"] == pytest.approx(np.sqrt(deviator) * values["area"] ** (1 / 16), rel=1e-10)


def uniform_displacement(physics):
    """(u, v) of the stress above for E = 1, nu = 0.3, by the inverse of Hooke's law."""
    nu = 0.3
    zz = 0.0 if physics is PLANE_STRESS else nu * 3.0
    along, across, shear = 2.0 - nu * (1.0 + zz), 1.0 - nu * (2.0 + zz), 2 * (1 + nu) * 0.5
    return (lambda ops, q: along * q["x"] + shear * q["y"]), (lambda ops, q: across * q["y"])


def values_by_skfem(mesh, plane_strain):
    """Compliance of PLATE or PRISM, written out by hand."""
    grid, sides = skfem_mesh(mesh, mesh.nodes)
    element = skfem.ElementVector(skfem.ElementTriP2())
    basis = skfem.Basis(grid, element, intorder=DEGREE)
    at = {s: skfem.FacetBasis(grid, element, facets=sides[s], intorder=DEGREE) for s in sides}
    nu = 0.3

    @skfem.BilinearForm
    def stiffness(u, v, w):
        e = 2 + w.x[0]
        first = e * nu / ((1 + nu) * (1 - 2 * nu)) if plane_strain else e * nu / (1 - nu**2)
        a, b = sym_grad(u), sym_grad(v)
        return e / (1 + nu) * ddot(a, b) + first * trace(a) * trace(b)

    @skfem.LinearForm
    def weight(v, w):
        return -0.5 * v[1]

    @skfem.LinearForm
    def pull(v, w):
        return (w.n[0] + 0.2 * w.x[1]) * v[0]

    @skfem.LinearForm
    def press(v, w):
        return -0.3 * w.x[0] * v[1]

    matrix = stiffness.assemble(basis)
    right = pull.assemble(at["right"]) + press.assemble(at["top"]) + plane_strain * weight.assemble(basis)
    left = basis.get_dofs(sides["left"])
    state = basis.zeros()
    vertical = left.all(["u^2"])
    state[vertical] = 0.1 * basis.doflocs[0, vertical]
    state = skfem.solve(*skfem.condense(matrix, right, x=state, D=left.all()))
    return state @ matrix @ state


@pytest.mark.parametrize("problem", [PLATE, PRISM], ids=["plane_stress", "plane_strain"])
def test_compliance_agrees_with_scikit_fem(problem):
    mesh = mapped_square(5, bulged)
    ours = FemSolver(problem, mesh, quadrature_degree=DEGREE).solve().values["compliance"]
    assert ours == pytest.approx(values_by_skfem(mesh, problem.physics is PLANE_STRAIN), rel=2e-8)


def test_profile_along_a_boundary():
    solution = FemSolver(PLATE, mapped_square(4)).solve()
    line = solution.profile(lambda ops, q: q["y"] ** 2 * q["nx"] + 0 * q["u"], "right")
    assert line.maximum == pytest.approx(1, abs=0.01)
    assert line.minimum == pytest.approx(0, abs=1e-4)
    assert line.mean == pytest.approx(1 / 3, rel=1e-12)
    assert line.flatness == pytest.approx(3, abs=0.03)
    np.testing.assert_allclose(line.point_of_maximum, [1, 1], atol=0.01)
    assert line.weights.sum() == pytest.approx(1, rel=1e-12)
    square = Functional("square", lambda ops, q: q["u_x"] ** 2 * q["youngs_modulus"], "1", "", on="right")
    integral = FemSolver(replace(PLATE, functionals=(square,)), mapped_square(4)).solve().values["square"]
    profile = solution.profile(square.integrand, "right")
    assert profile.values @ profile.weights == pytest.approx(integral, rel=1e-12)


def test_profile_inside():
    peak = PLANE_STRESS.functional("peak_von_mises")
    solution = FemSolver(PLATE, mapped_square(4, bulged), quadrature_degree=12).solve()
    inside = solution.profile(peak.maximum_of)
    norm = (inside.values**16 @ inside.weights) ** (1 / 16)
    assert solution.values["peak_von_mises"] == pytest.approx(norm, rel=1e-4)
    assert inside.maximum > norm
    assert solution.profile(lambda ops, q: 1.0).weights.sum() == pytest.approx(solution.values["mass"], rel=1e-6)


@pytest.fixture(scope="module")
def wide_plate():
    """A plate of 40 hole radii under tension 2 along x and 1 along y, held by springs of 1e-6 of its stiffness."""
    shape_map = build_shape_map(plate_with_hole(width=40, height=40), 0.1)

    def tension(component, normal, stress):
        return lambda ops, q: stress * q[normal] - 2.5e-8 * q[component]

    problem = Problem(
        PLANE_STRESS,
        natural=tuple(
            Natural(c, side, tension(c, normal, stress))
            for side in SIDES
            for c, normal, stress in (("u", "nx", 2.0), ("v", "ny", 1.0))
        ),
        functionals=tuple(PLANE_STRESS.functional(name).at("hole") for name in ("peak_hoop_stress", "ks_hoop_stress")),
    )
    return shape_map, FemSolver(problem, shape_map.mesh)


HOOP = PLANE_STRESS.functional("peak_hoop_stress").maximum_of


def test_hoop_stress_of_a_circular_hole(wide_plate):
    """s1 + s2 - 2 (s1 - s2) cos 2 t in the infinite plate: E. G. Kirsch, Z. VDI 42 (1898) 797.

    Measured 0.8 % above: 0.5 % from the width of the plate, 0.2 % from the mesh.
    """
    shape_map, solver = wide_plate
    profile = solver.solve(shape_map.nodes(shape_map.family.default).numpy()).profile(HOOP, "hole")
    angle = np.arctan2(*profile.points.T[::-1])
    np.testing.assert_allclose(profile.values, 3 - 2 * np.cos(2 * angle), atol=0.05)
    assert profile.maximum == pytest.approx(5, rel=0.01)
    assert profile.minimum == pytest.approx(1, abs=0.015)


def test_hoop_stress_of_the_best_ellipse_is_flat(wide_plate):
    """Axes 2:1 give the constant s1 + s2: G. P. Cherepanov, J. Appl. Math. Mech. 38 (1974) 915."""
    shape_map, solver = wide_plate
    theta = shape_map.family.default.clone()
    theta[1] = 2.0
    solution = solver.solve(shape_map.nodes(theta).numpy())
    profile = solution.profile(HOOP, "hole")
    assert profile.mean == pytest.approx(3, rel=0.005)
    assert profile.flatness < 0.02
    length = profile.weights.sum()
    assert solution.values["peak_hoop_stress"] == pytest.approx(3 * length ** (1 / 32), rel=0.005)
    assert solution.values["ks_hoop_stress"] == pytest.approx(3 + np.log(length) / 30, rel=0.005)


def test_design_gradient_of_the_peak_stress(wide_plate):
    """Of the smooth maximum by the six parameters, against differences along a random direction."""
    shape_map, solver = wide_plate
    theta = shape_map.family.reference

    def peak(theta):
        return solver.solve(shape_map.nodes(theta).numpy()).values["peak_hoop_stress"]

    nodal = torch.from_numpy(_gradient(solver, shape_map, theta))
    direction = torch.tensor([0.3, -0.2, 0.1, 0.25, -0.15], dtype=torch.float64)
    slope = float(shape_map.pull_back(theta, nodal) @ direction)
    steps = 4e-3 * 0.5 ** np.arange(3)
    remainders = np.abs([peak(theta + h * direction) - peak(theta) - h * slope for h in steps])
    assert abs(slope) > 0.1
    assert np.log2(remainders[:-1] / remainders[1:])[-1] == pytest.approx(2, abs=0.1)


def _gradient(solver, shape_map, theta):
    return solver.solve(shape_map.nodes(theta).numpy()).gradient("peak_hoop_stress")


def test_a_plate_that_nothing_holds():
    with pytest.raises(Exception, match="'u' only up to a constant"):
        FemSolver(replace(PLATE, dirichlet=()), mapped_square(3)).solve()
    with pytest.raises(Exception, match="'v' only up to a constant"):
        FemSolver(replace(PLATE, dirichlet=(Dirichlet("u", "left", zero),)), mapped_square(3)).solve()
