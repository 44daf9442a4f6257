"""A user's solid from STEP: what the file holds, what is refused and why, faces with their names and colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from OCP.BRep import BRep_Tool
from OCP.BRepCheck import BRepCheck_Analyzer
from OCP.BRepGProp import BRepGProp
from OCP.GProp import GProp_GProps
from OCP.IFSelect import IFSelect_RetDone
from OCP.OCP.collections import Sequence_TCollection_AsciiString, Sequence_TDF_Label
from OCP.Quantity import Quantity_Color
from OCP.STEPCAFControl import STEPCAFControl_Reader
from OCP.TCollection import TCollection_ExtendedString
from OCP.TDocStd import TDocStd_Document
from OCP.TopAbs import TopAbs_ShapeEnum, TopAbs_SHELL, TopAbs_SOLID
from OCP.TopExp import TopExp_Explorer
from OCP.TopLoc import TopLoc_Location
from OCP.TopoDS import TopoDS_Shape
from OCP.XCAFApp import XCAFApp_Application
from OCP.XCAFDoc import XCAFDoc_ColorGen, XCAFDoc_ColorSurf, XCAFDoc_DocumentTool

from shapewright.geometries.cad.faces import Face, Vector, box_of, describe, edges_of, faces_of
from shapewright.geometries.cad.step import CadError, CadShape, silence
from shapewright.geometries.cad.units import MILLIMETRES, cad_factor, millimetres
from shapewright.geometries.family.effort import forced

FILE_UNITS = {
    "millimetre": "mm", "millimeter": "mm", "mm": "mm", "centimetre": "cm", "centimeter": "cm", "cm": "cm",
    "metre": "m", "meter": "m", "m": "m", "inch": "inch", "in": "inch", "foot": "foot", "ft": "foot",
    "micrometre": "um", "kilometre": "km",
}  # fmt: skip
"""Length units by the names that STEP files use for them, in lower case."""
MOST_FACES = 500
"""Faces of a solid at most, which ``--force`` lifts."""
SECONDS_PER_FACE = 0.1
"""To deform a face, measured on parts of 5 to 305 faces: 0.05 to 0.25."""
LARGEST_TOLERANCE = 1e-4
"""Tolerance of an edge over the size of the part beyond which it is refused: deviations cannot be less than it."""
WARNED_TOLERANCE = 1e-5
"""The same for a warning."""
WORKING_SIZES = 1.0, 1e4
"""Extent of a part in OpenCASCADE's coordinates, whose tolerances of 1e-7 are absolute."""
SHOWN = 8
"""Solids, faces or edges at most that a message lists."""


class PartError(CadError, ValueError):
    """A part or a selection of its faces that the user can correct."""


@dataclass(frozen=True)
class Solid:
    """One solid of a STEP file. Lengths are in ``unit``.

    Attributes:
        path: of the file.
        unit: m, cm or mm.
        file_unit: of the file itself.
        number: of the solid in the file, from 1.
        cad: the solid.
        faces: with names and colours of the file.
        low, high: corners of its bounding box.
        volume: of the solid.
        tolerance: largest tolerance of an edge.
        faults: reasons to refuse it, each a sentence.
        warnings: what to know of it, each a sentence.
    """

    path: Path
    unit: str
    file_unit: str
    number: int
    cad: CadShape
    faces: tuple[Face, ...]
    low: Vector
    high: Vector
    volume: float
    tolerance: float
    faults: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def size(self) -> float:
        """Diagonal of the bounding box."""
        return float(np.linalg.norm(np.subtract(self.high, self.low)))


@dataclass(frozen=True)
class StepContents:
    """What a STEP file holds.

    Attributes:
        path: of the file.
        unit: of all lengths.
        file_unit: of the file itself.
        solids: in the order of the file.
        sheets: number of faces outside of solids.
    """

    path: Path
    unit: str
    file_unit: str
    solids: tuple[Solid, ...]
    sheets: int


def read_solid(path: Path, unit: str, number: int | None = None) -> Solid:
    """One solid of a STEP file, in the study's length ``unit``.

    Args:
        path: of the file.
        unit: m, cm or mm; it must be the file's own, unless that is another one.
        number: of the solid, from 1; None for the only one.

    Raises:
        PartError: not a STEP file, another length unit, not exactly one solid, or one of the faults of a solid.
    """
    contents = inspect_step(path, unit)
    if contents.file_unit in MILLIMETRES and contents.file_unit != unit:
        raise PartError(
            f"{path}: the file is in {contents.file_unit} and length_unit is {unit}; write"
            f" `length_unit: {contents.file_unit}`, and all lengths of the study in it"
        )
    solid = chosen(contents, number)
    if solid.faults:
        raise PartError(f"{path}: {'; '.join(solid.faults)}")
    return solid


