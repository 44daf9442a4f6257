"""Promise: in space finite elements have the right orders, known answers, solvers that agree, and exact derivatives.

That a study of a solid uses them rightly is not shown here.
"""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from shapewright.geometries.fields.problem import Dirichlet, Functional, Natural, Patch, Problem, ProblemError
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem import factorization
from shapewright.solvers.fem.load_cases import solver_of
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.elasticity import elasticity
from shapewright.solvers.physics.poisson import poisson
from tests.solvers.solid_meshes import SIDES, ball, bulged, mapped_cube, shell_octant

POISSON, ELASTICITY = poisson(3), elasticity(3)
AXES = sympy.symbols("x y z", real=True)
YOUNG, NU = 2.5, 0.3


def zero(ops, q):
    return 0.0


def formula(expression):
    def evaluate(ops, q):
        names = {name: getattr(ops, name) for name in ("sin", "cos")}
        return sympy.lambdify(AXES, expression, modules=[names])(*(q[str(a)] for a in AXES))

    return evaluate


def traction(row):
    parts = [formula(part) for part in row]
    return lambda ops, q: sum(p(ops, q) * q[n] for p, n in zip(parts, ("nx", "ny", "nz"), strict=True))


def squared_error(name, exact):
    exact = formula(exact)
    return Functional(name, lambda ops, q: (q[name] - exact(ops, q)) ** 2, "1", "")


def conduction():
    """u = sin 2x cos(y + z) with a conductivity that varies, and every kind of boundary condition."""
    x, y, z = AXES
    exact, conductivity = sympy.sin(2 * x) * sympy.cos(y + z), 1 + x * y / 2
    flux = [conductivity * sympy.diff(exact, a) for a in AXES]
    source = -sum(sympy.diff(f, a) for f, a in zip(flux, AXES, strict=True))
    outward, value = traction(flux), formula(exact)
    return Problem(
        POISSON,
        coefficients={"conductivity": formula(conductivity)},
        sources={"u": formula(source)},
        dirichlet=tuple(Dirichlet("u", side, value) for side in ("left", "front", "bottom")),
        natural=(
            Natural("u", "top", outward),
            Natural("u", "back", outward),
            Natural("u", "right", lambda ops, q: outward(ops, q) + 3 * (value(ops, q) - q["u"])),  # convection
        ),
        functionals=(squared_error("u", exact),),
    )


def solid(displacement, free=("right",)):
    """The problem of a solid with this displacement: tractions on the ``free`` sides, boundary values on the others."""
    x = sympy.Matrix(AXES)
    gradient = sympy.Matrix(displacement).jacobian(x)
    strain = (gradient + gradient.T) / 2
    lame, mu = YOUNG * NU / ((1 + NU) * (1 - 2 * NU)), YOUNG / (2 * (1 + NU))
    stress = 2 * mu * strain + lame * strain.trace() * sympy.eye(3)
    parts = list(zip("uvw", displacement, stress.tolist(), strict=True))
    return Problem(
        ELASTICITY,
        coefficients={"youngs_modulus": lambda ops, q: YOUNG, "poisson_ratio": lambda ops, q: NU},
        sources={c: formula(-sum(sympy.diff(s, a) for s, a in zip(row, AXES, strict=True))) for c, _, row in parts},
        dirichlet=tuple(Dirichlet(c, s, formula(u)) for c, u, _ in parts for s in SIDES if s not in free),
        natural=tuple(Natural(c, side, traction(row)) for c, _, row in parts for side in free),
        functionals=tuple(squared_error(c, u) for c, u, _ in parts),
    )


def test_orders_of_conduction():
    errors = [FemSolver(conduction(), mapped_cube(n, bulged)).solve().values["u"] ** 0.5 for n in (2, 4)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.2)


def test_orders_of_elasticity():
    x, y, z = AXES
    problem = solid([sympy.sin(x + y) * z, sympy.cos(x - z) * y, sympy.sin(x * y) + z**2])
    errors = []
    for n in (2, 4):
        errors.append(sum(FemSolver(problem, mapped_cube(n, bulged)).solve().values.values()) ** 0.5)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.25)


