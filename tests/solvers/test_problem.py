"""Problems as data: validation, the built-in physics, the two worlds of formulas, compiled forms."""

from __future__ import annotations

import subprocess
import sys

import basix.ufl
import numpy as np
import pytest
import torch
import ufl

from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.fem import ufl_ops
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import (
    NAVIER_STOKES,
    PHYSICS,
    POISSON,
    STOKES,
    Coefficient,
    Dirichlet,
    Field,
    Functional,
    Natural,
    Physics,
    Problem,
)
from tests.solvers.solver_cases import TORSION, zero
from tests.solvers.solver_meshes import mapped_square


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"coefficients": {"viscosity": zero}}, "coefficient 'viscosity' .* allowed are conductivity"),
        ({"sources": {"v": zero}}, "source of component 'v' .* allowed are u"),
        ({"dirichlet": (Dirichlet("p", "wall", zero),)}, "boundary value of component 'p'"),
        ({"natural": (Natural("p", "wall", zero),)}, "natural condition of component 'p'"),
        (
            {"dirichlet": (Dirichlet("u", "wall", zero),), "natural": (Natural("u", "wall", zero),)},
            "'u' has a boundary value and a natural condition on 'wall'",
        ),
        ({"functionals": (POISSON.functional("area"),) * 2}, "distinct names, found area, area"),
    ],
)
def test_wrong_problems(data, message):
    with pytest.raises(ProblemError, match=message):
        Problem(POISSON, **data)


def test_wrong_physics():
    with pytest.raises(ProblemError, match="degree is 3; allowed are 1 and 2"):
        Field("u", ("u",), 3, "1", "")
    field, clash = Field("u", ("u",), 2, "1", ""), Coefficient("u_x", 1.0, "1", "")
    with pytest.raises(ProblemError, match="more than one quantity is named u_x"):
        Physics("p", "", (field,), (clash,), POISSON.flux, POISSON.source)
    with pytest.raises(ProblemError, match="functional 'lift' is unknown; allowed are dissipation"):
        STOKES.functional("lift")
    with pytest.raises(ProblemError, match="no functionals"):
        _ = Problem(POISSON).objective


def test_objective_and_tags():
    drag = STOKES.functional("drag").at("body")
    problem = Problem(
        STOKES,
        dirichlet=(Dirichlet("u", "wall", zero),),
        natural=(Natural("u", "outlet", zero),),
        functionals=(drag,),
    )
    assert problem.objective is drag
    assert problem.tags() == {"wall", "outlet", "body"}


def test_a_functional_that_needs_a_region_is_given_one():
    drag, lift = STOKES.functional("drag"), NAVIER_STOKES.functional("lift")
    with pytest.raises(ProblemError, match=r"functional 'drag' needs a boundary region: take its \.at\(region\)"):
        Problem(STOKES, functionals=(drag,))
    assert drag.at("hull").on == "hull"
    assert lift.at("hull").lifting == "hull"
    with pytest.raises(ProblemError, match="'dissipation' needs no boundary region, found 'hull'"):
        STOKES.functional("dissipation").at("hull")


@pytest.mark.parametrize("physics", PHYSICS.values(), ids=list(PHYSICS))
def test_formulas_of_the_built_in_physics_evaluate_in_torch(physics):
    """The surrogate's world calls the very functions that FEM compiles."""
    q = {name: 0.3 * torch.rand(5, dtype=torch.float64, requires_grad=True) for name in physics.quantities}
    assert set(physics.flux(torch, q)) <= set(physics.components)
    assert set(physics.source(torch, q)) <= set(physics.components)
    for functional in physics.functionals:
        assert torch.as_tensor(functional.integrand(torch, q)).shape in {(5,), ()}
        assert functional.unit
        assert functional.description


ONE = ["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "erf"]
ONE += ["abs", "sign", "square"]
TWO = ["atan2", "maximum", "minimum", "pow"]
PLANE = ufl.Mesh(basix.ufl.element("Lagrange", "triangle", 1, shape=(2,)))


@pytest.mark.parametrize("name", ONE + TWO)
@pytest.mark.parametrize("point", [(0.3, 0.8), (0.7, -0.4)])
def test_functions_agree_with_torch(name, point):
    count = 1 if name in ONE else 2
    x = ufl.SpatialCoordinate(PLANE)
    symbolic = getattr(ufl_ops, name)(*(x[k] for k in range(count)))
    expected = getattr(torch, name)(*torch.tensor(point, dtype=torch.float64)[:count])
    assert symbolic(point) == pytest.approx(float(expected), rel=1e-14)
    assert float(getattr(ufl_ops, name)(*point[:count])) == pytest.approx(float(expected), rel=1e-14)


def test_one_formula_serves_compiled_forms_and_torch():
    def formula(ops, q):
        x, y = q["x"], q["y"]
        smooth = sum(k * getattr(ops, name)(0.2 + (x + y * y) / 4) for k, name in enumerate(ONE, 1))
        return (
            smooth + ops.atan2(x + 1, y + 1) + ops.maximum(x + 2, y) * ops.minimum(x - 2, y) + ops.pow(x, 3)
        )

    problem = Problem(
        POISSON,
        dirichlet=TORSION.dirichlet,
        functionals=(Functional("formula", formula, "1", "every elementary function"),),
    )
    value = FemSolver(problem, mapped_square(2), quadrature_degree=12).solve().values["formula"]
    gauss, weights = np.polynomial.legendre.leggauss(20)
    x, y = torch.tensor(np.stack(np.meshgrid(gauss, gauss)) / 2 + 0.5)
    expected = (formula(torch, {"x": x, "y": y}) * torch.tensor(np.outer(weights, weights) / 4)).sum()
    assert value == pytest.approx(float(expected), rel=1e-9)


def test_physics_is_importable_without_dolfinx():
    """`list` and the schema must not wait for PETSc."""
    heavy = "{'dolfinx', 'petsc4py', 'torch'}"
    code = f"import sys, shapewright.solvers.physics.catalogue; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
