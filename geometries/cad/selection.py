"""Regions of a solid: faces chosen by kind, size and position, by the file's names and colours, or by number.

    bolts: {cylinder: {radius: 4.0, axis: z}, count: 2}
    back:  {plane: {x: 0}}
    tip:   {box: [[70, 0, 0], [80, 40, 12]], normal: x}
    seat:  {name: SEAT}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shapewright.geometries.cad.faces import Face, Vector
from shapewright.geometries.cad.solid import SHOWN, PartError
from shapewright.geometries.fields.names import COORDINATES

SURFACES = {
    "plane": (*COORDINATES, "normal"),
    "cylinder": ("radius", "axis", "through", "hollow"),
    "cone": ("half_angle", "axis", "through", "hollow"),
    "sphere": ("radius", "centre", "hollow"),
    "torus": ("radius", "minor_radius", "axis", "through", "hollow"),
}
"""What each kind of surface can be asked for."""
OTHERS = ("box", "normal", "name", "colour", "faces", "largest", "count", "tolerance")
TOLERANCE = 1e-4
"""Default difference of a length, over the size of the part."""
ANGLE = 1.0
"""Largest angle between directions that are the same, in degrees."""


@dataclass(frozen=True)
class Predicate:
    """Something that holds of a face or does not; ``label`` says it in words."""

    label: str
    holds: Callable[[Face, float], bool]


@dataclass(frozen=True)
class FaceQuery:
    """Which faces form a region.

    Attributes:
        predicates: all of them must hold; they take a face and the difference of lengths that is none.
        largest: of these faces, how many of the largest; None for all.
        count: how many there must be; None for one or more.
        tolerance: difference of lengths that is none; None for 1e-4 of the part's size.
    """

    predicates: tuple[Predicate, ...]
    largest: int | None = None
    count: int | None = None
    tolerance: float | None = None


def select(faces: Sequence[Face], size: float, name: str, query: FaceQuery) -> tuple[int, ...]:
    """Numbers of the faces of a region.

    Args:
        faces: of the solid.
        size: of the solid.
        name: of the region, for messages.
        query: which faces.

    Raises:
        PartError: no face, or not the number stated; the message lists what there is.
    """
    tolerance = TOLERANCE * size if query.tolerance is None else query.tolerance
    left = list(faces)
    for predicate in query.predicates:
        found = [face for face in left if predicate.holds(face, tolerance)]
        if not found:
            raise PartError(
                f"region '{name}': found no face that {predicate.label} among {summary(left)}; `shapewright inspect`"
                " lists all faces"
            )
        left = found
    if query.largest is not None:
        left = sorted(sorted(left, key=lambda face: -face.area)[: query.largest], key=lambda face: face.number)
    if query.count is not None and len(left) != query.count:
        raise PartError(f"region '{name}': found {len(left)} faces, and count is {query.count}: {summary(left)}")
    return tuple(face.number for face in left)


def summary(faces: Sequence[Face]) -> str:
    """What there is, in a line."""
    shown = [f"{face.number} ({words(face)})" for face in faces[:SHOWN]]
    return ", ".join(shown) + (f" and {len(faces) - SHOWN} more" if len(faces) > SHOWN else "")


def words(face: Face) -> str:
    """A face in a few words: kind, sizes, direction, position."""
    parts = [face.kind.replace("_", "-")]
    parts += [f"radius {face.radius:.6g}"] if face.radius is not None else []
    parts += [f"minor radius {face.minor_radius:.6g}"] if face.minor_radius is not None else []
    parts += [f"half angle {face.half_angle:.6g}"] if face.half_angle is not None else []
    parts += [f"axis {direction_name(face.axis)}"] if face.axis is not None else []
    parts += [f"through {face.turn:.4g} degrees"] if face.turn is not None and face.turn < 359.9 else []
    if face.normal is not None:
        axis = axis_of(face.normal)
        parts.append(f"normal {direction_name(face.normal)}")
        parts += [f"at {COORDINATES[axis]} = {_zero(face.centroid[axis]):.6g}"] if axis is not None else []
    return " ".join(parts)


def parse_query(name: str, given: Mapping[str, Any]) -> FaceQuery:
    """The query of a region as a study writes it.

    Raises:
        PartError: names the region and the key, what was found and what is allowed.
    """
    unknown = [key for key in given if key not in (*SURFACES, *OTHERS)]
    if not given or unknown:
        found = f"found {', '.join(map(str, unknown))}" if unknown else "found nothing"
        raise PartError(f"region '{name}': {found}; allowed are {', '.join((*SURFACES, *OTHERS))}")
    predicates: list[Predicate] = []
    for kind in SURFACES:
        if kind in given:
            predicates += _of_surface(name, kind, given[kind])
    if "box" in given:
        predicates.append(_box(name, given["box"]))
    if "normal" in given:
        predicates.append(_normal(name, given["normal"]))
    if "name" in given:
        predicates.append(_file_name(name, given["name"]))
    if "colour" in given:
        predicates.append(_colour(name, given["colour"]))
    if "faces" in given:
        predicates.append(_numbers(name, given["faces"]))
    counts = {key: _count(name, key, given[key]) for key in ("largest", "count") if key in given}
    tolerance = _number(name, "tolerance", given["tolerance"]) if "tolerance" in given else None
    return FaceQuery(tuple(predicates), counts.get("largest"), counts.get("count"), tolerance)


def _of_surface(name: str, kind: str, given: object) -> list[Predicate]:
    given = {} if given is None else given
    if not isinstance(given, Mapping) or any(key not in SURFACES[kind] for key in given):
        raise PartError(f"region '{name}', {kind}: found {given}; allowed are {', '.join(SURFACES[kind])}")
    found = [Predicate(f"is a {kind}", lambda face, _: face.kind == kind)]
    for key, value in given.items():
        if key in COORDINATES:
            found.append(_at(name, key, value))
        elif key in ("radius", "minor_radius"):
            found.append(_length(name, key, value))
        elif key == "half_angle":
            angle = _number(name, key, value)
            found.append(Predicate(f"has a half angle of {angle:g} degrees", _near_angle(angle)))
        elif key == "hollow":
            if not isinstance(value, bool):
                raise PartError(f"region '{name}', hollow: found {value!r}; allowed are true and false")
            found.append(Predicate("is hollow" if value else "is not hollow", _hollow(value)))
        elif key == "normal":
            found.append(_normal(name, value))
        elif key == "axis":
            found.append(_axis(name, value))
        else:
            found.append(_through(name, key, value))
    return found


def _hollow(value: bool) -> Callable[[Face, float], bool]:
    return lambda face, _: face.hollow is value


def _near_angle(angle: float) -> Callable[[Face, float], bool]:
    return lambda face, _: face.half_angle is not None and abs(face.half_angle - angle) < ANGLE


def _at(name: str, key: str, value: object) -> Predicate:
    axis, position = COORDINATES.index(key), _number(name, key, value)

    def holds(face: Face, tolerance: float) -> bool:
        along = face.normal is not None and abs(face.normal[axis]) > math.cos(math.radians(ANGLE))
        return along and abs(face.centroid[axis] - position) <= tolerance

    return Predicate(f"lies at {key} = {position:g}", holds)


def _length(name: str, key: str, value: object) -> Predicate:
    wanted = _number(name, key, value)

    def holds(face: Face, tolerance: float) -> bool:
        found = getattr(face, key)
        return found is not None and abs(found - wanted) <= tolerance

    return Predicate(f"has a {key.replace('_', ' ')} of {wanted:g}", holds)


def _axis(name: str, value: object) -> Predicate:
    wanted = _direction(name, "axis", value)

    def holds(face: Face, tolerance: float) -> bool:
        return face.axis is not None and abs(np.dot(face.axis, wanted)) > math.cos(math.radians(ANGLE))

    return Predicate(f"has the axis {direction_name(wanted)}", holds)


def _normal(name: str, value: object) -> Predicate:
    wanted = _direction(name, "normal", value)

    def holds(face: Face, tolerance: float) -> bool:
        return face.normal is not None and float(np.dot(face.normal, wanted)) > math.cos(math.radians(ANGLE))

    return Predicate(f"has the normal {direction_name(wanted)}", holds)


def _through(name: str, key: str, value: object) -> Predicate:
    """The axis of the face, or the centre of a sphere, is within the tolerance of a point."""
    point = np.array(_vector(name, key, value))

    def holds(face: Face, tolerance: float) -> bool:
        if face.origin is None:
            return False
        offset = point - face.origin
        if face.axis is not None:
            offset = offset - (offset @ face.axis) * np.array(face.axis)
        return float(np.linalg.norm(offset)) <= tolerance

    what = "has its centre at" if key == "centre" else "has an axis through"
    return Predicate(f"{what} {', '.join(f'{x:g}' for x in point)}", holds)


def _box(name: str, value: object) -> Predicate:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise PartError(f"region '{name}', box: found {value}; allowed are two corners of three numbers")
    low, high = (np.array(_vector(name, "box", corner)) for corner in value)
    if not (low <= high).all():
        raise PartError(f"region '{name}', box: the first corner {low.tolist()} is not below {high.tolist()}")

    def holds(face: Face, tolerance: float) -> bool:
        return bool((np.array(face.low) >= low - tolerance).all() and (np.array(face.high) <= high + tolerance).all())

    return Predicate(f"lies in the box from {low.tolist()} to {high.tolist()}", holds)


def _file_name(name: str, value: object) -> Predicate:
    if not isinstance(value, str) or not value:
        raise PartError(f"region '{name}', name: found {value!r}; allowed are names of faces in the file")
    return Predicate(f"has the name {value!r}", lambda face, _: face.name == value)


def _colour(name: str, value: object) -> Predicate:
    """``#rrggbb`` or three numbers from 0 to 1."""
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        if set(value[1:].lower()) - set("0123456789abcdef"):
            raise PartError(f"region '{name}', colour: found {value}; allowed are '#rrggbb' and three numbers")
        wanted = np.array([int(value[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    else:
        wanted = np.array(_vector(name, "colour", value))
    return Predicate(
        f"has the colour {colour_name(wanted)}",
        lambda face, _: face.colour is not None and bool((np.abs(wanted - face.colour) < 0.01).all()),
    )


def _numbers(name: str, value: object) -> Predicate:
    whole = isinstance(value, Sequence) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
    if not whole or not value or isinstance(value, str):
        raise PartError(f"region '{name}', faces: found {value}; allowed is a list of numbers of faces, from 1")
    assert isinstance(value, Sequence)
    wanted = set(value)
    return Predicate(f"has a number of {sorted(wanted)}", lambda face, _: face.number in wanted)


def _number(name: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PartError(f"region '{name}', {key}: found {value!r}; allowed are numbers")
    return float(value)


def _count(name: str, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PartError(f"region '{name}', {key}: found {value!r}; allowed are whole numbers from 1")
    return value


def _vector(name: str, key: str, value: object) -> Vector:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise PartError(f"region '{name}', {key}: found {value!r}; allowed are three numbers")
    x, y, z = (_number(name, key, one) for one in value)
    return x, y, z


def _direction(name: str, key: str, value: object) -> Vector:
    """``x``, ``-x``, ``+x`` or a vector."""
    if isinstance(value, str):
        sign, axis = (-1.0, value[1:]) if value[:1] == "-" else (1.0, value.removeprefix("+"))
        if axis not in COORDINATES:
            raise PartError(f"region '{name}', {key}: found {value!r}; allowed are x, -x, y, -y, z, -z or a vector")
        x, y, z = (sign if axis == one else 0.0 for one in COORDINATES)
        return x, y, z
    vector = np.array(_vector(name, key, value))
    length = float(np.linalg.norm(vector))
    if length == 0:
        raise PartError(f"region '{name}', {key}: found {value}; allowed are directions")
    x, y, z = (vector / length).tolist()
    return x, y, z


def axis_of(direction: Vector) -> int | None:
    """Index of the coordinate axis along a direction or its opposite; None for an oblique one."""
    index = int(np.argmax(np.abs(direction)))
    return index if abs(direction[index]) > 1 - 1e-9 else None


def direction_name(direction: Vector | np.ndarray) -> str:
    """``x``, ``-x`` or three numbers."""
    index = axis_of((float(direction[0]), float(direction[1]), float(direction[2])))
    if index is None:
        return f"[{', '.join(f'{_zero(x):.4g}' for x in direction)}]"
    return ("-" if direction[index] < 0 else "") + COORDINATES[index]


def colour_name(colour: Vector | np.ndarray) -> str:
    """``#rrggbb``."""
    return "#" + "".join(f"{round(255 * float(x)):02x}" for x in colour)


def _zero(x: float) -> float:
    return 0.0 if abs(x) < 1e-9 else x
