"""A solid built again with the topology and trimming curves of another one, on new points, curves and surfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from OCP.BRep import BRep_Builder, BRep_Tool
from OCP.BRepLib import BRepLib
from OCP.Geom import Geom_Curve, Geom_Surface
from OCP.Geom2d import Geom2d_Curve
from OCP.gp import gp_Pnt
from OCP.OCP.collections import IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher
from OCP.TopAbs import TopAbs_EDGE, TopAbs_FACE, TopAbs_FORWARD, TopAbs_SHELL, TopAbs_SOLID, TopAbs_VERTEX, TopAbs_WIRE
from OCP.TopExp import TopExp, TopExp_Explorer
from OCP.TopLoc import TopLoc_Location
from OCP.TopoDS import (
    TopoDS,
    TopoDS_Edge,
    TopoDS_Face,
    TopoDS_Iterator,
    TopoDS_Shape,
    TopoDS_Shell,
    TopoDS_Solid,
    TopoDS_Vertex,
    TopoDS_Wire,
)

from shapewright.geometries.cad.faces import edges_of, faces_of, vertices_of
from shapewright.geometries.cad.originals import curve_points, plane_points, surface_points
from shapewright.geometries.cad.spline_fit import Fit
from shapewright.geometries.mesh.simplex import Array

LEAST_TOLERANCE = 1e-7
"""OpenCASCADE's own of a point."""
SLACK = 1.1
"""Tolerance of an edge over the gap found at samples of it."""
SAMPLES = 22 * 9 + 1
"""Points along an edge at which its gap is measured; the 23 of OpenCASCADE's own check are among them."""


@dataclass(frozen=True)
class Trim:
    """Curve of an edge in the parameters of a face, a second one if the face closes there, and the range."""

    forward: Geom2d_Curve
    reverse: Geom2d_Curve | None
    first: float
    last: float


@dataclass(frozen=True)
class NewEdge:
    """Curve and range of an edge; no curve for the degenerate side of a face, no fit for an original curve."""

    curve: Geom_Curve | None
    first: float
    last: float
    fit: Fit | None


@dataclass(frozen=True)
class NewFace:
    """Surface of a face, its trimming curves by number of the edge from 1; no fit for an original surface."""

    surface: Geom_Surface
    trims: tuple[tuple[int, Trim], ...]
    fit: Fit | None


def rebuild(
    shape: TopoDS_Shape, points: Array, edges: Sequence[NewEdge], faces: Sequence[NewFace]
) -> tuple[TopoDS_Solid, float]:
    """The first solid of ``shape`` on new geometry, and the largest gap between an edge and a trimming curve.

    Args:
        shape: gives the topology.
        points: (n, 3) of the vertices, in OpenCASCADE's order.
        edges: of the shape, in that order.
        faces: of the shape, in that order.
    """
    found = _Rebuilt(shape, points, edges, faces)
    solid = found.solid(TopExp_Explorer(shape, TopAbs_SOLID).Current())
    BRepLib.UpdateTolerances_s(solid, False)
    return solid, found.gap


