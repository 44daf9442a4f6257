"""Steep formulas have finite values and derivatives wherever their value is one, in UFL and in torch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import Functional
from shapewright.studies.schema.expressions import parse
from tests.solvers.solver_cases import TORSION
from tests.solvers.solver_meshes import bulged, mapped_square

STEEP = {
    "tanh(s*(x-0.4))": lambda z: math.tanh(z),
    "1/(1+exp(s*(x-0.4)))": lambda z: 1 / (1 + math.exp(z)),
    "y/(2+3*exp(-s*(x-0.4)))**2": lambda z: 0.7 / (2 + 3 * math.exp(-z)) ** 2,
    "(exp(s*(x-0.4))/4+1)**-1": lambda z: 1 / (1 + math.exp(z) / 4),
    "1/cosh(s*(x-0.4))**2": lambda z: 1 / math.cosh(z) ** 2,
    "exp(s*(x-0.4))/(1+exp(s*(x-0.4)))**2": lambda z: math.exp(z) / (1 + math.exp(z)) ** 2,
    "x/(exp(s*(x-0.4))*y-exp(-1)+cosh(s*(x-0.4)))": lambda z: 0.9 / (
        math.exp(z) * 0.7 - math.exp(-1) + math.cosh(z)
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", STEEP)
def test_values_are_those_of_the_formula(text):
    formula = parse(text, ("x", "y", "s"), "here")
    for z in (-300.0, -40.0, -1.0, 0.0, 0.3, 40.0, 300.0):
        known = STEEP[text](z)
        q = {"x": torch.tensor(0.9, dtype=torch.float64), "y": torch.tensor(0.7, dtype=torch.float64), "s": z / 0.5}
        assert float(formula(torch, q)) == pytest.approx(known, rel=1e-12), z


@pytest.mark.parametrize("text", [text for text in STEEP if "exp(s*(x-0.4))/(" not in text])
def test_derivatives_in_torch_are_finite(text):
    x = torch.linspace(0, 1, 2001, dtype=torch.float64).requires_grad_()
    value = parse(text, ("x", "y", "s"), "here")(torch, {"x": x, "y": x * 0 + 0.7, "s": 5000.0})
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.isfinite(value).all()
    assert torch.isfinite(slope).all()


def test_gradients_in_ufl_are_those_of_the_values():
    """Of functionals whose arguments reach 2000, against central differences of fresh values."""
    texts = [text for text in STEEP if "exp(s*(x-0.4))/(" not in text]
    mesh = mapped_square(2, bulged)
    functionals = tuple(
        Functional(f"f{k}", parse(text, ("x", "y", "s"), "here"), "1", "") for k, text in enumerate(texts)
    )
    problem = replace(TORSION, functionals=functionals, parameters={"s": 2000.0})
    solver = FemSolver(problem, mesh)
    x, y = mesh.nodes.T
    velocity = np.stack([np.sin(2 * y) + x * y, np.cos(x) - y**2], -1)
    solution = solver.solve()
    slopes = [float((solution.gradient(f.name) * velocity).sum()) for f in functionals]
    step = 1e-6
    ahead, behind = (solver.solve(mesh.nodes + s * velocity).values for s in (step, -step))
    for functional, slope in zip(functionals, slopes, strict=True):
        difference = (ahead[functional.name] - behind[functional.name]) / (2 * step)
        assert slope == pytest.approx(difference, rel=1e-3, abs=1e-8), functional.name


def test_a_steep_coefficient_of_the_solution():
    """Its derivative by the solution is in the Jacobian, with arguments far beyond what cosh has numbers for."""
    steep = parse("2 + 1/(1+exp(s*(u+1)))", ("u", "s"), "here")
    solver = FemSolver(
        replace(TORSION, coefficients={"conductivity": steep}, parameters={"s": 3000.0}), mapped_square(3)
    )
    plain = FemSolver(replace(TORSION, coefficients={"conductivity": lambda ops, q: 2.0}), mapped_square(3))
    assert solver.solve().values["compliance"] == pytest.approx(plain.solve().values["compliance"], rel=1e-12)
