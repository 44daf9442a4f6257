"""From a checked study of a solid to the objects that its stages work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from shapewright.geometries.cad.faces import box_of
from shapewright.geometries.cad.solid_checks import part_size, volume_and_centroid
from shapewright.geometries.cad.solid_mesher import REST, MeshOptions, mesh_solid
from shapewright.geometries.cad.step import CadShape
from shapewright.geometries.design.free_form import FreeForm, free_form
from shapewright.geometries.design.kept_faces import zones_around
from shapewright.geometries.design.lattice import Lattice
from shapewright.geometries.design.measures import Quantity
from shapewright.geometries.design.solid_map import SolidMap
from shapewright.geometries.design.solid_measures import SOLID_QUANTITIES
from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.studies.files import sha256
from shapewright.studies.problem.case_maps import CaseMaps
from shapewright.studies.problem.conditions import Condition, conditions_on
from shapewright.studies.problem.equations import boundary_value_problem, check_on_mesh, physics_key, physics_of
from shapewright.studies.problem.functionals import functionals_of
from shapewright.studies.problem.load_cases import with_cases
from shapewright.studies.problem.solid_regions import read_part, regions_of
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.solid_study import SolidStudyModel

LEAST_CELL = 0.02
"""Least Jacobian of a cell, over that in the part as it came, that a search may come to: at zero there is no solution,
and a search that runs into that wall ends there."""


@dataclass(frozen=True)
class SolidFamily:
    """The designs of a solid, as the optimizer sees them.

    Attributes:
        name: of the study.
        form: the deformation.
        tags: names of the boundary regions.
    """

    name: str
    form: FreeForm
    tags: tuple[str, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Motions of the control points."""
        return self.form.parameters

    @property
    def bounds(self) -> Tensor:
        """(P, 2) float64 lower and upper bounds."""
        return self.form.bounds

    @property
    def default(self) -> Tensor:
        """(P,) the part as it came."""
        return self.form.default


@dataclass(frozen=True)
class SolidSetup:
    """A study of a solid ready to run; what :class:`setup.Setup` is to a planar family.

    Attributes:
        study: as loaded.
        cad: the solid as it came.
        regions: region -> numbers of its faces.
        family: parameters, bounds and regions.
        shape_map: the deformation on a mesh of the solid as it came.
        problem: the boundary-value problem with its load cases.
        constraints: conditions on geometric quantities and on functionals.
        initial: (P,) start design.
    """

    study: Study[SolidStudyModel]
    cad: CadShape
    regions: Mapping[str, tuple[int, ...]]
    family: SolidFamily
    shape_map: SolidMap
    problem: Problem
    constraints: tuple[Condition, ...]
    initial: Tensor

    @cached_property
    def maps(self) -> CaseMaps:
        """From designs to the nodes of all cases."""
        return CaseMaps(self.problem, self.shape_map)

    @property
    def sign(self) -> int:
        """1 to minimize the objective, -1 to maximize it."""
        return self.study.model.objective.sign

    @cached_property
    def quantities(self) -> Mapping[str, Quantity]:
        """Geometric quantities by name, the volume in proportion so that the part as it came has that of its CAD."""
        own = SOLID_QUANTITIES["volume"]
        ratio = volume_and_centroid(self.cad)[0] / float(own.evaluate(self.shape_map, self.initial))  # type: ignore[arg-type]

        def volume(solid: Any, theta: Tensor) -> Tensor:
            return ratio * own.evaluate(solid, theta)

        return {**SOLID_QUANTITIES, "volume": replace(own, evaluate=volume)}

    def quantity(self, name: str, theta: Tensor) -> Tensor:
        """Geometric quantity of designs theta (..., P)."""
        return self.quantities[name].evaluate(self.shape_map, theta)  # type: ignore[arg-type]

    @property
    def size(self) -> float:
        """Diagonal of the box around the part as it came, in the study's unit."""
        return part_size(self.cad)

    @property
    def mesh_options(self) -> MeshOptions:
        """Of the search."""
        return MeshOptions(self.study.model.geometry.mesh_size, self.study.model.geometry.curvature)

    def on_mesh(self, mesh: Mesh) -> SolidSetup:
        """The same study on another mesh of the solid as it came."""
        return replace(self, shape_map=SolidMap(self.family.form, mesh))

    @cached_property
    def data(self) -> dict[str, Any]:
        """Everything that solutions depend on, as plain data."""
        model = self.study.model
        geometry = model.geometry.model_dump(mode="json", exclude={"cad"})
        own = ("physics", "cases", "objective", "constraints")
        return {"cad": cad_key(self.study), "geometry": geometry} | {
            **{name: value for name, value in model.model_dump(mode="json").items() if name in own},
            **physics_key(self.study),
        }


