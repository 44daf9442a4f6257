"""Small problems as the solver and as the surrogate see them, and a random network for one of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.design.dirichlet_lift import DirichletLift, Prescribed, build_dirichlet_lift
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.cavity import cavity
from shapewright.geometries.family.porous_square import porous_square
from shapewright.geometries.family.star_domain import star_domain
from shapewright.geometries.mesh.integration import CellPoints
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import PHYSICS, Dirichlet, Function, Problem
from shapewright.surrogate.mgno.derivatives import FieldDerivatives
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.design_surrogate import latent_grid_for
from shapewright.surrogate.models.instances import Distribution, Instances, Normal, Population, Uniform
from shapewright.surrogate.models.point_quantities import ProblemData, quantities
from shapewright.surrogate.models.problem_operator import ProblemOperator, input_functions, scales
from shapewright.surrogate.training.physics_training import Solutions

FAMILIES = {
    "star_domain": lambda: star_domain((3,), 0.2, control_points=32),
    "cavity": cavity,
    "porous_square": lambda: porous_square(1, control_points=24),
}
MESH_SIZES = {"star_domain": 0.5, "cavity": 0.3, "porous_square": 0.25}


@dataclass(frozen=True)
class Case:
    """One problem on one family."""

    problem: Problem
    lift: DirichletLift
    population: Population

    @property
    def data(self) -> ProblemData:
        """The problem as the surrogate sees it."""
        physics, given = self.problem.physics, self.problem.coefficients
        defaults = {c.name: given.get(c.name, _constant(c.default)) for c in physics.coefficients}
        primary = len(physics.fields[0].components)
        return ProblemData(physics, defaults, self.problem.sources, self.problem.dirichlet, primary)

    def solve(self, instances: Instances) -> Solutions:
        """Finite-element solutions on the case's own mesh."""
        solver, fields = FemSolver(self.problem, self.lift.shape_map.mesh), []
        for index, theta in enumerate(instances.theta):
            parameters = {name: float(values[index]) for name, values in instances.parameters.items()}
            found = solver.solve(self.lift.shape_map.nodes(theta).numpy(), parameters=parameters).fields
            fields.append(np.concatenate([found[f.name] for f in self.problem.physics.fields], -1))
        return Solutions(instances, torch.from_numpy(np.stack(fields)), self.lift)

    def network(self, seed: int = 0, grid: tuple[int, int] = (10, 10), width: int = 6) -> ProblemOperator:
        """A random network in float64."""
        data = self.data
        inputs = input_functions(data, list(self.problem.parameters))
        scale, input_scale = scales(data, inputs, self.population, self.lift)
        torch.manual_seed(seed)
        shape_map, config = self.lift.shape_map, OperatorConfig(width, width, (3, 3), 2)
        latent = latent_grid_for(shape_map, grid, 2)
        return ProblemOperator(data, shape_map.mesh.tag_names, latent, config, inputs, scale, input_scale).double()


def _constant(value: float) -> Function:
    return lambda ops, q: value


@cache
def case(
    physics: str,
    family: str,
    dirichlet: tuple[Dirichlet, ...],
    parameters: tuple[tuple[str, Distribution], ...] = (),
    sources: tuple[tuple[str, Function], ...] = (),
    mesh_size: float | None = None,
) -> Case:
    """A case; built once."""
    made = FAMILIES[family]()
    shapes = {parameter.name: parameter.default for parameter in made.parameters}
    defaults = shapes | {name: float(distribution.quantile(torch.tensor(0.5))) for name, distribution in parameters}
    problem = Problem(PHYSICS[physics], {}, dict(sources), dirichlet, parameters=defaults)
    tags: dict[str, list[str]] = {}
    for condition in dirichlet:
        tags.setdefault(condition.component, []).append(condition.tag)
    shape_map = build_shape_map(made, mesh_size or MESH_SIZES[family])
    prescribed = [Prescribed(component, tuple(own)) for component, own in tags.items()]
    lift = build_dirichlet_lift(shape_map, problem.physics.components, prescribed)
    return Case(problem, lift, Population(tuple(shapes), made.bounds, dict(parameters)))


def _wall(ops, q):
    return q["level"] + q["x"] * q["y"]


def _source(ops, q):
    return q["strength"] * (1 + q["x"])


NUMBERS = (("level", Uniform(-1.0, 1.0)), ("strength", Normal(1.0, 2.0)))


def poisson(physics: str = "poisson", mesh_size: float | None = None) -> Case:
    """Conduction on a waved disc, with a source and a wall temperature that vary."""
    return case(
        physics, "star_domain", (Dirichlet("u", "wall", _wall),), NUMBERS, (("u", _source),), mesh_size
    )


def squeezed(physics: str = "hyperelasticity") -> Case:
    """A porous square whose top is pushed down."""
    zero, down = _constant(0.0), _down
    dirichlet = tuple(Dirichlet(c, "bottom", zero) for c in "uv")
    dirichlet += (Dirichlet("u", "top", zero), Dirichlet("v", "top", down))
    return case(physics, "porous_square", dirichlet, (("load", Uniform(0.02, 0.12)),))


def _down(ops, q):
    return -q["load"]


def nodal_derivatives(quadrature: CellPoints, nodal: Tensor) -> FieldDerivatives:
    """Nodal fields (B, N, c) and their gradients at quadrature points, as a network's fields are given."""
    by_component = nodal.movedim(-1, 0)
    values = torch.stack([quadrature.interpolate(one).flatten(1, 2) for one in by_component], -1)
    gradients = torch.stack([quadrature.gradient(one).flatten(1, 2) for one in by_component], -2)
    return FieldDerivatives(values, gradients)


def nodal_quantities(of: Case, instances: Instances, quadrature: CellPoints, nodal: Tensor) -> dict[str, Tensor]:
    """The quantities of nodal fields (B, N, c)."""
    points, fields = quadrature.points.flatten(1, 2), nodal_derivatives(quadrature, nodal)
    return quantities(of.data, points, fields, instances.parameters)
