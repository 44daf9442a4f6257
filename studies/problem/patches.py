"""Loads on patches of the boundary, from where the study puts them to the meshes on which they are solved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.fields.problem import Patch, Problem
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.fem.patch_load import boundary_point, facet_lengths_near
from shapewright.studies.schema.loader import BoundaryValueStudy
from shapewright.studies.schema.named import Tagged, known_component, known_tag
from shapewright.studies.schema.physics import NaturalCondition
from shapewright.studies.schema.solid_study import SolidPhysics


def patches_of(
    study: BoundaryValueStudy, family: Tagged, components: tuple[str, ...], selectors: Mapping[str, str] | None = None
) -> tuple[Patch, ...]:
    """The patches of the study, each at the point that it names.

    Args:
        study, family: of the patches.
        components: of the physics.
        selectors: load case -> parameter that its patches are multiplied by; None for what holds in all cases.

    Raises:
        StudyError: an unknown region or component.
    """
    found = []
    for key, case, entry in _entries(study):
        if (case is None) != (selectors is None):
            continue
        known_tag(study, f"{key}.on", entry.tags[0], family.tags)
        for component in entry.total:
            known_component(study, f"{key}.total.{component}", component, components)
        assert entry.patch is not None
        factor = None if selectors is None or case is None else selectors[case]
        found.append(Patch(entry.tags[0], entry.patch.at, entry.patch.width, entry.total, factor))
    return tuple(found)


def _entries(study: BoundaryValueStudy) -> Iterator[tuple[str, str | None, NaturalCondition]]:
    """Key, load case (None: all) and entry of every patch, those of all cases first."""
    model = study.model.physics
    if isinstance(model, SolidPhysics):
        return
    sections: list[tuple[str, str | None, tuple[NaturalCondition, ...]]] = [("physics.natural", None, model.natural)]
    sections += [(f"physics.cases.{case}.natural", case, entry.natural) for case, entry in model.cases.items()]
    for key, case, entries in sections:
        for index, entry in enumerate(entries):
            if entry.patch is not None:
                yield f"{key}.{index}", case, entry


def with_patches(study: BoundaryValueStudy, problem: Problem, shape_map: ShapeMap, initial: Tensor) -> Problem:
    """The problem with its patches at the reference mesh's points that the start design (P,) takes to where they are.

    Raises:
        StudyError: a patch that meets no boundary, or is narrower than the cells there.
    """
    mesh = shape_map.mesh.moved(shape_map.nodes(initial).numpy())
    for (key, *_), patch in zip(_entries(study), problem.patches, strict=True):
        at = np.array(patch.at)
        nodes, shape = boundary_point(mesh, patch.tag, at)
        middle = shape @ mesh.nodes[nodes]
        away = float(np.linalg.norm(middle - at))
        if away > patch.width:
            expected = f"a point within the patch's width {patch.width:g} of '{patch.tag}' at the start design"
            nearest = f"{list(patch.at)}, {away:.3g} away from [{middle[0]:.6g}, {middle[1]:.6g}]"
            raise study.error(f"{key}.patch.at", nearest, expected)
        longest = float(facet_lengths_near(mesh, patch.tag, middle, patch.width).max())
        if patch.width < longest:
            expected = f"no less than the cells there, which are {longest:.3g} long, or a smaller geometry.mesh_size"
            raise study.error(f"{key}.patch.width", f"{patch.width:g}", expected)
    return _moved(problem, mesh, shape_map.mesh.nodes)


def problem_at(problem: Problem, shape_map: ShapeMap, theta: Tensor) -> Problem:
    """The problem for a mesh of the design theta (P,) itself: patches where their material points are then."""
    return _moved(problem, shape_map.mesh, shape_map.nodes(theta).numpy())


def _moved(problem: Problem, mesh: Mesh, nodes: NDArray[np.float64]) -> Problem:
    """The problem with its patches, which are on ``mesh``, where its boundary is with its nodes at ``nodes`` (N, 2)."""
    patches = []
    for patch in problem.patches:
        facet, shape = boundary_point(mesh, patch.tag, np.array(patch.at))
        patches.append(replace(patch, at=tuple((shape @ nodes[facet]).tolist())))
    return replace(problem, patches=tuple(patches))
