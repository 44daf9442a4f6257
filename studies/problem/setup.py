"""From a checked study file to the objects that the stages work with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.cad.mesher import MeshError
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.measures import ShapeError, check_design, quantities_of
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.effort import forcing
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.fixed import fix_parameters
from shapewright.geometries.fields.quantities import FieldSpace, field_space, positions
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.stiffness import dirichlet_factor
from shapewright.solvers.physics.catalogue import Dirichlet, Problem
from shapewright.studies.problem.case_maps import CaseMaps
from shapewright.studies.problem.conditions import Condition, conditions_of
from shapewright.studies.problem.effort import refuse_effort
from shapewright.studies.problem.equations import boundary_value_problem, check_on_mesh, physics_key, physics_of
from shapewright.studies.problem.families import families, fixed_key, geometry_key
from shapewright.studies.problem.functionals import functional_data, functionals_of
from shapewright.studies.problem.load_cases import with_cases
from shapewright.studies.problem.patches import problem_at, with_patches
from shapewright.studies.problem.scatter import parameters_of
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.study import StudyModel
from shapewright.surrogate.models.weights_file import SurrogateFileError, load_mesh


@dataclass(frozen=True)
class Setup:
    """A study ready to run.

    Attributes:
        study: as loaded.
        family: geometry family with the study's bounds and start.
        shape_map: the family on the reference mesh of its own bounds; a surrogate shares it whatever the study's are.
        problem: the boundary-value problem; its functionals are the objective, then those under a condition.
        constraints: conditions on geometric quantities and on functionals, as the study lists them.
        initial: (P,) float64 start design.
    """

    study: Study[StudyModel]
    family: Family
    shape_map: ShapeMap
    problem: Problem
    constraints: tuple[Condition, ...]
    initial: Tensor

    @cached_property
    def maps(self) -> CaseMaps:
        """From designs to the nodes of all cases."""
        return CaseMaps(self.problem, self.shape_map)

    @property
    def space(self) -> FieldSpace:
        """Components, coefficients and sources, as the surrogate needs them."""
        return field_space(self.problem)

    @property
    def sign(self) -> int:
        """1 to minimize the objective, -1 to maximize it."""
        return self.study.model.objective.sign

    def problem_at(self, theta: Tensor) -> Problem:
        """The problem for a mesh of the design theta (P,) itself, not one that is moved from the reference mesh."""
        return problem_at(self.problem, self.shape_map, theta)

    def quantity(self, name: str, theta: Tensor) -> Tensor:
        """Geometric quantity of designs theta (..., P)."""
        return quantities_of(self.shape_map)[name].evaluate(self.shape_map, theta)

    def factors(self) -> NDArray[np.float64]:
        """(N, c) function per component that vanishes where its prescribed values move with the mesh."""
        made: dict[tuple[str, ...], NDArray[np.float64]] = {}
        columns = []
        for component in self.problem.physics.components:
            conditions = [d for d in self.problem.dirichlet if d.component == component]
            tags = tuple(sorted({d.tag for d in conditions if self._moves_with_mesh(d)}))
            if tags not in made:
                made[tags] = dirichlet_factor(self.shape_map.mesh, list(tags))
            columns.append(made[tags])
        return np.stack(columns, -1)

    def _moves_with_mesh(self, condition: Dirichlet) -> bool:
        """Whether every node of the boundary keeps its prescribed value when the shape changes.

        A value that varies along a boundary which moves does not; the surrogate has to learn it.
        """
        bounds = self.shape_map.family.bounds
        generator = torch.Generator().manual_seed(0)
        theta = bounds[:, :1].T + (bounds[:, 1] - bounds[:, 0]) * torch.rand(4, len(bounds), generator=generator)
        index = torch.from_numpy(np.unique(self.shape_map.mesh.facets_on(condition.tag)))
        reference = self.shape_map.reference_nodes[index]
        moved = self.shape_map.nodes(theta)[:, index]
        values = [
            torch.as_tensor(condition.value(torch, positions(at)), dtype=torch.float64)
            for at in (reference, moved)
        ]
        rounding = 1e-12 * float(torch.stack([part.abs().max() for part in values]).max())
        return bool(torch.allclose(values[1], values[0].expand_as(values[1]), rtol=1e-9, atol=rounding))

    def trained_for(self) -> dict[str, Any]:
        """Everything that a surrogate of this study depends on, as plain data."""
        model = self.study.model
        network = model.surrogate.model_dump(mode="json", exclude={"weights"})
        unused = {key for key in ("pins", "slip") if not getattr(model.physics, key)}  # newer than shipped weights
        others = [functional_data(self.study, functional.name) for functional in self.problem.functionals[1:]]
        return {
            "geometry": geometry_key(self.study),
            "parameters": [p.name for p in self.shape_map.origin.parameters],
            "physics": model.physics.model_dump(mode="json", exclude=unused),
            **physics_key(self.study),
            "objective": functional_data(self.study, model.objective.functional_name),
            "surrogate": network,
        } | ({"constrained": others} if others else {}) | fixed_key(self.study) | self._scatter()

    def _scatter(self) -> dict[str, Any]:
        scatter = self.study.model.scatter
        return {} if scatter is None else {"scatter": scatter.model_dump(mode="json", exclude={"compare"})}


def build_setup(study: Study[StudyModel]) -> Setup:
    """Check the study against its family and its physics, and build both.

    Raises:
        StudyError: names file, line and key.
    """
    with forcing(study.force):
        return _build_setup(study)


def _build_setup(study: Study[StudyModel]) -> Setup:
    native, family = families(study)
    refuse_effort(study, native)
    shipped = _shipped_mesh(study, native)
    try:
        shape_map = build_shape_map(native, study.model.geometry.mesh_size, shipped)
    except MeshError as error:
        if shipped is not None:
            key = "surrogate.weights"
            path = study.folder / str(study.model.surrogate.weights)
            raise StudyError(f"{study.location(key)}: {key}: {path}: its reference mesh: {error}") from error
        raise StudyError(f"{study.location('geometry')}: geometry: cannot be meshed: {error}") from error
    fixed = study.model.geometry.fixed
    if fixed:
        shape_map = replace(shape_map, family=fix_parameters(native, fixed), made_for=native)
    physics = physics_of(study)
    functionals = functionals_of(study, family, physics, quantities_of(shape_map))
    problem = boundary_value_problem(study, family, functionals, parameters_of(study, physics))
    problem = with_cases(study, family, problem)
    check_on_mesh(study, problem, shape_map)
    initial = family.default
    try:
        check_design(shape_map, initial)
    except ShapeError as error:
        key = "geometry.fixed" if fixed else "geometry.initial"
        raise study.error(key, f"a start design that is no valid shape ({error})", "a valid one") from error
    problem = with_patches(study, problem, shape_map, initial)
    return Setup(study, family, shape_map, problem, conditions_of(study, shape_map, problem, initial), initial)


def _shipped_mesh(study: Study[StudyModel], family: Family) -> Mesh | None:
    """The reference mesh that came with the weights; None where they do not fit, which is said when they are used."""
    weights = study.model.surrogate.weights
    if weights is None:
        return None
    try:
        mesh, card = load_mesh(study.folder / weights, family.tags)
    except SurrogateFileError:
        return None
    return mesh if card.trained_for.get("geometry") == geometry_key(study) else None
