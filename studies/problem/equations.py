"""The physics of a study, and its boundary-value problem."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.design.solid_map import SolidMap
from shapewright.geometries.fields.admissible import excess
from shapewright.geometries.fields.names import normal
from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.fem.data_checks import excesses
from shapewright.solvers.physics.catalogue import (
    PHYSICS,
    Dirichlet,
    Functional,
    Natural,
    Physics,
    Pin,
    Problem,
    load_physics,
)
from shapewright.studies.problem.boundary_data import boundary_conditions_of, sources_of
from shapewright.studies.problem.own_files import physics_file, text_key
from shapewright.studies.problem.patches import patches_of
from shapewright.studies.schema.loader import BoundaryValueStudy, StudyError
from shapewright.studies.schema.named import Tagged, formula, known_component, known_tag


def physics_of(study: BoundaryValueStudy) -> Physics:
    """The physics of a study: built in, from a file of the user's own, or an object.

    Raises:
        StudyError: names file, line and key.
    """
    name, dimension = study.model.physics.name, study.model.geometry.dimension
    try:
        physics = name if isinstance(name, Physics) else load_physics(name, study.folder, dimension)
    except ProblemError as error:
        raise StudyError(f"{study.location('physics.name')}: physics.name: {error}") from error
    if physics.dimension != dimension:
        found = f"'{physics.name}' in dimension {physics.dimension}"
        raise study.error("physics.name", found, f"{dimension}, that of the geometry")
    return physics


def physics_key(study: BoundaryValueStudy) -> dict[str, str]:
    """The text of a physics of one's own, as plain data; empty for a built-in one."""
    file = physics_file(study)
    return {} if file is None else {"physics_text": text_key(file)}


def boundary_value_problem(
    study: BoundaryValueStudy,
    family: Tagged,
    functionals: tuple[Functional, ...],
    parameters: Mapping[str, float] | None = None,
) -> Problem:
    """The physics section of a study; its formulas may use the ``parameters``, given with their defaults.

    Raises:
        StudyError: names file, line and key.
    """
    model, parameters = study.model.physics, parameters or {}
    physics = physics_of(study)
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
            _slip(study, family, physics),
        )
    except ProblemError as error:
        raise study.error("physics", "conditions that contradict each other", str(error)) from error


def check_on_mesh(study: BoundaryValueStudy, problem: Problem, shape_map: ShapeMap | SolidMap) -> None:
    """Refuse coefficients that are not admissible at the quadrature points of the reference mesh.

    Raises:
        StudyError: names file, line and key.
    """
    nodes = shape_map.reference_nodes.numpy()
    for found in excesses(problem, shape_map.mesh, nodes, problem.parameter_values()):
        raise study.error(f"physics.coefficients.{found.name}", found.found, found.allowed)


def _slip(study: BoundaryValueStudy, family: Tagged, physics: Physics) -> tuple[str, ...]:
    tags = study.model.physics.slip
    for index, tag in enumerate(tags):
        known_tag(study, f"physics.slip.{index}", tag, family.tags)
        if physics.traction is None:
            able = ", ".join(p.name for p in PHYSICS.values() if p.traction is not None)
            raise study.error(f"physics.slip.{index}", f"it with physics '{physics.name}'", f"one of {able}")
        if tag in tags[:index]:
            raise study.error(f"physics.slip.{index}", f"'{tag}' twice", "each region once")
    return tags


def _pins(study: BoundaryValueStudy, family: Tagged, components: tuple[str, ...]) -> tuple[Pin, ...]:
    for index, pin in enumerate(study.model.physics.pins):
        known_component(study, f"physics.pins.{index}.component", pin.component, components)
        known_tag(study, f"physics.pins.{index}.on", pin.on, family.tags)
    return tuple(Pin(pin.component, pin.on) for pin in study.model.physics.pins)
