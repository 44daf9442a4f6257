"""Keep zones around faces of a solid."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from OCP.gp import gp_Ax2, gp_Ax3, gp_Dir, gp_Pnt
from OCP.TopoDS import TopoDS_Face

from shapewright.geometries.cad.faces import Face, describe, faces_of, local_box, uv_box
from shapewright.geometries.cad.step import CadShape
from shapewright.geometries.design.keep_zones import KeepZone, KeptBox, KeptCylinder, Vector

WIDTH = 0.2
"""Width of a zone over the size of the part: with less, moved faces need many more poles (15,000 at 0.10 for 6,700)."""
LEAST_WIDTH = 0.1
"""Below this a zone is worth a warning."""
SAME = 1e-9
"""Zones that differ by less than this share of the part's size are one: both halves of a bore."""


def zones_around(cad: CadShape, numbers: Iterable[int], width: float) -> tuple[KeepZone, ...]:
    """Keep zones around the faces with these numbers, in the study's length unit.

    A cylinder of half a turn or more is kept with all that is inside of it; other faces are kept with the box around
    them, in the axes of their plane or of their axis of revolution.
    """
    faces = faces_of(cad.shape)
    found: dict[tuple[object, ...], KeepZone] = {}
    for number in numbers:
        zone = _zone(faces[number - 1], describe(faces[number - 1], number, cad.factor), cad.factor, width)
        found.setdefault(_key(zone, SAME * width), zone)
    return tuple(found.values())


def _zone(shape: TopoDS_Face, face: Face, factor: float, width: float) -> KeepZone:
    frame = _frame(face, factor)
    low, high = (corner / factor for corner in local_box(shape, frame))
    middle, half = (low + high) / 2, (high - low) / 2
    axes = np.array([[d.X(), d.Y(), d.Z()] for d in (frame.XDirection(), frame.YDirection(), frame.Direction())])
    origin = np.array([frame.Location().X(), frame.Location().Y(), frame.Location().Z()]) / factor
    u_low, u_high, _, _ = uv_box(shape)
    if face.kind == "cylinder" and face.radius is not None and u_high - u_low > math.pi - 1e-6:
        centre = origin + middle[2] * axes[2]
        return KeptCylinder(_vector(centre), _vector(axes[2]), face.radius, float(half[2]), width)
    sides = _vector(axes[0]), _vector(axes[1]), _vector(axes[2])
    return KeptBox(_vector(origin + middle @ axes), sides, _vector(half), width)


def _frame(face: Face, factor: float) -> gp_Ax3:
    """Axes of the face with its normal or axis of revolution as the third; those of space if it has neither."""
    direction = gp_Dir(*(face.normal or face.axis or (0.0, 0.0, 1.0)))
    if face.normal is None and face.axis is None:
        return gp_Ax3(gp_Pnt(0, 0, 0), direction, gp_Dir(1.0, 0.0, 0.0))
    return gp_Ax3(gp_Ax2(gp_Pnt(*(factor * x for x in face.origin or face.centroid)), direction))


def _vector(values: np.ndarray) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


def _key(zone: KeepZone, step: float) -> tuple[object, ...]:
    """What equal zones have in common: all their numbers, rounded; an axis and its opposite are the same."""
    if isinstance(zone, KeptCylinder):
        sign = 1 if max(zone.axis, key=abs) > 0 else -1
        values = (*zone.centre, *(sign * x for x in zone.axis), zone.radius, zone.half_length)
    else:
        assert isinstance(zone, KeptBox)
        values = (*zone.centre, *(x for axis in zone.axes for x in axis), *zone.half)
    return (type(zone), *(round(value / step) for value in values))
