"""Triangles and edges of a solid's faces, for drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from OCP.BRep import BRep_Tool
from OCP.BRepMesh import BRepMesh_IncrementalMesh
from OCP.BRepTools import BRepTools
from OCP.TopAbs import TopAbs_REVERSED
from OCP.TopLoc import TopLoc_Location
from OCP.TopoDS import TopoDS_Face

from shapewright.geometries.cad.faces import box_of, edges_of, faces_of
from shapewright.geometries.cad.originals import curve_points
from shapewright.geometries.cad.step import CadError, CadShape
from shapewright.geometries.mesh.simplex import Array

DEFLECTION = 1e-3
"""Of the triangles from the surface, over the size of the part."""
ANGLE = 0.3
"""Largest angle between neighbouring triangles of a face, in radians."""
EDGE_POINTS = 49


@dataclass(frozen=True)
class Facets:
    """Triangles of one face.

    Attributes:
        points: (n, 3) in the study's unit.
        triangles: (m, 3) counter-clockwise seen from outside.
    """

    points: Array
    triangles: NDArray[np.int64]


def facets_of(cad: CadShape) -> list[Facets]:
    """Triangles of every face, in the order of their numbers.

    Raises:
        CadError: OpenCASCADE cannot triangulate a face.
    """
    low, high = box_of(cad.shape, tight=False)
    BRepMesh_IncrementalMesh(cad.shape, DEFLECTION * float(np.linalg.norm(high - low)), False, ANGLE, False)
    found = [_facets(face, number, cad.factor) for number, face in enumerate(faces_of(cad.shape), start=1)]
    BRepTools.Clean_s(cad.shape)
    return found


def _facets(face: TopoDS_Face, number: int, factor: float) -> Facets:
    location = TopLoc_Location()
    mesh = BRep_Tool.Triangulation_s(face, location)
    if mesh is None:
        raise CadError(f"OpenCASCADE cannot triangulate face {number}")
    move = location.Transformation()
    nodes = [mesh.Node(index).Transformed(move) for index in range(1, mesh.NbNodes() + 1)]
    points = np.array([(node.X(), node.Y(), node.Z()) for node in nodes]) / factor
    rows = [mesh.Triangle(index) for index in range(1, mesh.NbTriangles() + 1)]
    triangles = np.array([[row.Value(corner) - 1 for corner in (1, 2, 3)] for row in rows], dtype=np.int64)
    if face.Orientation() == TopAbs_REVERSED:
        triangles = triangles[:, ::-1]
    return Facets(points, triangles)


def edge_lines(cad: CadShape) -> list[Array]:
    """Points (n, 3) along every edge that has a curve, in the study's unit."""
    lines = []
    for edge in edges_of(cad.shape):
        curve = None if BRep_Tool.Degenerated_s(edge) else BRep_Tool.Curve_s(edge, 0.0, 1.0)
        if curve is not None:
            first, last = BRep_Tool.Range_s(edge)
            lines.append(curve_points(curve)(np.linspace(first, last, EDGE_POINTS)[:, None]) / cad.factor)
    return lines