def chosen(contents: StepContents, number: int | None) -> Solid:
    """The solid with this number, or the only one.

    Raises:
        PartError: there is no such solid, or more than one to choose from; the message lists them.
    """
    solids = contents.solids
    if not solids:
        sheets = f"{contents.sheets} faces that bound no solid" if contents.sheets else "no faces"
        raise PartError(f"{contents.path}: found {sheets}; expected a solid (close the shell in a CAD program)")
    if number is None and len(solids) == 1:
        return solids[0]
    if number is not None and 1 <= number <= len(solids):
        return solids[number - 1]
    listed = "; ".join(
        f"{solid.number}: {len(solid.faces)} faces, volume {solid.volume:.4g}, {_from_to(solid)}"
        for solid in solids[:SHOWN]
    )
    more = f"; and {len(solids) - SHOWN} more" if len(solids) > SHOWN else ""
    asked = "choose one by `solid: n`" if number is None else f"there is no solid {number}"
    raise PartError(f"{contents.path}: found {len(solids)} solids, {asked} ({listed}{more})")


def _from_to(solid: Solid) -> str:
    nothing = 1e-6 * solid.size
    corners = (" ".join(f"{x if abs(x) > nothing else 0:.4g}" for x in corner) for corner in (solid.low, solid.high))
    return " to ".join(f"({corner})" for corner in corners)


def inspect_step(path: Path, unit: str | None = None) -> StepContents:
    """All solids of a STEP file with what is refused of each; in ``unit``, or in the file's own, or in mm.

    Raises:
        PartError: an unknown unit, there is no such file, or it is not a STEP file.
    """
    if unit is not None and unit not in MILLIMETRES:
        raise PartError(f"length unit '{unit}'; allowed are {', '.join(MILLIMETRES)}")
    _check_step(path)
    document = _Document(path, 1.0)
    file_unit = document.unit
    unit = unit or (file_unit if file_unit in MILLIMETRES else "mm")
    extent = document.extent()
    factor = millimetres(unit)  # coordinates in mm, as OpenCASCADE's own tolerances are meant
    if extent > 0 and not WORKING_SIZES[0] <= extent <= WORKING_SIZES[1]:
        corners = np.array([[0.0] * 3, [extent] * 3]) / factor
        factor = cad_factor(corners, corners)
        document = _Document(path, millimetres(unit) / factor)
    solids = tuple(
        _solid(document, shape, number, factor, path, unit)
        for number, shape in enumerate(document.members(TopAbs_SOLID), start=1)
    )
    sheets = len(faces_of(document.shape)) - sum(len(solid.faces) for solid in solids)
    return StepContents(path, unit, file_unit, solids, max(sheets, 0))


def _check_step(path: Path) -> None:
    if not path.is_file():
        raise PartError(f"{path}: there is no such file")
    with path.open("rb") as file:
        head = file.read(4096)
    if b"ISO-10303-21" not in head:
        found = head[:20].decode("ascii", "replace").splitlines()[0] if head.strip() else "an empty file"
        raise PartError(f"{path}: found {found!r}; expected a STEP file, which begins with ISO-10303-21")


class _Document:
    """A STEP file read with names and colours; ``millimetre`` is the length of a unit of its coordinates in mm."""

    def __init__(self, path: Path, millimetre: float) -> None:
        silence()
        self.document = TDocStd_Document(TCollection_ExtendedString("XmlXCAF"))
        XCAFApp_Application.GetApplication_s().InitDocument(self.document)
        XCAFDoc_DocumentTool.SetLengthUnit_s(self.document, millimetre / 1000)
        self.reader = STEPCAFControl_Reader()
        self.reader.SetColorMode(True)
        self.reader.SetNameMode(True)
        read = self.reader.ReadFile(str(path)) == IFSelect_RetDone
        labels = Sequence_TDF_Label()
        if read and self.reader.Transfer(self.document):
            XCAFDoc_DocumentTool.ShapeTool_s(self.document.Main()).GetFreeShapes(labels)
        if not labels.Length():
            raise PartError(f"{path}: OpenCASCADE finds no shape in it (a damaged or empty STEP file)")
        tool = XCAFDoc_DocumentTool.ShapeTool_s(self.document.Main())
        self.shapes = [tool.GetShape_s(labels.Value(index)) for index in range(1, labels.Length() + 1)]
        self.shape = self.shapes[0] if len(self.shapes) == 1 else _compound(self.shapes)

    @property
    def unit(self) -> str:
        """Length unit of the file by our name, or as it is written there."""
        lengths, angles, solid_angles = (Sequence_TCollection_AsciiString() for _ in range(3))
        self.reader.Reader().FileUnits(lengths, angles, solid_angles)
        found = [lengths.Value(index).ToCString() for index in range(1, lengths.Length() + 1)]
        names = {FILE_UNITS.get(name.lower(), name.lower()) for name in found}
        return names.pop() if len(names) == 1 else "mm" if not names else " and ".join(sorted(names))

    def extent(self) -> float:
        """Largest side of the bounding box of all shapes."""
        low, high = box_of(self.shape, tight=False)
        return float((high - low).max())

    def members(self, kind: TopAbs_ShapeEnum) -> Iterator[TopoDS_Shape]:
        """Sub-shapes of a kind."""
        yield from _members(self.shape, kind)

    def name(self, face: TopoDS_Shape) -> str:
        """Name of a face in the file, or ""."""
        transfer = self.reader.Reader().WS().TransferReader()
        for shape in (face, face.Located(TopLoc_Location())):
            entity = transfer.EntityFromShapeResult(shape, 1)
            name = entity.Name() if hasattr(entity, "Name") else None
            if name is not None and name.ToCString().strip():
                return name.ToCString().strip()
        return ""

    def colour(self, face: TopoDS_Shape) -> Vector | None:
        """Colour of a face in the file, as sRGB from 0 to 1."""
        tool, found = XCAFDoc_DocumentTool.ColorTool_s(self.document.Main()), Quantity_Color()
        for shape in (face, face.Located(TopLoc_Location())):
            for kind in (XCAFDoc_ColorSurf, XCAFDoc_ColorGen):
                if tool.GetColor(shape, kind, found):
                    return _srgb(found.Red()), _srgb(found.Green()), _srgb(found.Blue())
        return None


