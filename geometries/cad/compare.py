"""A solid read back from a file against the one that was written: the same faces, in the same position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from OCP.BRep import BRep_Tool
from OCP.BRepBuilderAPI import BRepBuilderAPI_MakeVertex
from OCP.BRepCheck import BRepCheck_Analyzer
from OCP.BRepExtrema import BRepExtrema_DistShapeShape
from OCP.BRepGProp import BRepGProp
from OCP.gp import gp_Pnt
from OCP.GProp import GProp_GProps
from OCP.ShapeAnalysis import ShapeAnalysis_Surface
from OCP.TopoDS import TopoDS_Face

from shapewright.geometries.cad.deform import Deformed
from shapewright.geometries.cad.faces import area_and_centroid, box_of, describe, faces_of
from shapewright.geometries.cad.step import CadError, CadShape, read_step
from shapewright.geometries.mesh.simplex import Array

SAME_FACE = 1e-3
"""Largest difference of two faces that are one: area over area, centroid over the size of the part."""
SURE = 5e-6
"""Distance over the size of the part below which that by a quick projection, which is not less, is taken as it is."""


@dataclass(frozen=True)
class ReadBack:
    """What a file with a deformed solid holds.

    Attributes:
        cad: the solid as it was read.
        numbers: for each face of the solid that was written, from 1, the number of it in the file.
        valid: OpenCASCADE's own check of topology and geometry.
        kept: whether all faces that stayed are still of their kind.
        kept_distance: largest distance of radius, axis, normal or centroid of these from the original's.
        volume: of the solid, in the study's unit.
        centroid: of the solid.
    """

    cad: CadShape
    numbers: NDArray[np.int64]
    valid: bool
    kept: bool
    kept_distance: float
    volume: float
    centroid: tuple[float, float, float]


def read_back(path: Path, unit: str, original: CadShape, deformed: Deformed) -> ReadBack:
    """Read a deformed solid from STEP and compare it with what was written.

    Raises:
        CadError: the file cannot be read, holds no solid, or other faces.
    """
    cad = read_step(path, unit, deformed.cad.factor)
    if not cad.solid:
        raise CadError(f"{path}: found no solid; one was written")
    numbers = match_faces(deformed.cad, cad)
    own, found = faces_of(original.shape), faces_of(cad.shape)
    same, distance = True, 0.0
    for number in deformed.kept:
        before = describe(own[number - 1], number, cad.factor)
        after = describe(found[numbers[number - 1] - 1], number, cad.factor)
        same &= before.kind == after.kind
        for name in ("centroid", "radius", "minor_radius", "normal", "half_angle"):
            values = getattr(before, name), getattr(after, name)
            if values[0] is not None and values[1] is not None:
                distance = max(distance, float(np.abs(np.subtract(*values)).max()))
        if before.axis is not None and after.axis is not None:  # one axis has two directions
            distance = max(distance, float(np.linalg.norm(np.cross(before.axis, after.axis))))
    properties = GProp_GProps()
    BRepGProp.VolumePropertiesGK_s(cad.shape, properties, 1e-8, False, True)
    centre = properties.CentreOfMass()
    return ReadBack(
        cad,
        numbers,
        BRepCheck_Analyzer(cad.shape).IsValid(),
        bool(same),
        distance,
        abs(properties.Mass()) / cad.factor**3,
        (centre.X() / cad.factor, centre.Y() / cad.factor, centre.Z() / cad.factor),
    )


def match_faces(one: CadShape, other: CadShape) -> NDArray[np.int64]:
    """(F,) number in ``other``, from 1, of each face of ``one``: that of the same area and centroid.

    Raises:
        CadError: there are more or fewer faces, or one has no counterpart.
    """
    mine, theirs = ([area_and_centroid(face) for face in faces_of(cad.shape)] for cad in (one, other))
    if len(mine) != len(theirs):
        raise CadError(f"the solid read back has {len(theirs)} faces; {len(mine)} were written")
    low, high = box_of(one.shape)
    size = float(np.linalg.norm(high - low))
    areas, centroids = np.array([area for area, _ in theirs]), np.array([centroid for _, centroid in theirs])
    taken, found = np.zeros(len(theirs), dtype=bool), []
    for number, (area, centroid) in enumerate(mine, start=1):
        gap = np.linalg.norm(centroids - centroid, axis=1) / size + np.abs(areas / area - 1)
        gap[taken] = np.inf
        nearest = int(gap.argmin())
        if not gap[nearest] < SAME_FACE:
            raise CadError(f"face {number} was not found in the solid read back (difference {gap[nearest]:.2g})")
        taken[nearest] = True
        found.append(nearest + 1)
    return np.array(found, dtype=np.int64)


def distances(cad: CadShape, numbers: NDArray[np.int64], points: Array) -> Array:
    """(n,) distances of points (n, 3) from the faces with these numbers (n,), in the study's unit."""
    low, high = box_of(cad.shape)
    sure = SURE * float(np.linalg.norm(high - low))
    faces, found = faces_of(cad.shape), np.empty(len(points))
    for number in np.unique(numbers):
        of_face = np.nonzero(numbers == number)[0]
        found[of_face] = _distances(faces[number - 1], cad.factor * points[of_face], sure)
    return found / cad.factor


def _distances(face: TopoDS_Face, points: Array, sure: float) -> Array:
    """By a quick projection, whose points may be the wrong ones, and where it is not sure by a search."""
    surface = BRep_Tool.Surface_s(face)
    projection, found = ShapeAnalysis_Surface(surface), np.empty(len(points))
    for index, (x, y, z) in enumerate(points.tolist()):
        point = gp_Pnt(x, y, z)
        uv = projection.ValueOfUV(point, sure)
        found[index] = surface.Value(uv.X(), uv.Y()).Distance(point)
        if found[index] > sure:
            vertex = BRepBuilderAPI_MakeVertex(point).Vertex()
            found[index] = min(found[index], BRepExtrema_DistShapeShape(vertex, face).Value())
    return found
