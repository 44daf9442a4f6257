"""From a checked study file to the objects that the stages work with."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.cad.mesher import MeshError
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.measures import ShapeError, check_design, quantities_of
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.effort import MOST_BYTES, estimated_nodes, forced, forcing, in_words, mesh_fault
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.fixed import fix_parameters
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.geometries.fields.admissible import excess
from shapewright.geometries.fields.names import normal
from shapewright.geometries.fields.problem import ProblemError
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.stiffness import dirichlet_factor
from shapewright.solvers.fem.data_checks import excesses
from shapewright.solvers.physics.catalogue import PHYSICS, Dirichlet, Function, Functional, Natural, Pin, Problem
from shapewright.studies.problem.boundary_data import boundary_conditions_of, sources_of
from shapewright.studies.problem.conditions import Condition, conditions_of
from shapewright.studies.problem.functionals import functional_data, functionals_of
from shapewright.studies.problem.load_cases import with_cases
from shapewright.studies.problem.patches import patches_of, problem_at, with_patches
from shapewright.studies.schema.learning import Surrogate
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.named import formula, known_component, known_tag
from shapewright.surrogate.mgno.network_size import estimated_training_bytes
from shapewright.surrogate.models.functionals import FieldSpace
from shapewright.surrogate.models.model_card import SurrogateFileError, load_mesh

THICKNESSES = 1e-6, 1e4
"""Least and largest thickness of a solid in sizes of its section."""


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

    study: Study
    family: Family
    shape_map: ShapeMap
    problem: Problem
    constraints: tuple[Condition, ...]
    initial: Tensor

    @property
    def space(self) -> FieldSpace:
        """Components, coefficients and sources, as the surrogate needs them."""
        problem = self.problem
        defaults = {c.name: _constant(c.default) for c in problem.physics.coefficients}
        coefficients = defaults | dict(problem.coefficients)
        return FieldSpace(problem.physics.components, coefficients, problem.sources, problem.parameters)

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
        """(N, c) function per component that vanishes where its prescribed values ride on the map."""
        made: dict[tuple[str, ...], NDArray[np.float64]] = {}
        columns = []
        for component in self.problem.physics.components:
            conditions = [d for d in self.problem.dirichlet if d.component == component]
            tags = tuple(sorted({d.tag for d in conditions if self._rides_on_map(d)}))
            if tags not in made:
                made[tags] = dirichlet_factor(self.shape_map.mesh, list(tags))
            columns.append(made[tags])
        return np.stack(columns, -1)

    def _rides_on_map(self, condition: Dirichlet) -> bool:
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
            torch.as_tensor(condition.value(torch, {"x": at[..., 0], "y": at[..., 1]}), dtype=torch.float64)
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
            "objective": functional_data(self.study, model.objective.functional_name),
            "surrogate": network,
        } | ({"constrained": others} if others else {}) | fixed_key(self.study)


def build_setup(study: Study) -> Setup:
    """Check the study against its family and its physics, and build both.

    Raises:
        StudyError: names file, line and key.
    """
    with forcing(study.force):
        return _build_setup(study)


def _build_setup(study: Study) -> Setup:
    native, family = families(study)
    _refuse_effort(study, native)
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
    physics = PHYSICS[study.model.physics.name]
    functionals = functionals_of(study, family, physics, quantities_of(shape_map))
    problem = boundary_value_problem(study, family, functionals)
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


def _refuse_effort(study: Study, family: Family) -> None:
    """Refuse meshes of the study, the certificate's included, that are larger than without ``--force``."""
    geometry, validation = study.model.geometry, study.model.validation
    coarsest = "geometry.mesh_size" if validation.mesh_size is None else "validation.mesh_size"
    finest = (validation.mesh_size or geometry.mesh_size) / 2.0 ** min(validation.refinements - 1, 1000)
    points = family.control_points(family.reference).numpy()
    for key, size, which in (
        ("geometry.mesh_size", geometry.mesh_size, ""),
        (coarsest, finest, f"on the finest of {validation.refinements} validation.refinements, "),
    ):
        found = mesh_fault(family, points, size)
        if found:
            raise StudyError(f"{study.location(key)}: {key}: {which}{found}")
    _refuse_thickness(study, family, points)
    refuse_large_network(study, estimated_nodes(family, points, geometry.mesh_size))


