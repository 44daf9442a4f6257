"""Values of every built-in physics in the plane, as numbers that a change of the code must not change.

They say that a refactoring kept the results, not that the results are right: other tests do. Written by
``python -m tests.studies.stored_values``; write them again only where results are meant to change, and say why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.geometries.fields.sampled import sample_quantities
from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.fem.load_cases import CaseSolver
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import PHYSICS, Physics, Problem
from shapewright.surrogate.models.functionals import integrate
from tests.solvers.solver_cases import CASES
from tests.solvers.solver_meshes import SIDES
from tests.solvers.test_load_cases import CASES as LOAD_CASES
from tests.solvers.test_slip import CURVED

FILE = Path(__file__).with_name("stored_values.json")
PATCH_AT = (1.45, 1.06)
"""Point on the side 'right' of the stored mesh, in place of that of the load cases' own mesh."""


@cache
def stored() -> Mapping[str, dict]:
    """The file: ``mesh``, and by kind the values by name."""
    return json.loads(FILE.read_text())


@cache
def mesh() -> Mesh:
    """A design of ``closed_bar`` on 14 cells, away from the origin, its wall divided into four sides."""
    data = stored()["mesh"]
    nodes, cells, facets, tags = (np.array(data[key]) for key in ("nodes", "cells", "facets", "facet_tags"))
    return Mesh(nodes, cells, facets, tags, SIDES)


def velocity(nodes):
    """A smooth motion of the nodes (N, 2) that moves every side along and across itself."""
    x, y = nodes.T
    return np.stack([0.3 * np.cos(2 * x + y) + 0.4 * x * y, 0.5 * np.sin(x - 2 * y) + 0.2 * x**2], -1)


def solved(problem: Problem, solver: FemSolver | CaseSolver) -> Iterator[tuple[str, float]]:
    """Norms of the fields, of their tangents and of the adjoint gradients, values and their tangents."""
    solution = solver.solve()
    tangent = solution.tangent(velocity(mesh().nodes))
    for name, field in solution.fields.items():
        yield f"{name}: norm", np.linalg.norm(field)
        yield f"{name}: norm of tangent", np.linalg.norm(tangent.fields[name])
    for functional in problem.functionals:
        name = functional.name
        yield f"{name}: value", solution.values[name]
        yield f"{name}: tangent", tangent.values[name]
        yield f"{name}: norm of gradient", np.linalg.norm(solution.gradient(name))


Solved = tuple[Problem, FemSolver | CaseSolver]


def solved_problems() -> dict[str, Callable[[], Solved]]:
    """Problems that between them have every kind of condition, with what solves them, made when they are called."""
    found: dict[str, Callable[[], Solved]] = {
        name: lambda problem=problem: (problem, FemSolver(problem, mesh())) for name, problem in CASES.items()
    }
    for name, problem in CURVED.items():
        found[f"slip of {name}"] = lambda problem=problem: (problem, FemSolver(problem, mesh(), quadrature_degree=8))
    patches = tuple(replace(patch, at=PATCH_AT) for patch in LOAD_CASES.patches)
    cases = replace(LOAD_CASES, patches=patches)
    return found | {"load cases": lambda: (cases, CaseSolver(cases, mesh()))}


def components_of(physics: Physics, nodes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Component -> (..., N) smooth fields that keep solids from folding."""
    x, y = nodes.unbind(-1)
    waves = (lambda: 0.2 * torch.sin(x + 2 * y), lambda: 0.3 * torch.cos(x * y) - 0.1 * x, lambda: 0.5 + x * y)
    return {component: wave() for component, wave in zip(physics.components, waves, strict=False)}


def formulas(physics: Physics) -> Iterator[tuple[str, float]]:
    """Every formula of a physics at given fields: integrals, and norms of their derivatives by the nodes."""
    coefficients = {
        c.name: lambda ops, q, default=c.default: default * (1 - 0.1 * ops.sin(q["x"]) - 0.05 * q["y"])
        for c in physics.coefficients
    }
    sources = {c: lambda ops, q, c=c: 0.2 + 0.1 * q["x"] - 0.3 * q[c] ** 2 for c in physics.components}
    problem = Problem(physics, coefficients=coefficients, sources=sources)
    nodes = torch.from_numpy(mesh().nodes)
    components = {name: values.numpy() for name, values in components_of(physics, nodes).items()}
    for where, points in (("inside", cell_points(mesh(), nodes)), ("on right", facet_points(mesh(), nodes, "right"))):
        q = sample_quantities(problem, points, components, {})
        for name, value in _pointwise(physics, q, boundary=where == "on right"):
            yield f"{name} {where}", float((torch.as_tensor(value) * points.weights).sum())
    moving = torch.from_numpy(mesh().nodes)[None].requires_grad_()
    fields = torch.stack(list(components_of(physics, moving).values()), -1)
    for functional in physics.functionals:
        given = functional if functional.region_as is None else functional.at("right")
        value = integrate(
            given, FieldSpace(physics.components, coefficients, sources), mesh(), moving, fields
        )
        (slope,) = torch.autograd.grad(value.sum(), moving, retain_graph=True)
        yield f"functional {functional.name}: value", float(value.detach())
        yield f"functional {functional.name}: norm of gradient", float(slope.norm())


def _pointwise(physics: Physics, q, boundary: bool) -> Iterator[tuple[str, object]]:
    for name, by_component in (("flux", physics.flux), ("traction", physics.traction or (lambda ops, q: {}))):
        for component, row in by_component(torch, q).items():
            for axis, value in zip("xy", row, strict=True):
                yield f"{name} of {component} along {axis}", value
    yield from ((f"source of {c}", value) for c, value in physics.source(torch, q).items())
    yield from ((d.name, d.value(torch, q)) for d in physics.derived)
    for name, formula in (("energy", physics.energy), ("admissible", physics.admissible)):
        if formula is not None:
            yield name, formula(torch, q)
    if boundary:
        yield from ((f"source of {c} through", value(torch, q)) for c, value in physics.through.items())


def write() -> None:
    """Compute all values and put them beside the stored mesh."""
    found = {"mesh": stored()["mesh"]}
    found["solved"] = {name: dict(solved(*make())) for name, make in solved_problems().items()}
    found["formulas"] = {name: dict(formulas(physics)) for name, physics in PHYSICS.items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write()
