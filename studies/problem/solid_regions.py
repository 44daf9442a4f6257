"""The solid of a study, and the faces that its regions name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from shapewright.geometries.cad.faces import Face, describe, faces_of
from shapewright.geometries.cad.selection import parse_query, select, summary
from shapewright.geometries.cad.solid import PartError, read_solid, topology_faults
from shapewright.geometries.cad.step import CadError, CadShape
from shapewright.geometries.design.kept_faces import LEAST_WIDTH
from shapewright.geometries.user_file import UserFileError, load_object
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.solid_study import FaceRule, SolidStudyModel


class PartWarning(UserWarning):
    """Something of a part that a user should know."""


def read_part(study: Study[SolidStudyModel]) -> tuple[CadShape, tuple[Face, ...]]:
    """The solid of a study and its faces: from its STEP file, or from a function of a Python file.

    Raises:
        StudyError: names file, line and key.
    """
    geometry = study.model.geometry
    try:
        if ".py:" in geometry.cad:
            return _made(load_object(geometry.cad, study.folder, "part", "TopoDS_Shape"))
        path = study.folder / geometry.cad
        if not path.is_file():
            found = f"'{geometry.cad}', but no file {path}"
            raise study.error("geometry.cad", found, "a STEP file, or my_parts.py:part")
        solid = read_solid(path, geometry.length_unit, geometry.solid)
    except (CadError, UserFileError) as error:
        raise StudyError(f"{study.location('geometry.cad')}: geometry.cad: {error}") from error
    narrow = f"keep_width is {geometry.keep_width:g}; below {LEAST_WIDTH:g} the moved CAD needs many more poles"
    for warning in [*solid.warnings, *([narrow] if geometry.keep and geometry.keep_width < LEAST_WIDTH else [])]:
        warnings.warn(f"{path}: {warning}", PartWarning, stacklevel=2)
    return solid.cad, solid.faces


def _made(found: Any) -> tuple[CadShape, tuple[Face, ...]]:
    shape = found() if callable(found) else found
    cad = shape if isinstance(shape, CadShape) else CadShape(shape)
    if not cad.solid:
        raise PartError("the function gives no solid; expected a TopoDS_Shape with one")
    faults = list(topology_faults(cad.shape))
    if faults:
        raise PartError("; ".join(faults))
    return cad, tuple(describe(face, number, cad.factor) for number, face in enumerate(faces_of(cad.shape), start=1))


def regions_of(study: Study[SolidStudyModel], faces: Sequence[Face], size: float) -> dict[str, tuple[int, ...]]:
    """Region -> numbers of its faces, from 1, in the order of the study.

    Raises:
        StudyError: a rule that matches no face, or not as many as it says; a face in two regions.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, rule in study.model.geometry.regions.items():
        key = f"geometry.regions.{name}"
        if name == "rest":
            raise study.error(key, "'rest', the region of the faces that no other has", "another name")
        try:
            chosen = select(faces, size, name, parse_query(name, _given(rule)))
        except PartError as error:
            raise StudyError(f"{study.location(key)}: {key}: {error}") from error
        for other, numbers in found.items():
            both = set(chosen) & set(numbers)
            if both:
                listed = summary([face for face in faces if face.number in both])
                raise study.error(key, f"face {listed}, which '{other}' has too", "each face in one region")
        found[name] = chosen
    return found


def _given(rule: FaceRule) -> dict[str, Any]:
    """The rule as it was written, without what was left out."""
    return rule.model_dump(exclude_none=True)
