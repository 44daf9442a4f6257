"""Volume and centroid of a solid, and the distance of a mesh from its surface."""

from __future__ import annotations

import numpy as np
from OCP.BRep import BRep_Builder
from OCP.BRepBuilderAPI import BRepBuilderAPI_MakeVertex
from OCP.BRepExtrema import BRepExtrema_DistShapeShape
from OCP.BRepGProp import BRepGProp
from OCP.gp import gp_Pnt
from OCP.GProp import GProp_GProps
from OCP.TopoDS import TopoDS_Compound

from shapewright.geometries.cad.faces import box_of, faces_of
from shapewright.geometries.cad.step import CadShape
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import Array

MOST_COMPARED = 300
"""Boundary nodes of which the distance to the CAD is found."""


def part_size(cad: CadShape) -> float:
    """Diagonal of the box around a solid, in the study's unit."""
    low, high = box_of(cad.shape)
    return float(np.linalg.norm(high - low)) / cad.factor


def volume_and_centroid(cad: CadShape) -> tuple[float, tuple[float, float, float]]:
    """Volume and centroid of a solid, in the study's length unit."""
    properties = GProp_GProps()
    BRepGProp.VolumePropertiesGK_s(cad.shape, properties, 1e-8, False, True)
    centre, factor = properties.CentreOfMass(), cad.factor
    return abs(properties.Mass()) / factor**3, (centre.X() / factor, centre.Y() / factor, centre.Z() / factor)


def boundary_deviation(cad: CadShape, mesh: Mesh, nodes: Array) -> float:
    """Largest distance of some boundary nodes of a mesh moved to ``nodes`` (N, 3) from the CAD, in the study's unit."""
    boundary = np.unique(mesh.facets)
    chosen = boundary[:: max(1, len(boundary) // MOST_COMPARED)]
    shell, builder, largest = TopoDS_Compound(), BRep_Builder(), 0.0
    builder.MakeCompound(shell)  # the faces alone: a point inside of a solid has no distance from it
    for face in faces_of(cad.shape):
        builder.Add(shell, face)
    for x, y, z in (nodes[chosen] * cad.factor).tolist():
        vertex = BRepBuilderAPI_MakeVertex(gp_Pnt(x, y, z)).Vertex()
        largest = max(largest, BRepExtrema_DistShapeShape(vertex, shell).Value())
    return largest / cad.factor
