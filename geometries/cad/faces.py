"""Faces of a solid: their kind, size and position, in the study's length unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from OCP.Bnd import Bnd_Box
from OCP.BRepAdaptor import BRepAdaptor_Surface
from OCP.BRepBndLib import BRepBndLib
from OCP.BRepBuilderAPI import BRepBuilderAPI_Transform
from OCP.BRepGProp import BRepGProp, BRepGProp_Face
from OCP.BRepTools import BRepTools
from OCP.GeomAbs import (
    GeomAbs_BezierSurface,
    GeomAbs_BSplineSurface,
    GeomAbs_Cone,
    GeomAbs_Cylinder,
    GeomAbs_OffsetSurface,
    GeomAbs_Plane,
    GeomAbs_Sphere,
    GeomAbs_SurfaceOfExtrusion,
    GeomAbs_SurfaceOfRevolution,
    GeomAbs_Torus,
)
from OCP.gp import gp_Ax1, gp_Ax3, gp_Dir, gp_Pnt, gp_Trsf, gp_Vec, gp_XYZ
from OCP.GProp import GProp_GProps
from OCP.OCP.collections import IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher
from OCP.TopAbs import TopAbs_EDGE, TopAbs_FACE, TopAbs_ShapeEnum, TopAbs_VERTEX
from OCP.TopExp import TopExp
from OCP.TopoDS import TopoDS, TopoDS_Edge, TopoDS_Face, TopoDS_Shape, TopoDS_Vertex

from shapewright.geometries.mesh.simplex import Array

KINDS = {
    GeomAbs_Plane: "plane",
    GeomAbs_Cylinder: "cylinder",
    GeomAbs_Cone: "cone",
    GeomAbs_Sphere: "sphere",
    GeomAbs_Torus: "torus",
    GeomAbs_BezierSurface: "bezier",
    GeomAbs_BSplineSurface: "b_spline",
    GeomAbs_SurfaceOfRevolution: "revolution",
    GeomAbs_SurfaceOfExtrusion: "extrusion",
    GeomAbs_OffsetSurface: "offset",
}
"""Kind of a surface by OpenCASCADE's name of it; all others are ``other``."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Face:
    """A face of a solid. Lengths are in the study's unit; what a kind of surface does not have is None.

    Attributes:
        number: from 1, in the order of the file.
        kind: one of the values of :data:`KINDS`, or ``other``.
        area: of the face.
        centroid: of the face; it need not lie on it.
        low, high: corners of its bounding box.
        normal: outward unit normal of a plane.
        origin: a point of the axis; the centre of a sphere or torus.
        axis: unit vector of a cylinder, cone or torus.
        radius: of a cylinder or sphere; the major radius of a torus; that of a cone at its origin.
        minor_radius: of a torus.
        half_angle: of a cone, in degrees.
        turn: how far a cylinder, cone or torus goes around its axis, in degrees.
        hollow: whether the material lies outside (a bore, a fillet in a corner); of cylinder, cone, sphere and torus.
        name: in the file, "" if it has none.
        colour: red, green and blue from 0 to 1.
    """

    number: int
    kind: str
    area: float
    centroid: Vector
    low: Vector
    high: Vector
    normal: Vector | None = None
    origin: Vector | None = None
    axis: Vector | None = None
    radius: float | None = None
    minor_radius: float | None = None
    half_angle: float | None = None
    turn: float | None = None
    hollow: bool | None = None
    name: str = ""
    colour: Vector | None = None


def faces_of(shape: TopoDS_Shape) -> list[TopoDS_Face]:
    """Every face once, in OpenCASCADE's order, that of :attr:`Face.number`."""
    return [TopoDS.Face(found) for found in _members(shape, TopAbs_FACE)]


def edges_of(shape: TopoDS_Shape) -> list[TopoDS_Edge]:
    """Every edge once, however many faces share it."""
    return [TopoDS.Edge(found) for found in _members(shape, TopAbs_EDGE)]


def vertices_of(shape: TopoDS_Shape) -> list[TopoDS_Vertex]:
    """Every vertex once."""
    return [TopoDS.Vertex(found) for found in _members(shape, TopAbs_VERTEX)]


def _members(shape: TopoDS_Shape, kind: TopAbs_ShapeEnum) -> list[TopoDS_Shape]:
    found = IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher()
    TopExp.MapShapes_s(shape, kind, found)
    return [found.FindKey(index) for index in range(1, found.Extent() + 1)]