def _srgb(linear: float) -> float:
    """IEC 61966-2-1: OpenCASCADE keeps linear values of the colours that a file names."""
    value = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(min(max(value, 0.0), 1.0), 3)


def _compound(shapes: list[TopoDS_Shape]) -> TopoDS_Shape:
    from OCP.BRep import BRep_Builder
    from OCP.TopoDS import TopoDS_Compound

    compound, builder = TopoDS_Compound(), BRep_Builder()
    builder.MakeCompound(compound)
    for shape in shapes:
        builder.Add(compound, shape)
    return compound


def _members(shape: TopoDS_Shape, kind: TopAbs_ShapeEnum) -> Iterator[TopoDS_Shape]:
    explorer = TopExp_Explorer(shape, kind)
    while explorer.More():
        yield explorer.Current()
        explorer.Next()


def _solid(document: _Document, shape: TopoDS_Shape, number: int, factor: float, path: Path, unit: str) -> Solid:
    shapes = faces_of(shape)
    too_many = len(shapes) > MOST_FACES and not forced()
    faces = tuple(
        replace(describe(face, index, factor, not too_many), name=document.name(face), colour=document.colour(face))
        for index, face in enumerate(shapes, start=1)
    )
    low, high = (corner / factor for corner in box_of(shape, not too_many))
    properties = GProp_GProps()
    BRepGProp.VolumeProperties_s(shape, properties)
    volume = properties.Mass() / factor**3
    edges = edges_of(shape)
    tolerance = max((BRep_Tool.Tolerance_s(edge) for edge in edges), default=0.0) / factor
    refused, warnings = tolerance_notes(tolerance, float(np.linalg.norm(high - low)), unit)
    faults: list[str] = [] if too_many else [*topology_faults(shape)]
    if volume <= 0 and not faults:
        faults.append(f"the solid is inside out (volume {volume:.4g})")
    faults += refused
    if too_many:
        faults.append(
            f"the solid has {len(faces)} faces; allowed are {MOST_FACES} (about {SECONDS_PER_FACE * len(faces):.0f} s"
            " for each deformation of the CAD; --force allows it)"
        )
    corners = [(float(c[0]), float(c[1]), float(c[2])) for c in (low, high)]
    return Solid(
        path, unit, document.unit, number, CadShape(shape, factor), faces, corners[0], corners[1], volume, tolerance,
        tuple(faults), tuple(warnings),
    )  # fmt: skip


def tolerance_notes(tolerance: float, size: float, unit: str) -> tuple[list[str], list[str]]:
    """What is refused and what is worth a warning of the largest tolerance of an edge of a part of ``size``."""
    found = f"an edge has a tolerance of {tolerance:.2g} {unit}, {tolerance / size:.1e} of the part's size"
    if tolerance > LARGEST_TOLERANCE * size:
        return [
            f"{found}; allowed is {LARGEST_TOLERANCE:g} of it (its faces do not meet better: export the part with a"
            " higher precision)"
        ], []
    if tolerance > WARNED_TOLERANCE * size:
        return [], [f"{found}: the deformed CAD cannot be more precise there"]
    return [], []


def topology_faults(shape: TopoDS_Shape) -> Iterator[str]:
    """Open shells, edges without a curve, and what OpenCASCADE itself finds invalid."""
    if any(not BRep_Tool.IsClosed_s(shell) for shell in _members(shape, TopAbs_SHELL)):
        yield "the shell of the solid is open; close it in a CAD program"
    edges = edges_of(shape)
    bare = [
        number
        for number, edge in enumerate(edges, start=1)
        if not BRep_Tool.Degenerated_s(edge) and BRep_Tool.Curve_s(edge, 0.0, 1.0) is None
    ]
    if bare:
        yield f"edges without a curve in space: {_listed(bare)}; repair the part in a CAD program"
    analyzer = BRepCheck_Analyzer(shape)
    if not analyzer.IsValid():
        faces = [n for n, face in enumerate(faces_of(shape), start=1) if not analyzer.IsValid(face)]
        where = f" (faces {_listed(faces)})" if faces else ""
        yield f"OpenCASCADE finds the solid invalid{where}; repair it in a CAD program"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else "")
