"""Energies: their first variation is the weak form, and solutions make them least."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.func import jvp

from shapewright.geometries.fields import names
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import NONLINEAR_POISSON, PHYSICS, Functional
from tests.solvers.solver_cases import CASES
from tests.solvers.solver_meshes import bulged, mapped_square

WITH_ENERGY = [physics for physics in PHYSICS.values() if physics.energy is not None]


@pytest.mark.parametrize("physics", WITH_ENERGY, ids=lambda physics: physics.name)
def test_first_variation_is_the_weak_form(physics):
    """At random values of all quantities, in random directions; for Kirchhoff's energy along A'(u) w."""
    random = torch.Generator().manual_seed(5)

    def draw():
        return 0.4 * torch.rand(50, generator=random, dtype=torch.float64) - 0.1

    q = {name: draw() for name in physics.quantities}
    tests = {c: draw() for c in physics.components}
    slopes = {f"{c}_{x}": draw() for c in physics.components for x in "xy"}
    moving = tests | slopes

    def energy(*values):
        return physics.energy(torch, q | dict(zip(moving, values, strict=True)))

    _, variation = jvp(energy, tuple(q[name] for name in moving), tuple(moving.values()))
    if physics is NONLINEAR_POISSON:
        k = 1 + q["nonlinearity"] * q["u"] ** 2
        growth = 2 * q["nonlinearity"] * q["u"] * tests["u"]
        slopes = {name: k * slope + growth * q[name] for name, slope in slopes.items()}
        tests = {"u": k * tests["u"]}
    weak = torch.zeros(50, dtype=torch.float64)
    for c, (fx, fy) in physics.flux(torch, q).items():
        weak = weak + fx * slopes[f"{c}_x"] + fy * slopes[f"{c}_y"]
    for c, source in physics.source(torch, q).items():
        weak = weak - source * tests[c]
    for c in physics.components:
        weak = weak - q[names.source(c)] * tests[c]
    assert variation.abs().min() > 1e-6
    torch.testing.assert_close(variation, weak, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["torsion", "kirchhoff"])
def test_solutions_have_least_energy(name):
    """Solutions for a source changed either way have more, and four times as much for twice the change."""
    problem, mesh = CASES[name], mapped_square(6, bulged)
    source = problem.sources["u"]

    def energy(step):
        """Energy, with the true source, of the solution for another one."""

        def density(ops, q):
            return problem.physics.energy(ops, {**q, "source_u": source(ops, q)})

        other = replace(
            problem,
            sources={"u": lambda ops, q: source(ops, q) + step * (q["x"] - 0.4)},
            functionals=(Functional("energy", density, "1", ""),),
        )
        return FemSolver(other, mesh).solve().values["energy"]

    excess = {step: (energy(step) + energy(-step)) / 2 - energy(0.0) for step in (0.3, 0.6)}
    assert excess[0.3] > 1e-6
    assert excess[0.6] / excess[0.3] == pytest.approx(4, rel=0.02)
