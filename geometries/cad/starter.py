"""A first choice of regions for a study of a solid: each face in one, found by its geometry where that suffices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shapewright.geometries.cad.faces import Face
from shapewright.geometries.cad.selection import axis_of, parse_query, select
from shapewright.geometries.cad.solid import PartError
from shapewright.geometries.fields.names import COORDINATES

HALF_TURN = 179.0
"""Degrees from which a cylinder is called a bore or a boss; a bore is often two halves."""


@dataclass(frozen=True)
class StarterRegion:
    """A region with a name of ours.

    Attributes:
        name: by kind of surface.
        query: as a study writes it.
        faces: numbers of the faces that it selects.
    """

    name: str
    query: dict[str, Any]
    faces: tuple[int, ...]


def starter_regions(faces: Sequence[Face], size: float) -> list[StarterRegion]:
    """Faces of the same name in the file, or of the same surface, in one region; checked to select just these."""
    groups: dict[tuple[Any, ...], list[Face]] = {}
    own_names = len({face.name for face in faces if face.name}) > 1
    for face in faces:
        groups.setdefault(_key(face, own_names), []).append(face)
    regions, taken = [], {"rest"}
    for group in groups.values():
        first, numbers = group[0], tuple(face.number for face in group)
        query = _query(first, own_names)
        if query is None or _selected(faces, size, query) != numbers:
            query = {"faces": list(numbers)}
        elif len(numbers) > 1:
            query["count"] = len(numbers)
        regions.append(StarterRegion(_name(first, taken, own_names), query, numbers))
    return regions


def _selected(faces: Sequence[Face], size: float, query: dict[str, Any]) -> tuple[int, ...]:
    try:
        return select(faces, size, "starter", parse_query("starter", query))
    except PartError:
        return ()


def _key(face: Face, own_names: bool) -> tuple[Any, ...]:
    if own_names and face.name:
        return ("name", face.name)
    if face.kind == "plane" and face.normal is not None and axis_of(face.normal) is not None:
        return ("plane", face.number)  # planes are seldom alike
    if face.kind in ("cylinder", "torus", "cone") and face.axis is not None:
        direction = tuple(round(abs(x), 6) for x in face.axis)
        return (face.kind, *map(_rounded, (face.radius, face.minor_radius, face.half_angle)), direction, face.hollow)
    if face.kind == "sphere":
        return (face.kind, _rounded(face.radius), face.hollow)
    return ("face", face.number)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _query(face: Face, own_names: bool) -> dict[str, Any] | None:
    if own_names and face.name:
        return {"name": face.name}
    if face.kind == "plane" and face.normal is not None:
        axis = axis_of(face.normal)
        if axis is None:
            return None
        sign = "-" if face.normal[axis] < 0 else ""
        position = float(f"{face.centroid[axis]:.6g}") if abs(face.centroid[axis]) > 1e-9 else 0.0
        return {"plane": {COORDINATES[axis]: position, "normal": sign + COORDINATES[axis]}}
    if face.axis is None and face.kind != "sphere":
        return None
    numbers = {key: _rounded(getattr(face, key)) for key in ("radius", "minor_radius", "half_angle")}
    if face.kind == "cone":
        del numbers["radius"]
    found: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
    if face.axis is not None:
        axis = axis_of(face.axis)
        found["axis"] = COORDINATES[axis] if axis is not None else [float(f"{x:.6g}") for x in face.axis]
    if face.hollow is not None:
        found["hollow"] = face.hollow
    return {face.kind: found}


def _name(face: Face, taken: set[str], own_names: bool) -> str:
    """A name that no other region has; of the file, or by what the face is."""
    if own_names and face.name:
        base = "".join(c if c.isalnum() else "_" for c in face.name.lower()).strip("_") or "face"
    elif face.kind == "plane" and face.normal is not None and axis_of(face.normal) is not None:
        axis = axis_of(face.normal)
        assert axis is not None
        base = f"{COORDINATES[axis]}_{'low' if face.normal[axis] < 0 else 'high'}"
    else:
        around = face.turn is not None and face.turn > HALF_TURN
        kinds = {(True, True): "bore", (False, True): "boss", (True, False): "fillet", (False, False): "round"}
        base = kinds[bool(face.hollow), around] if face.kind == "cylinder" else face.kind
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name