class _Rebuilt:
    """New shapes by number of the old ones, made from the vertices up."""

    def __init__(
        self, shape: TopoDS_Shape, points: Array, edges: Sequence[NewEdge], faces: Sequence[NewFace]
    ) -> None:
        self.builder = BRep_Builder()
        self.index = {kind: _indexed(shape, kind) for kind in (TopAbs_VERTEX, TopAbs_EDGE, TopAbs_FACE)}
        self.points = points
        old = vertices_of(shape), edges_of(shape), faces_of(shape)
        self.vertices = [
            self._vertex(vertex, point) for vertex, point in zip(old[0], points.tolist(), strict=True)
        ]
        self.gaps = _gaps(edges, faces)
        self.gap = max(self.gaps)
        on_faces: list[list[tuple[NewFace, Trim]]] = [[] for _ in edges]
        for face in faces:
            for number, trim in face.trims:
                on_faces[number - 1].append((face, trim))
        self.edges = [
            self._edge(*given) for given in zip(old[1], edges, on_faces, self.gaps, strict=True)
        ]
        self.faces = [self._face(face, new) for face, new in zip(old[2], faces, strict=True)]

    def _vertex(self, old: TopoDS_Vertex, point: Sequence[float]) -> TopoDS_Vertex:
        vertex = TopoDS_Vertex()
        self.builder.MakeVertex(vertex, gp_Pnt(*point), BRep_Tool.Tolerance_s(old))
        return vertex

    def _edge(self, old: TopoDS_Edge, new: NewEdge, on: list[tuple[NewFace, Trim]], gap: float) -> TopoDS_Edge:
        edge, tolerance = TopoDS_Edge(), max(BRep_Tool.Tolerance_s(old), SLACK * gap, LEAST_TOLERANCE)
        if new.curve is None:
            self.builder.MakeEdge(edge)
        else:
            self.builder.MakeEdge(edge, new.curve, tolerance)
        for face, trim in on:
            curves = [trim.forward] if trim.reverse is None else [trim.forward, trim.reverse]
            self.builder.UpdateEdge(edge, *curves, face.surface, TopLoc_Location(), tolerance)
        if new.curve is None:
            self.builder.Degenerated(edge, True)
            for face, trim in on:
                self.builder.Range(edge, face.surface, TopLoc_Location(), trim.first, trim.last)
        else:
            self.builder.Range(edge, new.first, new.last)
        self._add(edge, old, lambda part: self._new(part, TopAbs_VERTEX, self.vertices))
        self.builder.SameRange(edge, True)
        self.builder.SameParameter(edge, True)
        self._widen_vertices(old, edge, new)
        return edge

    def _widen_vertices(self, old: TopoDS_Edge, edge: TopoDS_Edge, new: NewEdge) -> None:
        """Let the tolerance of each vertex reach the end of the edge's curve."""
        if new.curve is None:
            return
        ends = curve_points(new.curve)(np.array([[new.first], [new.last]]))
        iterator = TopoDS_Iterator(old.Oriented(TopAbs_FORWARD))
        while iterator.More():
            at = ends[0 if iterator.Value().Orientation() == TopAbs_FORWARD else 1]
            number = self.index[TopAbs_VERTEX].FindIndex(iterator.Value())
            away = float(np.linalg.norm(self.points[number - 1] - at))
            self.builder.UpdateVertex(self.vertices[number - 1], SLACK * away + BRep_Tool.Tolerance_s(edge))
            iterator.Next()

    def _face(self, old: TopoDS_Face, new: NewFace) -> TopoDS_Face:
        face = TopoDS_Face()
        self.builder.MakeFace(face, new.surface, BRep_Tool.Tolerance_s(old))
        self.builder.NaturalRestriction(face, BRep_Tool.NaturalRestriction_s(old))
        self._add(face, old, self._wire)
        return face

    def _wire(self, old: TopoDS_Shape) -> TopoDS_Shape:
        if old.ShapeType() != TopAbs_WIRE:  # a vertex inside a face
            return self._new(old, TopAbs_VERTEX, self.vertices)
        wire = TopoDS_Wire()
        self.builder.MakeWire(wire)
        self._add(wire, old, lambda part: self._new(part, TopAbs_EDGE, self.edges))
        wire.Closed(old.Closed())
        return wire

    def solid(self, old: TopoDS_Shape) -> TopoDS_Solid:
        """The solid of the new faces."""
        solid = TopoDS_Solid()
        self.builder.MakeSolid(solid)
        self._add(solid, old, self._shell)
        return TopoDS.Solid(solid.Oriented(old.Orientation()))

    def _shell(self, old: TopoDS_Shape) -> TopoDS_Shape:
        assert old.ShapeType() == TopAbs_SHELL
        shell = TopoDS_Shell()
        self.builder.MakeShell(shell)
        self._add(shell, old, lambda part: self._new(part, TopAbs_FACE, self.faces))
        shell.Closed(old.Closed())
        return shell

    def _add(self, new: TopoDS_Shape, old: TopoDS_Shape, made: Callable[[TopoDS_Shape], TopoDS_Shape]) -> None:
        """Add to ``new`` what is made of each part of ``old``, in the same orientation."""
        iterator = TopoDS_Iterator(old.Oriented(TopAbs_FORWARD))
        while iterator.More():
            part = iterator.Value()
            self.builder.Add(new, made(part).Oriented(part.Orientation()))
            iterator.Next()

    def _new(self, part: TopoDS_Shape, kind: object, made: Sequence[TopoDS_Shape]) -> TopoDS_Shape:
        return made[self.index[kind].FindIndex(part) - 1]


def _indexed(shape: TopoDS_Shape, kind: object) -> IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher:
    found = IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher()
    TopExp.MapShapes_s(shape, kind, found)
    return found


def _gaps(edges: Sequence[NewEdge], faces: Sequence[NewFace]) -> list[float]:
    """Largest distance of each edge's curve from its trimming curves, at samples."""
    share = np.linspace(0, 1, SAMPLES)
    on_curves = [
        None if edge.curve is None else curve_points(edge.curve)(edge.first + share[:, None] * (edge.last - edge.first))
        for edge in edges
    ]
    gaps = [0.0] * len(edges)
    for face in faces:
        evaluate = surface_points(face.surface) if face.fit is None else face.fit.at
        for number, trim in face.trims:
            points = on_curves[number - 1]
            for curve in (trim.forward, trim.reverse):
                if curve is None or points is None:
                    continue
                own = evaluate(plane_points(curve, trim.first + share * (trim.last - trim.first)))
                gaps[number - 1] = max(gaps[number - 1], float(np.linalg.norm(own - points, axis=1).max()))
    return gaps
