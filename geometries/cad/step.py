"""CAD of a design by OpenCASCADE: exact B-spline faces and solids to STEP, BREP and STL, and back.

The curve in the file is the curve of the design (periodic or clamped cubic, the same control points and
knots); nothing is faceted on its way. STL, which has only facets, is tessellated from the same B-rep.

OpenCASCADE takes points closer than 1e-7 for the same and lengths below for nothing. Shapes are therefore made and
measured at a size of about one hundred, whatever the part's (:func:`files.cad_factor`), and written in the
study's unit with tolerances that are relative to the part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from OCP.BRep import BRep_Tool
from OCP.BRepBuilderAPI import (
    BRepBuilderAPI_MakeEdge,
    BRepBuilderAPI_MakeFace,
    BRepBuilderAPI_MakeVertex,
    BRepBuilderAPI_MakeWire,
    BRepBuilderAPI_Transform,
)
from OCP.BRepCheck import BRepCheck_Analyzer
from OCP.BRepExtrema import BRepExtrema_DistShapeShape
from OCP.BRepGProp import BRepGProp
from OCP.BRepMesh import BRepMesh_IncrementalMesh
from OCP.BRepPrimAPI import BRepPrimAPI_MakePrism
from OCP.BRepTools import BRepTools
from OCP.Geom import Geom_BSplineCurve
from OCP.gp import gp_Pnt, gp_Trsf, gp_Vec
from OCP.GProp import GProp_GProps
from OCP.IFSelect import IFSelect_RetDone
from OCP.Interface import Interface_Static
from OCP.Message import Message
from OCP.OCP.collections import (
    Array1_double,
    Array1_gp_Pnt,
    Array1_int,
    IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher,
)
from OCP.STEPControl import STEPControl_AsIs, STEPControl_Reader, STEPControl_Writer
from OCP.StlAPI import StlAPI_Writer
from OCP.TopAbs import TopAbs_EDGE, TopAbs_SOLID
from OCP.TopExp import TopExp, TopExp_Explorer
from OCP.TopoDS import TopoDS, TopoDS_Edge, TopoDS_Shape, TopoDS_Wire

from shapewright.geometries.cad.units import cad_factor, millimetres
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.spline import Curve, loop_matrix
from shapewright.geometries.files import written_whole


class CadError(RuntimeError):
    """OpenCASCADE refused to build, write or read a shape."""


@dataclass(frozen=True)
class CadShape:
    """A shape of OpenCASCADE whose coordinates are ``factor`` times those of the study."""

    shape: TopoDS_Shape
    factor: float = 1.0

    @property
    def solid(self) -> bool:
        """Whether it holds a solid."""
        return TopExp_Explorer(self.shape, TopAbs_SOLID).More()

    def in_study_unit(self, with_facets: bool = False) -> TopoDS_Shape:
        """The shape at its own size, its tolerances (and facets) scaled with it."""
        scaling = gp_Trsf()
        scaling.SetScale(gp_Pnt(0.0, 0.0, 0.0), 1.0 / self.factor)
        return BRepBuilderAPI_Transform(self.shape, scaling, True, with_facets).Shape()


@dataclass(frozen=True)
class CadCheck:
    """What a CAD file holds when it is read back.

    Attributes:
        valid: OpenCASCADE's own topology and geometry check.
        measure: volume of the solid, or area of the face, in the study's unit.
        solid: whether the file holds a solid.
        max_deviation: largest distance of the design's curve from the nearest edge in the file, in the study's unit.
        b_spline_edges: number of edges whose geometry is a B-spline.
    """

    valid: bool
    measure: float
    solid: bool
    max_deviation: float
    b_spline_edges: int


def part_shape(family: Family, control_points: NDArray[np.float64], thickness: float | None = None) -> CadShape:
    """Face of the part with control points (n, 2) of the whole family, or the solid of that thickness in +z.

    Raises:
        CadError: OpenCASCADE cannot make it, or finds the result invalid.
    """
    return _shape(family, control_points, (family.part,), thickness)


def domain_shape(family: Family, control_points: NDArray[np.float64], thickness: float | None = None) -> CadShape:
    """The same of the whole domain, with its holes."""
    return _shape(family, control_points, range(len(family.loops)), thickness)


def _shape(
    family: Family, control_points: NDArray[np.float64], loops: Sequence[int], thickness: float | None
) -> CadShape:
    """Face within the first of the loops and outside the others, or its solid."""
    kind = "face" if thickness is None else "solid"
    own = [control_points[family.loop_slices[loop]] for loop in loops]
    factor = cad_factor(control_points[family.loop_slices[family.part]], np.concatenate(own))
    try:
        outer, *holes = (_wire(family.loops[loop], factor * points) for loop, points in zip(loops, own, strict=True))
        face = BRepBuilderAPI_MakeFace(outer, True)
        for hole in holes:
            face.Add(TopoDS.Wire(hole.Reversed()))
        shape = face.Face()
        if thickness is not None:
            shape = BRepPrimAPI_MakePrism(shape, gp_Vec(0, 0, factor * thickness)).Shape()
        valid = BRepCheck_Analyzer(shape).IsValid()
    except Exception as error:  # OpenCASCADE's own, which share no other base
        raise CadError(f"OpenCASCADE cannot make the {kind} of '{family.name}': {error}") from error
    if not valid:
        raise CadError(f"OpenCASCADE finds the {kind} of '{family.name}' invalid")
    return CadShape(shape, factor)


def _wire(loop: tuple[Curve, ...], points: NDArray[np.float64]) -> TopoDS_Wire:
    wire, start = BRepBuilderAPI_MakeWire(), 0
    for curve in loop:
        own = points[start : start + curve.count]
        start += curve.count
        # a line is written as one, so that its side face is a plane in the CAD system
        geometry = [gp_Pnt(float(x), float(y), 0.0) for x, y in own] if curve.degree == 1 else [_b_spline(curve, own)]
        wire.Add(BRepBuilderAPI_MakeEdge(*geometry).Edge())
    return wire.Wire()


def _b_spline(curve: Curve, points: NDArray[np.float64]) -> Geom_BSplineCurve:
    poles = Array1_gp_Pnt(1, len(points))
    for index, (x, y) in enumerate(points, start=1):
        poles.SetValue(index, gp_Pnt(float(x), float(y), 0.0))
    knots, multiplicities = Array1_double(1, curve.spans + 1), Array1_int(1, curve.spans + 1)
    for index in range(curve.spans + 1):
        at_end = index in (0, curve.spans) and not curve.periodic
        knots.SetValue(index + 1, float(index))
        multiplicities.SetValue(index + 1, curve.degree + 1 if at_end else 1)
    return Geom_BSplineCurve(poles, knots, multiplicities, curve.degree, curve.periodic)


def write_step(cad: CadShape, path: Path, unit: str) -> None:
    """Write a STEP file whose length unit is the study's (m, cm or mm); whole or not at all.

    Raises:
        CadError: it could not be written; ``path`` is as it was before.
    """
    silence()
    length = millimetres(unit)
    writer = STEPControl_Writer()  # made first: it sets OpenCASCADE's defaults, which the next lines change
    Interface_Static.SetCVal_s("write.step.unit", unit.upper())
    writer.Model().SetWriteLengthUnit(length)
    writer.Model().SetLocalLengthUnit(length / cad.factor)
    with _written(path, "STEP") as part:
        transferred = writer.Transfer(cad.shape, STEPControl_AsIs)
        if transferred != IFSelect_RetDone or writer.Write(str(part)) != IFSelect_RetDone:
            raise OSError("refused")


def write_brep(cad: CadShape, path: Path) -> None:
    """Write OpenCASCADE's own exact format, which names no unit, in the study's; whole or not at all.

    Raises:
        CadError: see :func:`write_step`.
    """
    with _written(path, "BREP") as part:
        if not BRepTools.Write_s(cad.in_study_unit(), str(part)):
            raise OSError("refused")


def write_stl(cad: CadShape, path: Path, deflection: float) -> None:
    """Tessellate to within ``deflection`` (study's unit) and write a binary STL; whole or not at all.

    Raises:
        CadError: see :func:`write_step`.
    """
    BRepTools.Clean_s(cad.shape)
    BRepMesh_IncrementalMesh(cad.shape, cad.factor * deflection, False, 0.1, False)
    writer = StlAPI_Writer()
    writer.ASCIIMode = False
    with _written(path, "STL") as part:
        if not writer.Write(cad.in_study_unit(with_facets=True), str(part)):
            raise OSError("refused")


@contextmanager
def _written(path: Path, kind: str) -> Iterator[Path]:
    try:
        with written_whole(path) as part:
            yield part
    except OSError as error:
        raise CadError(f"{path}: OpenCASCADE could not write the {kind} file (disk full or not writable?)") from error


def read_step(path: Path, unit: str, factor: float = 1.0) -> CadShape:
    """Read a STEP file; the shape's coordinates are ``factor`` times those in the study's length ``unit``.

    Raises:
        CadError: not a STEP file, or nothing in it.
    """
    silence()
    reader = STEPControl_Reader()
    read = reader.ReadFile(str(path)) == IFSelect_RetDone
    if read:
        reader.SetSystemLengthUnit(millimetres(unit) / factor)
    if not read or reader.TransferRoots() == 0:
        raise CadError(f"{path}: OpenCASCADE cannot read it as STEP")
    return CadShape(reader.OneShape(), factor)


def check_step(path: Path, family: Family, control_points: NDArray[np.float64], unit: str) -> CadCheck:
    """Read a part back from STEP and compare it with the design it was made from."""
    own = control_points[family.loop_slices[family.part]]
    cad = read_step(path, unit, cad_factor(own, own))
    return CadCheck(
        valid=BRepCheck_Analyzer(cad.shape).IsValid(),
        measure=measure_of(cad),
        solid=cad.solid,
        max_deviation=_max_deviation(cad, family, own),
        b_spline_edges=_count_b_splines(cad.shape),
    )


def measure_of(cad: CadShape) -> float:
    """Volume of a solid, area of a face, in the study's unit."""
    properties = GProp_GProps()
    # Gauss-Kronrod: plain volume integration of OpenCASCADE 8.0 was 2e-4 off on these solids whatever its tolerance
    if cad.solid:
        BRepGProp.VolumePropertiesGK_s(cad.shape, properties, 1e-10, False, True)
    else:
        BRepGProp.SurfaceProperties_s(cad.shape, properties, 1e-10, False)
    return abs(properties.Mass()) / cad.factor ** (3 if cad.solid else 2)


def _max_deviation(cad: CadShape, family: Family, part: NDArray[np.float64]) -> float:
    points = loop_matrix(family.loops[family.part], 12) @ (cad.factor * part)
    edges = _edges(cad.shape)
    return max(_distance_to(edges, x, y) for x, y in points) / cad.factor


def _distance_to(edges: list[TopoDS_Edge], x: float, y: float) -> float:
    vertex = BRepBuilderAPI_MakeVertex(gp_Pnt(float(x), float(y), 0.0)).Vertex()
    return min(BRepExtrema_DistShapeShape(vertex, edge).Value() for edge in edges)


def _count_b_splines(shape: TopoDS_Shape) -> int:
    return sum(isinstance(BRep_Tool.Curve_s(edge, 0.0, 1.0), Geom_BSplineCurve) for edge in _edges(shape))


def _edges(shape: TopoDS_Shape) -> list[TopoDS_Edge]:
    """Every edge once, however many faces share it."""
    found = IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher()
    TopExp.MapShapes_s(shape, TopAbs_EDGE, found)
    return [TopoDS.Edge(found.FindKey(index)) for index in range(1, found.Extent() + 1)]


def silence() -> None:
    """OpenCASCADE prints statistics and its view of a damaged file to standard output unless told otherwise."""
    Message.DefaultMessenger_s().ChangePrinters().Clear()
