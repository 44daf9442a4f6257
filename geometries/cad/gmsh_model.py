"""Steps on the open gmsh model: curves in, a tagged second-order mesh out."""

from __future__ import annotations

import gmsh
import numpy as np
import torch
from numpy.typing import NDArray
from shapely import LineString, Point

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.mesh.simplex import TRIANGLE

Array = NDArray[np.float64]


FAR = 1e-3
"""Distance of an edge from a curve, drawn with 40 chords a span, that is not a chord's height, in domain sizes."""


def add_loop(loop: tuple[Curve, ...], points: Array) -> list[int]:
    """Add the curves of a loop with control points (n, 2); returns their CAD edges in order."""
    occ, edges, start, first, last = gmsh.model.occ, [], 0, 0, 0
    for index, curve in enumerate(loop):
        own = points[start : start + curve.count]
        start += curve.count
        if curve.periodic:
            poles = [occ.addPoint(x, y, 0) for x, y in own]
            knots = list(range(curve.count + 1))
            edges.append(occ.addBSpline([*poles, poles[0]], degree=3, knots=knots, multiplicities=[1] * len(knots)))
            occ.remove([(0, pole) for pole in poles])
            continue
        begin = last if index else occ.addPoint(*own[0], 0)
        first = begin if index == 0 else first
        end = first if index == len(loop) - 1 else occ.addPoint(*own[-1], 0)
        if curve.degree == 1:
            edges.append(occ.addLine(begin, end))
        else:
            inner = [occ.addPoint(x, y, 0) for x, y in own[1:-1]]
            knots = list(range(curve.spans + 1))
            multiplicities = [4, *[1] * (curve.spans - 1), 4]
            edges.append(occ.addBSpline([begin, *inner, end], degree=3, knots=knots, multiplicities=multiplicities))
            occ.remove([(0, pole) for pole in inner])
        last = end
    return edges


def name_edges(family: Family, control_points: Array) -> dict[int, str]:
    """Boundary region of every CAD edge: that of the curve of the family which it follows.

    By position alone, so that neither the order of the edges nor their direction in a file matters.

    Raises:
        MeshError: an edge follows no curve, or a curve is followed by no edge.
    """
    extent = float(np.ptp(control_points, axis=0).max())
    curves, found, start = [], set(), 0
    for curve in family.curves:
        t = np.linspace(0, curve.spans, 1 + (1 if curve.degree == 1 else 40) * curve.spans)
        curves.append((LineString(curve.basis(t) @ control_points[start : start + curve.count]), curve.tag))
        start += curve.count
    edges = {}
    for _, edge in gmsh.model.getEntities(1):
        low, high = gmsh.model.getParametrizationBounds(1, edge)
        samples = low[0] + (high[0] - low[0]) * np.array([0.31, 0.5, 0.77])
        points = [Point(x, y) for x, y, _ in gmsh.model.getValue(1, edge, list(samples)).reshape(-1, 3)]
        distances = [max(line.distance(point) for point in points) for line, _ in curves]
        nearest = int(np.argmin(distances))
        if distances[nearest] > FAR * extent:
            raise MeshError(
                f"an edge lies {distances[nearest] / extent:.2g} of the domain's size away from every curve of"
                f" '{family.name}': this is not the outline of the design"
            )
        found.add(nearest)
        edges[edge] = curves[nearest][1]
    if len(found) < len(curves):
        lost = next(tag for index, (_, tag) in enumerate(curves) if index not in found)
        raise MeshError(f"no edge follows a curve '{lost}' of '{family.name}': this is not the outline of the design")
    return edges


def generate(family: Family, control_points: Array, mesh_size: float, factor: float = 1.0) -> Mesh:
    """Mesh the one face of the model, ``factor`` times as large as the design, with cells of ``mesh_size`` at the part.

    Raises:
        MeshError: other cells than 6-node triangles, or folded ones.
    """
    large = factor * control_points
    edge_tags = name_edges(family, large)
    part_tags = {curve.tag for curve in family.loops[family.part]}
    _set_sizes(family, [edge for edge, tag in edge_tags.items() if tag in part_tags], large, factor * mesh_size)
    return _curved_cells(edge_tags, family.tags, mesh_size, factor)


def generate_uniform(edge_tags: dict[int, str], mesh_size: float, factor: float) -> Mesh:
    """Mesh the one face of the model, ``factor`` times as large as the domain, with cells of ``mesh_size`` everywhere.

    Args:
        edge_tags: boundary region of every CAD edge.
        mesh_size: of the cells, in the unit of the domain.
        factor: size of the model over that of the domain.

    Raises:
        MeshError: other cells than 6-node triangles, or folded ones.
    """
    _forget_sizes()
    gmsh.option.setNumber("Mesh.MeshSizeMax", factor * mesh_size)
    return _curved_cells(edge_tags, tuple(dict.fromkeys(edge_tags.values())), mesh_size, factor)


