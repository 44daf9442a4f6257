"""The solids that come with the program, built with OpenCASCADE: bracket, link, cantilever, ball, turned part.

``python -m shapewright.geometries.cad.shipped`` writes them again, as STEP files in millimetres beside this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from OCP.BRepAlgoAPI import BRepAlgoAPI_Cut, BRepAlgoAPI_Fuse
from OCP.BRepBuilderAPI import BRepBuilderAPI_MakeEdge, BRepBuilderAPI_MakeFace, BRepBuilderAPI_MakeWire
from OCP.BRepFilletAPI import BRepFilletAPI_MakeFillet
from OCP.BRepGProp import BRepGProp
from OCP.BRepPrimAPI import (
    BRepPrimAPI_MakeBox,
    BRepPrimAPI_MakeCone,
    BRepPrimAPI_MakeCylinder,
    BRepPrimAPI_MakeRevol,
    BRepPrimAPI_MakeSphere,
)
from OCP.GC import GC_MakeArcOfCircle
from OCP.gp import gp_Ax1, gp_Ax2, gp_Dir, gp_Pnt
from OCP.GProp import GProp_GProps
from OCP.ShapeUpgrade import ShapeUpgrade_UnifySameDomain
from OCP.TopAbs import TopAbs_EDGE, TopAbs_SOLID
from OCP.TopExp import TopExp_Explorer
from OCP.TopoDS import TopoDS, TopoDS_Edge, TopoDS_Shape

from shapewright.geometries.cad.step import CadError, CadShape, write_step

FOLDER = Path(__file__).parent / "parts"
BALL_RADIUS = (3 / (4 * math.pi)) ** (1 / 3)
"""Of a ball of volume 1."""

Point = tuple[float, float, float]


def bracket() -> TopoDS_Shape:
    """L-bracket of 80 mm: two bolts along z in the foot, a pin along x in the wall, a fillet of 10 mm between them."""
    foot = BRepPrimAPI_MakeBox(gp_Pnt(0, 0, 0), 80, 40, 12).Shape()
    wall = BRepPrimAPI_MakeBox(gp_Pnt(0, 0, 0), 12, 40, 80).Shape()
    solid = _fillet(_fuse(foot, wall), 10.0, lambda at: abs(at.X() - 12) + abs(at.Z() - 12) < 1e-6)
    for y in (11, 29):
        solid = _cut(solid, _cylinder((64, y, -1), (0, 0, 1), 4, 14))
    return _cut(solid, _cylinder((-1, 20, 64), (1, 0, 0), 6, 14))


def link() -> TopoDS_Shape:
    """Link of two eyes 80 mm apart, bores of 8 mm radius along z, a web of 16 by 12 mm between them."""
    ends = [_cylinder((x, 0, 0), (0, 0, 1), 15, 12) for x in (0, 80)]
    web = BRepPrimAPI_MakeBox(gp_Pnt(0, -8, 0), 80, 16, 12).Shape()
    solid = _fuse(_fuse(ends[0], web), ends[1])
    for x in (0, 80):
        solid = _cut(solid, _cylinder((x, 0, -1), (0, 0, 1), 8, 14))
    return solid


def cantilever() -> TopoDS_Shape:
    """Beam of 100 by 20 by 30 mm with a hole of 6 mm radius along y in its middle."""
    beam = BRepPrimAPI_MakeBox(gp_Pnt(0, 0, 0), 100, 20, 30).Shape()
    return _cut(beam, _cylinder((50, -1, 15), (0, 1, 0), 6, 22))


def ball() -> TopoDS_Shape:
    """Ball of volume 1 mm^3 around the origin: one face, one seam and two poles."""
    return BRepPrimAPI_MakeSphere(BALL_RADIUS).Shape()


def turned() -> TopoDS_Shape:
    """Turned part with cylinder, torus, cone and sphere faces, and a drilled hole with a conical end."""
    low, rounded = 8 - 3, 3 / math.sqrt(2)
    slope = math.atan2(8, 24)  # of the cone that rises from radius 16 at z = 8 to radius 8 at z = 32
    centre = 32 - 8 * math.tan(slope)
    radius = 8 / math.cos(slope)
    top, middle = centre + radius, math.pi / 4 + slope / 2
    edges = [
        _line((0, 0, 0), (24, 0, 0)),
        _line((24, 0, 0), (24, 0, low)),
        _arc((24, 0, low), (21 + rounded, 0, low + rounded), (21, 0, 8)),
        _line((21, 0, 8), (16, 0, 8)),
        _line((16, 0, 8), (8, 0, 32)),
        _arc((8, 0, 32), (radius * math.cos(middle), 0, centre + radius * math.sin(middle)), (0, 0, top)),
        _line((0, 0, top), (0, 0, 0)),
    ]
    wire = BRepBuilderAPI_MakeWire()
    for edge in edges:
        wire.Add(edge)
    face = BRepBuilderAPI_MakeFace(wire.Wire(), True).Face()
    body = BRepPrimAPI_MakeRevol(face, gp_Ax1(gp_Pnt(0, 0, 0), gp_Dir(0, 0, 1))).Shape()
    hole = _cylinder((0, 0, -1), (0, 0, 1), 4, 11)
    tip = BRepPrimAPI_MakeCone(gp_Ax2(gp_Pnt(0, 0, 10), gp_Dir(0, 0, 1)), 4, 0, 2.4).Shape()
    return _cut(_cut(body, hole), tip)


SHIPPED: dict[str, Callable[[], TopoDS_Shape]] = {
    "bracket": bracket,
    "link": link,
    "cantilever": cantilever,
    "ball": ball,
    "turned": turned,
}
"""Builders by name."""


def shipped_part(name: str) -> Path:
    """STEP file, in millimetres, of a part that comes with the program.

    Raises:
        CadError: names the parts there are.
    """
    if name not in SHIPPED:
        raise CadError(f"part '{name}'; those that come with the program are {', '.join(SHIPPED)}")
    return FOLDER / f"{name}.step"


def _cylinder(base: Point, axis: Point, radius: float, height: float) -> TopoDS_Shape:
    return BRepPrimAPI_MakeCylinder(gp_Ax2(gp_Pnt(*base), gp_Dir(*axis)), radius, height).Shape()


def _fuse(one: TopoDS_Shape, other: TopoDS_Shape) -> TopoDS_Shape:
    return _solid(BRepAlgoAPI_Fuse(one, other).Shape())


def _cut(one: TopoDS_Shape, other: TopoDS_Shape) -> TopoDS_Shape:
    return _solid(BRepAlgoAPI_Cut(one, other).Shape())


def _solid(shape: TopoDS_Shape) -> TopoDS_Shape:
    """The solid in the compound that a Boolean operation gives, its faces of the same surface united."""
    unify = ShapeUpgrade_UnifySameDomain(shape, True, True, False)
    unify.Build()
    return TopExp_Explorer(unify.Shape(), TopAbs_SOLID).Current()


def _fillet(shape: TopoDS_Shape, radius: float, chosen: Callable[[gp_Pnt], bool]) -> TopoDS_Shape:
    """``shape`` with a fillet along the edges whose centre is ``chosen``."""
    fillet, explorer = BRepFilletAPI_MakeFillet(shape), TopExp_Explorer(shape, TopAbs_EDGE)
    while explorer.More():
        properties = GProp_GProps()
        BRepGProp.LinearProperties_s(explorer.Current(), properties)
        if chosen(properties.CentreOfMass()):
            fillet.Add(radius, TopoDS.Edge(explorer.Current()))
        explorer.Next()
    return fillet.Shape()


def _line(start: Point, end: Point) -> TopoDS_Edge:
    return BRepBuilderAPI_MakeEdge(gp_Pnt(*start), gp_Pnt(*end)).Edge()


def _arc(start: Point, middle: Point, end: Point) -> TopoDS_Edge:
    return BRepBuilderAPI_MakeEdge(GC_MakeArcOfCircle(gp_Pnt(*start), gp_Pnt(*middle), gp_Pnt(*end)).Value()).Edge()


def write_parts(folder: Path = FOLDER) -> None:
    """Write the STEP file of every part."""
    for name, build in SHIPPED.items():
        write_step(CadShape(build()), folder / f"{name}.step", "mm")


if __name__ == "__main__":
    write_parts()