def describe(face: TopoDS_Face, number: int, factor: float, tight: bool = True) -> Face:
    """What a face is, of a shape whose coordinates are ``factor`` times those of the study.

    Without ``tight`` its bounding box is that of its poles, which is found faster.
    """
    surface = BRepAdaptor_Surface(face)
    kind = KINDS.get(surface.GetType(), "other")
    area, centroid = area_and_centroid(face)
    low, high = box_of(face, tight)
    numbers: dict[str, float] = {}
    position: gp_Pnt | None = None
    axis: gp_Dir | None = None
    match kind:
        case "cylinder":
            own = surface.Cylinder()
            position, axis, numbers = own.Location(), own.Axis().Direction(), {"radius": own.Radius() / factor}
        case "sphere":
            position, numbers = surface.Sphere().Location(), {"radius": surface.Sphere().Radius() / factor}
        case "cone":
            cone = surface.Cone()
            position, axis = cone.Location(), cone.Axis().Direction()
            numbers = {"radius": cone.RefRadius() / factor, "half_angle": abs(float(np.degrees(cone.SemiAngle())))}
        case "torus":
            torus = surface.Torus()
            position, axis = torus.Location(), torus.Axis().Direction()
            numbers = {"radius": torus.MajorRadius() / factor, "minor_radius": torus.MinorRadius() / factor}
    return Face(
        number=number,
        kind=kind,
        area=area / factor**2,
        centroid=_tuple(centroid / factor),
        low=_tuple(low / factor),
        high=_tuple(high / factor),
        normal=_tuple(_normal(face)[1]) if kind == "plane" else None,
        origin=None if position is None else _tuple(_array(position.XYZ()) / factor),
        axis=None if axis is None else _tuple(_array(axis.XYZ())),
        turn=None if axis is None else _turn(face),
        hollow=_is_hollow(face, surface, kind),
        radius=numbers.get("radius"),
        minor_radius=numbers.get("minor_radius"),
        half_angle=numbers.get("half_angle"),
    )


def area_and_centroid(face: TopoDS_Face) -> tuple[float, Array]:
    """Area and centroid (3,) of a face, in the coordinates of its shape."""
    properties = GProp_GProps()
    BRepGProp.SurfaceProperties_s(face, properties)
    return properties.Mass(), _array(properties.CentreOfMass().XYZ())


def box_of(shape: TopoDS_Shape, tight: bool = True) -> tuple[Array, Array]:
    """Corners (3,) of the bounding box of a shape, in its coordinates."""
    box = Bnd_Box()
    if tight:
        BRepBndLib.AddOptimal_s(shape, box, False, False)
    else:
        BRepBndLib.Add_s(shape, box, False)
    box.SetGap(0.0)
    return _array(box.CornerMin().XYZ()), _array(box.CornerMax().XYZ())


def local_box(face: TopoDS_Face, frame: gp_Ax3) -> tuple[Array, Array]:
    """Corners (3,) of the tight bounding box in the coordinates of ``frame``."""
    towards = gp_Trsf()
    towards.SetTransformation(frame)
    return box_of(BRepBuilderAPI_Transform(face, towards, True).Shape())


def _normal(face: TopoDS_Face) -> tuple[Array, Array]:
    """A point (3,) of the surface of a face and its outward unit normal (3,) there, in the middle of its parameters."""
    u_low, u_high, v_low, v_high = uv_box(face)
    point, normal = gp_Pnt(), gp_Vec()
    BRepGProp_Face(face).Normal((u_low + u_high) / 2, (v_low + v_high) / 2, point, normal)
    direction = _array(normal.XYZ())
    return _array(point.XYZ()), direction / (np.linalg.norm(direction) or 1.0)


def uv_box(face: TopoDS_Face) -> tuple[float, float, float, float]:
    """Least and largest u, least and largest v of a face."""
    return BRepTools.UVBounds_s(face)


def _turn(face: TopoDS_Face) -> float:
    u_low, u_high, _, _ = uv_box(face)
    return min(math.degrees(u_high - u_low), 360.0)


def _is_hollow(face: TopoDS_Face, surface: BRepAdaptor_Surface, kind: str) -> bool | None:
    if kind not in ("cylinder", "cone", "sphere", "torus"):
        return None
    point, normal = _normal(face)
    if kind == "sphere":
        return bool(normal @ (point - _array(surface.Sphere().Location().XYZ())) < 0)
    axis: gp_Ax1 = getattr(surface, kind.capitalize())().Axis()
    along, offset = _array(axis.Direction().XYZ()), point - _array(axis.Location().XYZ())
    outwards = offset - (offset @ along) * along
    if kind == "torus":
        outwards = offset - surface.Torus().MajorRadius() * outwards / (np.linalg.norm(outwards) or 1.0)
    return bool(normal @ outwards < 0)


def _array(xyz: gp_XYZ) -> Array:
    return np.array([xyz.X(), xyz.Y(), xyz.Z()])


def _tuple(vector: Array) -> Vector:
    return float(vector[0]) + 0.0, float(vector[1]) + 0.0, float(vector[2]) + 0.0  # no negative zeros