def cad_key(study: Study[SolidStudyModel]) -> str:
    """Hash of the file that the solid is from."""
    name, _, _ = study.model.geometry.cad.partition(":")
    return sha256(study.folder / name)[:16]


def build_solid_setup(study: Study[SolidStudyModel]) -> SolidSetup:
    """Read the CAD, mesh it, and check the study against both.

    Raises:
        StudyError: names file, line and key.
    """
    (cad, faces), geometry = read_part(study), study.model.geometry
    size = part_size(cad)
    regions = regions_of(study, faces, size)
    named = sum(map(len, regions.values()))
    tagged = _Regions((*regions, *((REST,) if named < len(faces) else ())))
    functionals = functionals_of(study, tagged, physics_of(study), SOLID_QUANTITIES)
    problem = with_cases(study, tagged, boundary_value_problem(study, tagged, functionals))
    _loads_do_something(study, problem)
    try:
        mesh = mesh_solid(cad, regions, MeshOptions(geometry.mesh_size, geometry.curvature)).mesh
    except MeshError as error:
        raise StudyError(f"{study.location('geometry.mesh_size')}: geometry.mesh_size: {error}") from error
    form = _form(study, cad, regions, torch.from_numpy(mesh.nodes))
    family = SolidFamily(study.model.name, form, tagged.tags)
    shape_map = SolidMap(form, mesh)
    check_on_mesh(study, problem, shape_map)
    initial = family.default
    setup = SolidSetup(study, cad, regions, family, shape_map, problem, (), initial)
    given = conditions_on(study, setup.quantities, shape_map, problem, initial, size)
    return replace(setup, constraints=_with_margins(study, given))


@dataclass(frozen=True)
class _Regions:
    """Names of the boundary regions; see :class:`named.Tagged`."""

    tags: tuple[str, ...]


def _form(
    study: Study[SolidStudyModel], cad: CadShape, regions: Mapping[str, tuple[int, ...]], nodes: Tensor
) -> FreeForm:
    geometry, size = study.model.geometry, part_size(cad)
    box = geometry.lattice.box
    if box == "part":
        low, high = (tuple((corner / cad.factor).tolist()) for corner in box_of(cad.shape))
    else:
        low, high = box
    wanted = geometry.lattice
    try:
        lattice = Lattice(
            low, high, wanted.points, wanted.limit * size, wanted.move, wanted.symmetric, dict(wanted.ties.items())
        )
        numbers = [number for name in geometry.keep for number in regions[name]]
        return free_form(lattice, zones_around(cad, numbers, geometry.keep_width * size), nodes)
    except ShapeError as error:
        key = "geometry.keep" if str(error).startswith("keep") else "geometry.lattice"
        raise StudyError(f"{study.location(key)}: {key}: {error}") from error


def _loads_do_something(study: Study[SolidStudyModel], problem: Problem) -> None:
    moved = any(d.value(torch, _Anywhere()) != 0.0 for d in problem.dirichlet)
    if not (problem.natural or problem.sources or moved):
        raise study.error("physics", "no load", "natural, source or a prescribed value, for all cases or in cases")


class _Anywhere(dict[str, float]):
    """Coordinates and parameters at some point."""

    def __missing__(self, name: str) -> Tensor:
        return torch.tensor(0.37, dtype=torch.float64)


def _with_margins(study: Study[SolidStudyModel], given: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions, with those that every study of a solid has: neither the deformation nor a cell may fold."""
    found = list(given)
    for name, least in (("jacobian", study.model.optimizer.least_jacobian), ("cells", LEAST_CELL)):
        if not any(condition.quantity == name for condition in given):
            place = len(found)
            found.append(Condition(f"{name} at least", name, "at_least", least, 1e-6, "1", None, least, place))
    return tuple(found)