def test_patch_test_on_curved_cells():
    """Constant strain is in the space of isoparametric cells, and stays an equilibrium to the order of quadrature."""
    x, y, z = AXES
    problem = solid([0.1 * x - 0.2 * y, 0.3 * z + 0.05 * y, 0.2 * x - 0.1 * z], free=("right", "top", "back"))
    straight = FemSolver(problem, mapped_cube(2)).solve()
    assert max(straight.values.values()) < 1e-26
    curved = FemSolver(problem, mapped_cube(2, bulged)).solve()
    assert max(curved.values.values()) < 1e-14


@pytest.mark.parametrize(("tags", "mesh", "answer"), [
    (SIDES, mapped_cube(10), 0.0201685), (("wall",), ball(3, (3 / (4 * np.pi)) ** (1 / 3)), 0.0256556),
], ids=("cube", "ball"))  # fmt: skip
def test_membrane_of_volume_one(tags, mesh, answer):
    """-lap u = 1: int u."""
    problem = Problem(
        POISSON,
        sources={"u": lambda ops, q: 1.0},
        dirichlet=tuple(Dirichlet("u", tag, zero) for tag in tags),
        functionals=(POISSON.functional("integral"),),
    )
    tolerance = 1e-3 if len(tags) > 1 else 5e-4
    assert FemSolver(problem, mesh).solve().values["integral"] == pytest.approx(answer, rel=tolerance)


def rod(cases=None):
    """A rod of length 4 and unit section along x, held so that it contracts freely, pulled by unit stress; E = 2.5."""
    mesh = mapped_cube((3, 1, 1))
    mesh = mesh.moved(mesh.nodes * np.array([4.0, 1.0, 1.0]))
    problem = Problem(
        ELASTICITY,
        coefficients={"youngs_modulus": lambda ops, q: YOUNG},
        dirichlet=(Dirichlet("u", "left", zero), Dirichlet("v", "front", zero), Dirichlet("w", "bottom", zero)),
        natural=(Natural("u", "right", lambda ops, q: 1.0),),
        functionals=(ELASTICITY.functional("compliance"), ELASTICITY.functional("volume")),
    )
    return problem, mesh


def test_compliance_of_a_rod():
    """F^2 L / (E A)."""
    problem, mesh = rod()
    solution = FemSolver(problem, mesh).solve()
    assert solution.values["compliance"] == pytest.approx(4 / YOUNG, rel=1e-12)
    stress = solution.profile(ELASTICITY.derived[0].value)
    assert (stress.minimum, stress.maximum) == pytest.approx((1.0, 1.0), rel=1e-10)


def equator_stress(layers):
    """Mean stress along the tension in a narrow band around the equator of a cavity."""
    problem = Problem(
        ELASTICITY,
        coefficients={"poisson_ratio": lambda ops, q: 0.3},
        dirichlet=tuple(Dirichlet(c, f"{x}0", zero) for c, x in zip("uvw", "xyz", strict=True)),
        natural=(Natural("w", "outer", lambda ops, q: q["nz"]),),
    )
    along = next(d.value for d in ELASTICITY.derived if d.name == "stress_zz")
    profile = FemSolver(problem, shell_octant(3, layers, 12.0)).solve().profile(along, on="cavity")
    assert abs(profile.point_of_maximum[2]) < 0.05
    band = np.abs(profile.points[:, 2]) < 0.05
    return np.average(profile.values[band], weights=profile.weights[band])


def test_stress_at_a_spherical_cavity():
    """(27 - 15 nu)/(14 - 10 nu) of the tension far away; R. V. Southwell, H. J. Gough, Phil. Mag. 1 (1926) 71.

    The outer sphere carries the stress of the solid without cavity, exact but for the third power of 1/12; stresses on
    the cavity converge with the square of the thickness of the layers, by which two of them are extrapolated.
    """
    coarse, fine = equator_stress(14), equator_stress(18)
    extrapolated = fine + (fine - coarse) / ((18 / 14) ** 2 - 1)
    assert extrapolated == pytest.approx(22.5 / 11, rel=3e-3)


def cantilever():
    """A curved cube held on one side, loaded on the opposite one, with a body force."""
    return Problem(
        ELASTICITY,
        sources={"v": lambda ops, q: 0.3 * q["x"]},
        dirichlet=tuple(Dirichlet(c, "left", zero) for c in "uvw"),
        natural=(Natural("w", "right", lambda ops, q: -1.0), Natural("u", "top", lambda ops, q: -0.4 * q["nx"])),
        functionals=(
            ELASTICITY.functional("compliance"),
            ELASTICITY.functional("peak_von_mises"),
            ELASTICITY.functional("ks_von_mises"),
            ELASTICITY.functional("volume"),
        ),
    )


