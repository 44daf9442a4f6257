"""Deformation of a solid's B-rep by a map of space: the same topology and trimming curves on new curves and surfaces.

A vertex goes to F(P). An edge becomes a B-spline of degree 5 through F(C(t)) on the same parameter range, a face one
through F(S(u, v)) over the same box of parameters, so that its trimming curves stay valid as they are. What F leaves
where it is keeps its curve and surface: a bore stays an analytic cylinder.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from OCP.BRep import BRep_Tool
from OCP.BRepCheck import BRepCheck_Analyzer
from OCP.Geom import Geom_Curve, Geom_Surface
from OCP.Geom2d import Geom2d_Curve
from OCP.OCP.collections import IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher
from OCP.TopAbs import TopAbs_EDGE, TopAbs_FORWARD, TopAbs_REVERSED
from OCP.TopExp import TopExp
from OCP.TopLoc import TopLoc_Location
from OCP.TopoDS import TopoDS, TopoDS_Edge, TopoDS_Face, TopoDS_Vertex

from shapewright.geometries.cad.faces import box_of, describe, edges_of, faces_of, uv_box, vertices_of
from shapewright.geometries.cad.originals import (
    Box,
    b_spline_curve,
    b_spline_surface,
    curve_axis,
    curve_points,
    fit_box,
    plane_points,
    surface_axes,
    surface_points,
)
from shapewright.geometries.cad.rebuild import NewEdge, NewFace, Trim, rebuild
from shapewright.geometries.cad.spline_fit import Fit, FitError, Map, fit_all
from shapewright.geometries.cad.step import CadError, CadShape
from shapewright.geometries.mesh.simplex import Array

TOLERANCE = 1e-5
"""Default error of curves and surfaces, over the size of the part."""
SHARE = 0.3
"""Of the tolerance that a fit may use up: deviations of edges from two faces add up."""
TRIM_SAMPLES = 33
"""Points of a trimming curve at which its face is compared with the map."""
GRID = 24
"""Points along each parameter of a face at which it is found to stay."""


@dataclass(frozen=True)
class Deformed:
    """A deformed solid; lengths are in the study's unit.

    Attributes:
        cad: the solid.
        kept: numbers of the faces whose surface is the original one.
        poles: of all new surfaces.
        deviation: largest distance found of a new curve or surface from the image of the original.
        gap: largest distance found of an edge from a trimming curve; the edges' tolerances hold it.
    """

    cad: CadShape
    kept: tuple[int, ...]
    poles: int
    deviation: float
    gap: float


@dataclass
class _FaceWork:
    shape: TopoDS_Face
    number: int
    surface: Geom_Surface
    location: TopLoc_Location
    box: Box
    trims: list[tuple[int, Trim]]
    samples: Array


@dataclass
class _EdgeWork:
    shape: TopoDS_Edge
    curve: Geom_Curve | None
    first: float
    last: float


def deform(cad: CadShape, move: Map, kept: Collection[int] = (), tolerance: float = TOLERANCE) -> Deformed:
    """Deform a solid.

    Args:
        cad: a shape with one solid.
        move: images (n, 3) of points (n, 3), in the study's length unit.
        kept: numbers of faces that must stay.
        tolerance: largest error of a curve or surface, over the size of the part.

    Raises:
        CadError: an edge without a curve, a face that must stay but moves, a fit with too many spans, or an invalid
            result.
    """
    low, high = box_of(cad.shape)
    allowed = tolerance * float(np.linalg.norm(high - low))

    def scaled(points: Array) -> Array:
        return move(points / cad.factor) * cad.factor

    edges = [_edge_work(edge) for edge in edges_of(cad.shape)]
    faces = [_face_work(face, number, cad) for number, face in enumerate(faces_of(cad.shape), start=1)]
    try:
        new_edges = _new_edges(edges, scaled, SHARE * allowed)
        new_faces = _new_faces(faces, new_edges, kept, scaled, SHARE * allowed)
    except FitError as error:
        raise CadError(str(error)) from error
    vertices = vertices_of(cad.shape)
    images = scaled(np.array([_coordinates(vertex) for vertex in vertices]))
    shape, gap = rebuild(cad.shape, images, new_edges, new_faces)
    if not BRepCheck_Analyzer(shape).IsValid():
        raise CadError("OpenCASCADE finds the deformed solid invalid (a smaller deformation or wider zones may help)")
    fits = [fit for fit in ([new.fit for new in new_edges] + [new.fit for new in new_faces]) if fit is not None]
    return Deformed(
        CadShape(shape, cad.factor),
        tuple(work.number for work, new in zip(faces, new_faces, strict=True) if new.fit is None),
        sum(int(np.prod(new.fit.poles.shape[:2])) for new in new_faces if new.fit is not None),
        max((fit.error for fit in fits), default=0.0) / cad.factor,
        gap / cad.factor,
    )


def _coordinates(vertex: TopoDS_Vertex) -> tuple[float, float, float]:
    point = BRep_Tool.Pnt_s(vertex)
    return point.X(), point.Y(), point.Z()


def _edge_work(edge: TopoDS_Edge) -> _EdgeWork:
    curve = None if BRep_Tool.Degenerated_s(edge) else BRep_Tool.Curve_s(edge, 0.0, 1.0)
    if curve is None and not BRep_Tool.Degenerated_s(edge):
        raise CadError("an edge of the part has no curve in space; repair the part in a CAD program")
    first, last = BRep_Tool.Range_s(edge)
    return _EdgeWork(edge, curve, first, last)


def _face_work(face: TopoDS_Face, number: int, cad: CadShape) -> _FaceWork:
    location = TopLoc_Location()
    own = BRep_Tool.Surface_s(face, location)
    surface = BRep_Tool.Surface_s(face)
    index = IndexedMap_TopoDS_Shape_TopTools_ShapeMapHasher()
    TopExp.MapShapes_s(cad.shape, TopAbs_EDGE, index)
    trims, samples = [], []
    for edge in edges_of(face):
        first, last = BRep_Tool.Range_s(edge, own, location)
        forward = _trim(edge.Oriented(TopAbs_FORWARD), own, location)
        closing = BRep_Tool.IsClosed_s(edge, own, location)
        reverse = _trim(edge.Oriented(TopAbs_REVERSED), own, location) if closing else None
        trims.append((index.FindIndex(edge), Trim(forward, reverse, first, last)))
        at = np.linspace(first, last, TRIM_SAMPLES)
        samples += [plane_points(curve, at) for curve in (forward, reverse) if curve is not None]
    box = fit_box(surface, uv_box(face))
    return _FaceWork(face, number, surface, location, box, trims, np.concatenate(samples))


def _trim(edge: object, surface: Geom_Surface, location: TopLoc_Location) -> Geom2d_Curve:
    curve = BRep_Tool.CurveOnSurface_s(TopoDS.Edge(edge), surface, location, 0.0, 1.0)
    if curve is None:
        raise CadError("an edge of the part has no trimming curve on its face; repair the part in a CAD program")
    return curve


def _new_edges(edges: list[_EdgeWork], move: Map, tolerance: float) -> list[NewEdge]:
    """What becomes of each edge: no fit where it stays, or is the degenerate side of a face."""
    evaluate = [None if edge.curve is None else curve_points(edge.curve) for edge in edges]
    at = [np.linspace(edge.first, edge.last, TRIM_SAMPLES)[:, None] for edge in edges]
    points = [np.zeros((0, 3)) if f is None else f(t) for f, t in zip(evaluate, at, strict=True)]
    stay = _unmoved(points, move)
    fits: list[Fit | None] = []
    for number, (edge, function, stays) in enumerate(zip(edges, evaluate, stay, strict=True), start=1):
        if edge.curve is None or function is None or stays:
            fits.append(None)
            continue
        axis = curve_axis(edge.curve, edge.first, edge.last)
        fits.append(Fit(f"edge {number}", (axis,), function, tolerance, np.zeros((0, 1))))
    fit_all([fit for fit in fits if fit is not None], move)
    return [
        NewEdge(edge.curve if fit is None else b_spline_curve(fit.axes[0], fit.poles), edge.first, edge.last, fit)
        for edge, fit in zip(edges, fits, strict=True)
    ]


def _new_faces(
    faces: list[_FaceWork], edges: list[NewEdge], kept: Collection[int], move: Map, tolerance: float
) -> list[NewFace]:
    evaluate = [surface_points(face.surface) for face in faces]
    on_trims = [f(face.samples) for f, face in zip(evaluate, faces, strict=True)]
    over_box = [f(_grid(face.box)) for f, face in zip(evaluate, faces, strict=True)]
    stays, rests = _unmoved(on_trims, move), _unmoved(over_box, move)
    fits: list[Fit | None] = []
    for face, function, trim_stays, box_stays in zip(faces, evaluate, stays, rests, strict=True):
        edges_stay = all(edges[index - 1].fit is None for index, _ in face.trims)
        if face.number in kept and not (trim_stays and edges_stay):
            raise CadError(f"face {face.number} must stay, but the map moves its edges; it needs a keep zone around it")
        if trim_stays and edges_stay and (box_stays or face.number in kept):
            fits.append(None)
            continue
        kind = describe(face.shape, face.number, 1.0).kind
        axes = surface_axes(face.surface, face.box)
        fits.append(Fit(f"face {face.number} ({kind})", axes, _closing(function, face), tolerance, face.samples))
    fit_all([fit for fit in fits if fit is not None], move)
    return [
        NewFace(
            face.surface if fit is None else b_spline_surface((fit.axes[0], fit.axes[1]), fit.poles),
            tuple(face.trims),
            fit,
        )
        for face, fit in zip(faces, fits, strict=True)
    ]


def _closing(function: Map, face: _FaceWork) -> Map:
    """``function``, with the same point to the last digit at both ends of a period, and all along a pole."""
    u_first, u_last, v_first, v_last = face.box
    around_u = face.surface.IsUPeriodic() and u_last - u_first == face.surface.UPeriod()
    around_v = face.surface.IsVPeriodic() and v_last - v_first == face.surface.VPeriod()
    middle = (u_first + u_last) / 2, (v_first + v_last) / 2
    extent = np.ptp(function(_grid(face.box)), axis=0).max()
    poles: list[tuple[int, float]] = []
    for axis, end in ((1, v_first), (1, v_last), (0, u_first), (0, u_last)):
        line = np.full((GRID, 2), end)
        line[:, 1 - axis] = np.linspace(face.box[2 - 2 * axis], face.box[3 - 2 * axis], GRID)
        if np.ptp(function(line), axis=0).max() < 1e-9 * extent:
            poles.append((axis, end))

    def closed(parameters: Array) -> Array:
        at = parameters.copy()
        if around_u:
            at[at[:, 0] == u_last, 0] = u_first
        if around_v:
            at[at[:, 1] == v_last, 1] = v_first
        for axis, end in poles:
            at[at[:, axis] == end, 1 - axis] = middle[1 - axis]
        return function(at)

    return closed


def _grid(box: Box) -> Array:
    """(n, 2) parameters all over a box."""
    u, v = np.linspace(box[0], box[1], GRID), np.linspace(box[2], box[3], GRID)
    return np.stack(np.meshgrid(u, v, indexing="ij"), -1).reshape(-1, 2)


def _unmoved(points: list[Array], move: Map) -> list[bool]:
    """Of each set of points, whether the map leaves all where they are, to rounding of their scaling."""
    every = np.concatenate(points)
    still = np.abs(move(every) - every).max(1) <= 4 * np.finfo(float).eps * np.abs(every).max()
    return [bool(part.all()) for part in np.split(still, np.cumsum([len(part) for part in points])[:-1])]