def _refuse_thickness(study: Study, family: Family, points: NDArray[np.float64]) -> None:
    """Refuse a solid so thin or so long beside its section that no CAD program could tell its faces apart."""
    thickness = study.model.geometry.thickness
    size = float(np.ptp(points[family.loop_slices[family.part]], axis=0).max())
    least, most = (share * size for share in THICKNESSES)
    if thickness is not None and not least <= thickness <= most:
        raise study.error(
            "geometry.thickness", f"{thickness:g}", f"{least:.3g} to {most:.3g}, beside a part of size {size:.3g}"
        )


def refuse_large_network(study: Study, points: float) -> None:
    """Refuse a network that takes more memory in training than is taken without ``--force``.

    Raises:
        StudyError: names the size that makes it so large, the estimate and the limit.
    """
    model = study.model.surrogate

    def bytes_of(size: Surrogate) -> float:
        sizes = size.width, size.hidden, size.modes_per_axis, size.layers, size.grid, size.radius
        return estimated_training_bytes(*map(_as_real, (*sizes, study.model.training.batch)), points)

    expected = bytes_of(model)
    if expected <= MOST_BYTES or forced():
        return
    names = ("width", "hidden", "modes", "layers", "grid", "radius")
    usual = {name: type(model).model_fields[name].default for name in names}
    culprit = min(usual, key=lambda name: bytes_of(model.model_copy(update={name: usual[name]})))
    key = f"surrogate.{culprit}"
    raise StudyError(
        f"{study.location(key)}: {key}: found {reprlib.repr(getattr(model, culprit))}: training such a"
        f" network takes about {in_words(expected)} of memory; the limit is {in_words(MOST_BYTES)}: make it smaller, or"
        " give --force to go on"
    )


def _as_real(count: Any) -> Any:
    """A whole number, or each of several, as a real one: in a file it may have any number of digits."""
    return tuple(map(_as_real, count)) if isinstance(count, tuple) else float(min(count, 10**30))


def _shipped_mesh(study: Study, family: Family) -> Mesh | None:
    """The reference mesh that came with the weights; None where they do not fit, which is said when they are used."""
    weights = study.model.surrogate.weights
    if weights is None:
        return None
    try:
        mesh, card = load_mesh(study.folder / weights, family.tags)
    except SurrogateFileError:
        return None
    return mesh if card.trained_for.get("geometry") == geometry_key(study) else None


def families(study: Study) -> tuple[Family, Family]:
    """The family with its own bounds and all its parameters; and with those that the study leaves free, and its bounds.

    Raises:
        StudyError: names file, line and key.
    """
    with forcing(study.force):
        return _families(study)


def _families(study: Study) -> tuple[Family, Family]:
    geometry = study.model.geometry
    try:
        family = load_family(geometry.family, geometry.options, study.folder)
    except FamilyError as error:
        about_options = "option" in str(error) or str(error).startswith(f"{geometry.family}:")
        key = "geometry.options" if about_options else "geometry.family"
        raise StudyError(f"{study.location(key)}: {key}: {error}") from error
    names = [parameter.name for parameter in family.parameters]
    for section in ("bounds", "initial", "fixed"):
        for name in getattr(geometry, section):
            if name not in names:
                raise study.error(
                    f"geometry.{section}.{name}", f"'{name}'", f"a parameter: {', '.join(names)}"
                )
    changed = []
    for parameter in family.parameters:
        lower, upper = geometry.bounds.get(parameter.name, (parameter.lower, parameter.upper))
        value = geometry.initial.get(parameter.name, min(max(parameter.default, lower), upper))
        try:
            changed.append(
                replace(parameter, lower=lower, upper=upper, default=value, unit=_unit(parameter, study))
            )
        except FamilyError as error:
            is_start = parameter.name in geometry.initial
            key, found = ("initial", str(value)) if is_start else ("bounds", str([lower, upper]))
            raise study.error(f"geometry.{key}.{parameter.name}", found, str(error)) from error
    key = "geometry.fixed" if geometry.fixed else "geometry.bounds"
    try:
        return family, fix_parameters(replace(family, parameters=tuple(changed)), geometry.fixed)
    except FamilyError as error:
        raise StudyError(f"{study.location(key)}: {key}: {error}") from error


def _unit(parameter: Parameter, study: Study) -> str:
    return study.model.geometry.length_unit if parameter.unit == "length" else parameter.unit


