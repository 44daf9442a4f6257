"""How sizes and positions of faces are written."""

from __future__ import annotations

from shapewright.geometries.cad.faces import Face
from shapewright.geometries.cad.selection import axis_of
from shapewright.geometries.fields.names import COORDINATES


def sizes(face: Face, size: float) -> str:
    """Radius, angle and turn of a face of a part of ``size``, or where a plane lies."""
    parts = [] if face.radius is None else [f"r {face.radius:.6g}"]
    parts += [] if face.minor_radius is None else [f"minor r {face.minor_radius:.6g}"]
    parts += [] if face.half_angle is None else [f"half angle {face.half_angle:.5g}°"]
    parts += [] if face.turn is None or face.turn > 359.9 else [f"{face.turn:.4g}° of a turn"]
    axis = None if face.normal is None else axis_of(face.normal)
    parts += [] if axis is None else [f"{COORDINATES[axis]} = {number(face.centroid[axis], size)}"]
    return ", ".join(parts)


def number(value: float, size: float) -> str:
    """Five digits, and no rounding errors of a part of ``size`` in place of zero."""
    return f"{0.0 if abs(value) < 1e-7 * size else value:.5g}"
