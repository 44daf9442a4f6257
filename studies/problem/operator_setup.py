"""From a checked operator study to the objects that its training and its evaluation use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.geometries.cad.mesher import MeshError
from shapewright.geometries.design.dirichlet_lift import DirichletLift, Prescribed, build_dirichlet_lift
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.effort import forcing
from shapewright.geometries.family.family import Family
from shapewright.geometries.fields.problem import Function, Problem
from shapewright.geometries.fields.quantities import field_space
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.studies.problem.effort import refuse_large_network
from shapewright.studies.problem.equations import boundary_value_problem, check_on_mesh, physics_key, physics_of
from shapewright.studies.problem.families import families, fixed_key, geometry_key
from shapewright.studies.schema.loader import Study, StudyError, load_study
from shapewright.studies.schema.named import formula, formula_name, free_name, names_in_formulas
from shapewright.studies.schema.operator_study import Number, OperatorStudyModel
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.design_surrogate import latent_grid_for
from shapewright.surrogate.models.instances import Distribution, Instances, Normal, Population, Uniform
from shapewright.surrogate.models.point_quantities import ProblemData
from shapewright.surrogate.models.problem_operator import ProblemOperator, input_functions, scales
from shapewright.surrogate.training.physics_training import PhysicsTrainingConfig, Solutions


@dataclass(frozen=True)
class OperatorSetup:
    """An operator study ready to run.

    Attributes:
        study: as loaded.
        family: shapes with the study's bounds.
        problem: what is solved, its parameters the numbers of the instances.
        population: what instances are drawn from.
        lift: boundary values on the mesh over which the physics is integrated in training.
    """

    study: Study[OperatorStudyModel]
    family: Family
    problem: Problem
    population: Population
    lift: DirichletLift

    @property
    def data(self) -> ProblemData:
        """The problem as the surrogate sees it."""
        physics = self.problem.physics
        return ProblemData(
            equations=physics,
            coefficients=field_space(self.problem).coefficients,
            sources=self.problem.sources,
            dirichlet=self.problem.dirichlet,
            primary=len(physics.fields[0].components),
        )

    @cached_property
    def truth_lift(self) -> DirichletLift:
        """Boundary values on the resolved mesh of the finite-element solutions."""
        return self.lift_at(self.study.model.evaluation.mesh_size)

    @cached_property
    def training_lifts(self) -> tuple[DirichletLift, ...]:
        """Boundary values on meshes of slightly different cell sizes."""
        model = self.study.model
        others = [1 + 0.1 * k / model.training.meshes for k in range(1, model.training.meshes)]
        return self.lift, *(self.lift_at(model.geometry.mesh_size * factor) for factor in others)

    def lift_at(self, mesh_size: float) -> DirichletLift:
        """Boundary values on a mesh of another cell size."""
        return _lift(self.study, self.family, self.problem, mesh_size)

    def network(self) -> ProblemOperator:
        """The study's operator with fresh weights, in float32.

        Raises:
            StudyError: the latent grid is too small for the radius or for the modes.
        """
        model, data = self.study.model.surrogate, self.data
        inputs = input_functions(data, list(self.problem.parameters))
        scale, input_scale = scales(data, inputs, self.population, self.lift)
        torch.manual_seed(self.study.model.training.seed)
        config = OperatorConfig(model.width, model.hidden, model.modes_per_axis, model.layers, model.mollifier)
        tags = self.lift.shape_map.mesh.tag_names
        try:
            grid = latent_grid_for(self.lift.shape_map, model.grid, model.radius)
            return ProblemOperator(data, tags, grid, config, inputs, scale, input_scale).float()
        except ValueError as error:
            raise StudyError(f"{self.study.location('surrogate.grid')}: surrogate.grid: {error}") from error

    def problem_key(self) -> dict[str, Any]:
        """Everything that solutions depend on, as plain data."""
        model = self.study.model
        parameters = {name: number.model_dump(mode="json") for name, number in model.instances.items()}
        bounds = {"bounds": {name: list(b) for name, b in model.geometry.bounds.items()}}
        geometry = geometry_key(self.study) | fixed_key(self.study) | bounds
        physics = model.physics.model_dump(mode="json", exclude={"slip"})  # which no operator learns
        return {"geometry": geometry, "instances": parameters, "physics": physics} | physics_key(self.study)

    def trained_for(self) -> dict[str, Any]:
        """Everything that the weights depend on, as plain data."""
        network = self.study.model.surrogate.model_dump(mode="json", exclude={"weights"})
        return self.problem_key() | {"surrogate": network}

    def training_config(self) -> PhysicsTrainingConfig:
        """The study's training section as the trainer takes it."""
        return PhysicsTrainingConfig(**self.study.model.training.model_dump(exclude={"solutions", "weights", "meshes"}))

    def residual_weights(self) -> dict[str, Function]:
        """Component -> factor of its equation in the weak residual."""
        return _residual_weights(self.study, self.problem)


def load_operator_study(path: str | Path, overrides: tuple[str, ...] = ()) -> Study[OperatorStudyModel]:
    """Read and check an operator study; see :func:`loader.load_study`."""
    return load_study(path, overrides, OperatorStudyModel)


