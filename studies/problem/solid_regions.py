"""Faces of a solid that the regions of a study name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shapewright.geometries.cad.faces import Face, describe, faces_of
from shapewright.geometries.cad.step import CadShape
from shapewright.geometries.fields.names import COORDINATES
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.solid_study import FaceRule, SolidStudyModel

SAME = 1e-4
"""Lengths that differ by less than this share of the part's size are the same."""
STRAIGHT = 1e-6
"""Difference of two unit vectors that are the same."""
MOST_LISTED = 12
"""Faces that an error lists."""


def regions_of(study: Study[SolidStudyModel], cad: CadShape, size: float) -> dict[str, tuple[int, ...]]:
    """Region -> numbers of its faces, from 1, in the order of the study.

    Raises:
        StudyError: a rule that matches no face, or not as many as it says; a face in two regions.
    """
    faces = [describe(face, number + 1, cad.factor) for number, face in enumerate(faces_of(cad.shape))]
    found: dict[str, tuple[int, ...]] = {}
    for name, rule in study.model.geometry.regions.items():
        key = f"geometry.regions.{name}"
        if name == "rest":
            raise study.error(key, "'rest', the region of the faces that no other has", "another name")
        chosen = [face for face in faces if _matches(face, rule, SAME * size)]
        if not chosen:
            raise study.error(key, "a rule that matches no face", f"one of the part's faces: {_listed(faces)}")
        if rule.count is not None and len(chosen) != rule.count:
            expected = f"{rule.count}, as count says; it matches {_listed(chosen)}"
            raise study.error(key, f"a rule that matches {len(chosen)} faces", expected)
        for other, numbers in found.items():
            both = {face.number for face in chosen} & set(numbers)
            if both:
                raise study.error(key, f"face {min(both)}, which '{other}' has too", "each face in one region")
        found[name] = tuple(face.number for face in chosen)
    return found


def _matches(face: Face, rule: FaceRule, length: float) -> bool:
    """Whether all that a rule says holds of a face; lengths may differ by ``length``."""
    return all(
        (
            rule.cylinder is None or _is_cylinder(face, rule.cylinder.radius, rule.cylinder.axis, length),
            rule.plane is None or _is_plane(face, rule.plane, length),
            rule.box is None or _is_inside(face, rule.box, length),
            rule.name is None or face.name == rule.name,
            rule.faces is None or face.number in rule.faces,
        )
    )


def _is_cylinder(face: Face, radius: float | None, axis: str | None, length: float) -> bool:
    if face.kind != "cylinder" or face.radius is None or face.axis is None:
        return False
    along = axis is None or abs(abs(face.axis[COORDINATES.index(axis)]) - 1) < STRAIGHT
    return along and (radius is None or abs(face.radius - radius) < length)


def _is_plane(face: Face, plane: Mapping[str, float], length: float) -> bool:
    if face.kind != "plane" or face.normal is None:
        return False
    ((axis, value),) = plane.items()
    index = COORDINATES.index(axis)
    return abs(abs(face.normal[index]) - 1) < STRAIGHT and abs(face.centroid[index] - value) < length


def _is_inside(face: Face, box: Sequence[Sequence[float]], length: float) -> bool:
    low, high = np.array(box[0]) - length, np.array(box[1]) + length
    return bool((np.array(face.low) >= low).all() and (np.array(face.high) <= high).all())


def _listed(faces: Sequence[Face]) -> str:
    """Faces in a few words each."""
    told = []
    for face in faces[:MOST_LISTED]:
        about = {"cylinder": lambda f: f" of radius {f.radius:.4g} along {_axis(f.axis)}",
                 "plane": lambda f: f" {_axis(f.normal)} = {_coordinate(f)}"}.get(face.kind, lambda f: "")(face)
        told.append(f"{face.number} ({face.kind}{about})")
    more = len(faces) - MOST_LISTED
    return ", ".join(told) + (f", and {more} more" if more > 0 else "")


def _axis(vector: Sequence[float] | None) -> str:
    """Name of the coordinate axis that a unit vector lies along, or its numbers."""
    if vector is None:
        return "?"
    index = int(np.abs(vector).argmax())
    straight = abs(abs(vector[index]) - 1) < STRAIGHT
    return COORDINATES[index] if straight else f"({', '.join(f'{x:.3g}' for x in vector)})"


def _coordinate(face: Face) -> str:
    assert face.normal is not None
    return f"{face.centroid[int(np.abs(face.normal).argmax())]:.4g}"