def boundary_value_problem(
    study: Study, family: Family, functionals: tuple[Functional, ...], parameters: Mapping[str, float] | None = None
) -> Problem:
    """The physics section of a study; its formulas may use the ``parameters``, given with their defaults.

    Raises:
        StudyError: names file, line and key.
    """
    model, parameters = study.model.physics, parameters or {}
    physics = PHYSICS[model.name]
    arguments = (*physics.coordinates, *parameters)
    names = {c.name for c in physics.coefficients}
    for name in model.coefficients:
        if name not in names:
            raise study.error(
                f"physics.coefficients.{name}", f"'{name}'", f"a coefficient: {', '.join(sorted(names))}"
            )
    coefficients = {
        name: formula(study, f"physics.coefficients.{name}", value, arguments)
        for name, value in model.coefficients.items()
    }
    for coefficient in physics.coefficients:
        given = coefficients.get(coefficient.name)
        if given is not None and not given.names:
            found = excess(coefficient.name, coefficient.allowed, given(torch, {}), {})
            if found is not None:
                raise study.error(f"physics.coefficients.{coefficient.name}", found.found, found.allowed)
    components = physics.components
    sources = sources_of(study, "physics.source", model.source, components, arguments)
    everywhere = (*arguments, *components, *names)
    try:
        return Problem(
            physics,
            coefficients,
            sources,
            tuple(
                Dirichlet(*c)
                for c in boundary_conditions_of(
                    study, family, "physics.dirichlet", model.dirichlet, components, arguments
                )
            ),
            tuple(
                Natural(*c)
                for c in boundary_conditions_of(
                    study,
                    family,
                    "physics.natural",
                    model.natural,
                    components,
                    (*everywhere, *normal(physics.dimension)),
                )
            ),
            functionals,
            parameters,
            _pins(study, family, components),
            patches_of(study, family, components),
            _slip(study, family),
        )
    except ProblemError as error:
        raise study.error("physics", "conditions that contradict each other", str(error)) from error


def check_on_mesh(study: Study, problem: Problem, shape_map: ShapeMap) -> None:
    """Refuse coefficients that are not admissible at the quadrature points of the reference mesh.

    Raises:
        StudyError: names file, line and key.
    """
    nodes = shape_map.reference_nodes.numpy()
    for found in excesses(problem, shape_map.mesh, nodes, problem.parameter_values()):
        raise study.error(f"physics.coefficients.{found.name}", found.found, found.allowed)


def _slip(study: Study, family: Family) -> tuple[str, ...]:
    tags = study.model.physics.slip
    physics = PHYSICS[study.model.physics.name]
    for index, tag in enumerate(tags):
        known_tag(study, f"physics.slip.{index}", tag, family.tags)
        if physics.traction is None:
            able = ", ".join(p.name for p in PHYSICS.values() if p.traction is not None)
            raise study.error(f"physics.slip.{index}", f"it with physics '{physics.name}'", f"one of {able}")
        if tag in tags[:index]:
            raise study.error(f"physics.slip.{index}", f"'{tag}' twice", "each region once")
    return tags


def _pins(study: Study, family: Family, components: tuple[str, ...]) -> tuple[Pin, ...]:
    for index, pin in enumerate(study.model.physics.pins):
        known_component(study, f"physics.pins.{index}.component", pin.component, components)
        known_tag(study, f"physics.pins.{index}.on", pin.on, family.tags)
    return tuple(Pin(pin.component, pin.on) for pin in study.model.physics.pins)


def _constant(value: float) -> Function:
    return lambda ops, q: value


def geometry_key(study: Study) -> dict[str, Any]:
    """What the reference mesh depends on, as plain data."""
    included = {"family", "options", "length_unit", "mesh_size"}
    geometry = study.model.geometry.model_dump(mode="json", include=included)
    options = dict(geometry["options"])
    if geometry["family"] == "closed_bar":
        options.pop("start", None)  # where a search begins changes nothing that is learnt
    key = geometry | {"options": options}
    file, _, _ = study.model.geometry.family.rpartition(":")
    if file:  # a family of one's own: its text is what it is
        key["family_text"] = hashlib.sha256((study.folder / file).read_bytes()).hexdigest()[:16]
    return key


def fixed_key(study: Study) -> dict[str, Any]:
    """The parameters held fixed, where there are any, as plain data: what is learnt holds for their values alone."""
    fixed = study.model.geometry.fixed
    return {"fixed": dict(sorted(fixed.items()))} if fixed else {}