def build_operator_setup(study: Study[OperatorStudyModel]) -> OperatorSetup:
    """Check the study against its family and its physics, and build all.

    Raises:
        StudyError: names file, line and key.
    """
    _, family = families(study)
    model = study.model
    if model.physics.slip:
        found = f"'{model.physics.slip[0]}'"
        raise study.error("physics.slip", found, "none: an operator learns from the inside and prescribed values")
    if model.physics.natural:
        found = f"{len(model.physics.natural)} of them"
        raise study.error("physics.natural", found, "none: an operator learns from the inside and prescribed values")
    if model.physics.cases:
        found = f"{len(model.physics.cases)} of them"
        raise study.error("physics.cases", found, "none: say what varies by instances")
    distributions = {name: _distribution(number) for name, number in model.instances.items()}
    half = torch.tensor(0.5, dtype=torch.float64)
    middle = {name: float(distribution.quantile(half)) for name, distribution in distributions.items()}
    physics = physics_of(study)
    shapes = {parameter.name: parameter.default for parameter in family.parameters}
    taken = names_in_formulas(physics)
    for name in shapes:
        free_name(study, "geometry.family", name, taken)
        formula_name(study, "geometry.family", name)
    taken |= dict.fromkeys(shapes, f"a parameter of the family '{family.name}'")
    for name in distributions:
        free_name(study, f"instances.{name}", name, taken)
        formula_name(study, f"instances.{name}", name)
    problem = boundary_value_problem(study, family, (), shapes | middle)
    _check_loss(study, problem)
    refuse_large_network(study, model.training.points[1])
    lift = _lift(study, family, problem, model.geometry.mesh_size)
    check_on_mesh(study, problem, lift.shape_map)
    return OperatorSetup(study, family, problem, Population(tuple(shapes), family.bounds, distributions), lift)


def _check_loss(study: Study[OperatorStudyModel], problem: Problem) -> None:
    """Check that the loss has what it needs, and that no weight is given which it would not use."""
    physics, training = problem.physics, study.model.training
    if training.loss == "energy":
        if physics.energy is None:
            raise study.error("training.loss", f"'energy', which physics '{physics.name}' has not", "weak_residual")
        if training.weights:
            raise study.error("training.weights", "it with training.loss energy", "it with weak_residual only")
        return
    zeros = {name: torch.zeros(()) for name in physics.quantities}
    prescribed = {condition.component for condition in problem.dirichlet}
    for component in physics.flux(torch, zeros):
        if component not in prescribed:
            expected = f"'{component}' prescribed on some region, which training.loss weak_residual needs"
            raise study.error("physics.dirichlet", f"no value of '{component}'", expected)
    _residual_weights(study, problem)


def solve_instances(
    setup: OperatorSetup,
    lift: DirichletLift,
    instances: Instances,
    report: Callable[[int], None] = lambda done: None,
) -> Solutions:
    """Finite-element solutions of the instances on the mesh of ``lift``.

    Raises:
        SolveError: says at which instance.
    """
    solver = FemSolver(setup.problem, lift.shape_map.mesh)
    fields = []
    for index in range(len(instances)):
        parameters = {name: float(values[index]) for name, values in instances.parameters.items()}
        try:
            solution = solver.solve(lift.shape_map.nodes(instances.theta[index]).numpy(), parameters=parameters)
        except SolveError as error:
            values = ", ".join(f"{name} {value:.6g}" for name, value in parameters.items())
            raise SolveError(f"instance {index} ({values}): {error}") from error
        fields.append(np.concatenate([solution.fields[f.name] for f in setup.problem.physics.fields], -1))
        report(index + 1)
    return Solutions(instances, torch.from_numpy(np.stack(fields)), lift)


def _residual_weights(study: Study[OperatorStudyModel], problem: Problem) -> dict[str, Function]:
    found: dict[str, Function] = {}
    for name, value in study.model.training.weights.items():
        key = f"training.weights.{name}"
        if name not in problem.physics.components:
            raise study.error(key, f"'{name}'", f"a component: {', '.join(problem.physics.components)}")
        found[name] = formula(study, key, value, problem.parameters)
    return found


def _distribution(number: Number) -> Distribution:
    if number.uniform is not None:
        return Uniform(*number.uniform)
    assert number.normal is not None  # the schema has seen to it
    return Normal(*number.normal)


def _lift(study: Study[OperatorStudyModel], family: Family, problem: Problem, mesh_size: float) -> DirichletLift:
    try:
        with forcing(study.force):
            shape_map = build_shape_map(family, mesh_size)
    except MeshError as error:
        raise StudyError(f"{study.location('geometry')}: geometry: cannot be meshed: {error}") from error
    tags: dict[str, list[str]] = {}
    for condition in problem.dirichlet:
        tags.setdefault(condition.component, []).append(condition.tag)
    # a region that is named twice has the rank, and the value, of its last condition
    prescribed = [Prescribed(c, tuple(dict.fromkeys(reversed(own)))[::-1]) for c, own in tags.items()]
    return build_dirichlet_lift(shape_map, problem.physics.components, prescribed)