def _curved_cells(edge_tags: dict[int, str], tags: tuple[str, ...], mesh_size: float, factor: float) -> Mesh:
    gmsh.option.setNumber("Mesh.ElementOrder", 2)
    gmsh.option.setNumber("Mesh.SecondOrderLinear", 0)
    gmsh.model.mesh.generate(2)
    mesh = _extract(edge_tags, tags)
    if _least_jacobian(mesh) <= 0:  # a sharp tip inside one edge of a cell; moving its nodes often cures it
        gmsh.model.mesh.optimize("HighOrder")
        mesh = _extract(edge_tags, tags)
        if _least_jacobian(mesh) <= 0:
            raise MeshError(
                f"cells of size {mesh_size:g} are too large for the sharpest bend of the boundary: a curved cell folds"
            )
    return mesh.moved(mesh.nodes / factor)


def _least_jacobian(mesh: Mesh) -> float:
    return float(bernstein_jacobians(mesh, torch.from_numpy(mesh.nodes)).min())


def _forget_sizes() -> None:
    """Cell sizes from nothing but a field or the largest size that is allowed."""
    for option in ("MeshSizeExtendFromBoundary", "MeshSizeFromPoints", "MeshSizeFromCurvature"):
        gmsh.option.setNumber(f"Mesh.{option}", 0)


def _set_sizes(family: Family, near: list[int], control_points: Array, mesh_size: float) -> None:
    """Cell size ``mesh_size`` at the edges ``near``, growing linearly with the distance to ``grading`` times that.

    It is reached at 0.4 of the domain's smaller extent.
    """
    _forget_sizes()
    extent = control_points.max(0) - control_points.min(0)
    field = gmsh.model.mesh.field
    distance, threshold = field.add("Distance"), field.add("Threshold")
    field.setNumbers(distance, "CurvesList", near)
    field.setNumber(distance, "Sampling", 200)
    for key, value in {
        "InField": distance,
        "SizeMin": mesh_size,
        "SizeMax": mesh_size * family.grading,
        "DistMin": 0.0,
        "DistMax": 0.4 * float(extent.min()),
    }.items():
        field.setNumber(threshold, key, value)
    field.setAsBackgroundMesh(threshold)


def _extract(edge_tags: dict[int, str], tags: tuple[str, ...]) -> Mesh:
    node_tags, coordinates, _ = gmsh.model.mesh.getNodes()
    types, _, connectivity = gmsh.model.mesh.getElements(2)
    if list(types) != [9]:
        raise MeshError(f"gmsh made cells of types {list(types)}; expected 6-node triangles (type 9) only")
    used, cells = np.unique(connectivity[0].astype(np.int64), return_inverse=True)
    order = np.argsort(node_tags)
    nodes = coordinates.reshape(-1, 3)[order[np.searchsorted(node_tags[order], used)], :2]
    facets, facet_tags = [], []
    for edge, tag in edge_tags.items():
        kinds, _, lines = gmsh.model.mesh.getElements(1, edge)
        if list(kinds) != [8]:
            raise MeshError(f"boundary '{tag}' has line types {list(kinds)}; expected 3-node lines (type 8) only")
        facets.append(np.searchsorted(used, lines[0].reshape(-1, 3).astype(np.int64)))
        facet_tags.append(np.full(len(facets[-1]), tags.index(tag), dtype=np.int64))
    return _oriented(nodes, cells.reshape(-1, 6), np.concatenate(facets), np.concatenate(facet_tags), tags)


def _oriented(
    nodes: Array,
    cells: NDArray[np.int64],
    facets: NDArray[np.int64],
    facet_tags: NDArray[np.int64],
    tags: tuple[str, ...],
) -> Mesh:
    """Turn cells counter-clockwise and facets so that the domain is on their left."""
    a, b, c = (nodes[cells[:, k]] for k in range(3))
    signed = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    cells = np.where(signed[:, None] > 0, cells, cells[:, [0, 2, 1, 5, 4, 3]])
    along = {(cell[i], cell[j]) for cell in cells.tolist() for i, j in TRIANGLE.facets}
    forward = np.array([(first, second) in along for first, second in facets[:, :2].tolist()])
    facets = np.where(forward[:, None], facets, facets[:, [1, 0, 2]])
    if not all((first, second) in along for first, second in facets[:, :2].tolist()):
        raise MeshError("a boundary edge of the mesh belongs to no cell")
    return Mesh(nodes, cells, facets, facet_tags, tags)