@pytest.mark.parametrize(("ldlt", "lu", "method"), [(0, 10**9, "LU by MUMPS"), (0, 0, "CG with GAMG")])
def test_linear_solvers_agree(monkeypatch, ldlt, lu, method):
    """Also after a move of the mesh, and in tangents and adjoints."""
    mesh, solutions = mapped_cube(2, bulged), []
    for limits in ((10**9, 10**9), (ldlt, lu)):
        monkeypatch.setattr(factorization, "MOST_BY_LDLT", limits[0])
        monkeypatch.setattr(factorization, "MOST_BY_LU", limits[1])
        solver = FemSolver(cantilever(), mesh)
        solver.solve()
        solution = solver.solve(mesh.nodes * 1.1)
        solutions.append((solution, solution.gradient("compliance"), solution.tangent(np.sin(mesh.nodes)).fields))
    (one, slope, tangent), (other, other_slope, other_tangent) = solutions
    assert (one.linear_solver, other.linear_solver) == ("LDLT by MUMPS", method)
    assert max(one.linear_residual, other.linear_residual) < 1e-10
    assert other.values == pytest.approx(one.values, rel=1e-8)
    np.testing.assert_allclose(other_slope, slope, atol=1e-8 * np.abs(slope).max())
    np.testing.assert_allclose(other_tangent["displacement"], tangent["displacement"], atol=1e-7)


def test_derivatives_against_solvers_built_afresh():
    problem, mesh = cantilever(), mapped_cube(2, bulged)
    x, y, z = mesh.nodes.T
    velocity = np.stack([0.3 * np.cos(2 * x + y) + 0.2 * z * y, 0.3 * np.sin(x - 2 * z), 0.2 * x * y + 0.1 * z], -1)
    steps = 0.02 * 0.5 ** np.arange(3)
    solution = FemSolver(problem, mesh).solve()
    tangent = solution.tangent(velocity)
    fresh = [FemSolver(problem, mesh.moved(mesh.nodes + h * velocity)).solve() for h in steps]
    for name, value in solution.values.items():
        slope = float((solution.gradient(name) * velocity).sum())
        assert slope == pytest.approx(tangent.values[name], rel=1e-9)
        remainders = np.abs([moved.values[name] - value - h * slope for moved, h in zip(fresh, steps, strict=True)])
        assert abs(slope) > 1e-3 * abs(value)
        assert np.log2(remainders[-2] / remainders[-1]) == pytest.approx(2, abs=0.1), name
    fields = solution.fields["displacement"]
    lost = [np.linalg.norm(moved.fields["displacement"] - fields - h * tangent.fields["displacement"])
            for moved, h in zip(fresh, steps, strict=True)]  # fmt: skip
    assert np.log2(lost[-2] / lost[-1]) == pytest.approx(2, abs=0.1)


def test_what_a_solid_leaves_open_is_named():
    free = Problem(ELASTICITY, natural=(Natural("u", "right", zero),))
    with pytest.raises(SolveError, match="'u' only up to a constant") as error:
        FemSolver(free, mapped_cube(1)).solve()
    assert str(error.value).count("only up to a rotation about") == 3
    hinged = Problem(ELASTICITY, dirichlet=tuple(Dirichlet(c, "left", zero) for c in "u"))
    with pytest.raises(SolveError, match=r"rotation about \(.*\) along \(1, 0, 0\)|along \(-1, 0, 0\)"):
        FemSolver(hinged, mapped_cube(1)).solve()


def test_what_is_planar_is_refused():
    patch = Patch("right", (1.0, 0.5), 0.2, {"u": 1.0})
    with pytest.raises(ProblemError, match="a patch load on 'right' of a solid"):
        FemSolver(Problem(ELASTICITY, patches=(patch,)), mapped_cube(1))
    with pytest.raises(ProblemError, match="'left' is a wall of a solid along which a field slips"):
        FemSolver(Problem(ELASTICITY, slip=("left",)), mapped_cube(1))
    with pytest.raises(ProblemError, match="the mesh has 3 dimensions, the physics 'plane_stress' has 2"):
        solver_of(Problem(elasticity(2)), mapped_cube(1))
