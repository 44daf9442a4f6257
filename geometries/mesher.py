"""Meshes by gmsh: of a family's default shape, and of a CAD file read back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gmsh
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geometries.family import Family
from geometries.mesh import TaggedMesh
from geometries.spline import Curve

UNIT_NAMES = {"m": "M", "cm": "CM", "mm": "MM"}  # of the study, of OpenCASCADE


class MeshError(RuntimeError):
    """gmsh could not mesh the shape, or the mesh is not what was asked for."""


@contextmanager
def _session() -> Iterator[None]:
    """A quiet gmsh model that is always closed; gmsh's own signal handler would swallow Ctrl-C."""
    gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("Mesh.Algorithm", 6)
        gmsh.model.add("shapewright")
        yield
    except MeshError:
        raise
    except Exception as error:  # gmsh raises bare Exception
        raise MeshError(f"gmsh: {error}") from error
    finally:
        gmsh.finalize()


def mesh_family(family: Family, control_points: NDArray[np.float64], mesh_size: float) -> TaggedMesh:
    """Mesh the domain whose curves have these control points (n, 2), ``mesh_size`` at the designed part.

    Raises:
        MeshError: with gmsh's own message.
    """
    with _session():
        loops, start = [], 0
        for loop in family.loops:
            points = control_points[start : start + sum(curve.count for curve in loop)]
            loops.append(gmsh.model.occ.addCurveLoop(_add_loop(loop, points)))
            start += len(points)
        gmsh.model.occ.addPlaneSurface(loops)
        gmsh.model.occ.synchronize()
        return _mesh(family, control_points, mesh_size)


def mesh_step(path: Path, family: Family, control_points: NDArray[np.float64], mesh_size: float, unit: str, save: Path | None = None) -> TaggedMesh:
    """Mesh the domain around (or inside) the part in a STEP file, afresh.

    The plane face at z = 0 of the file is the part; where the part is a hole of the domain it is cut out of the
    family's outer loop. ``control_points`` (n, 2) only give the fixed loops and the names of the regions. With ``save`` (``*.msh``) the mesh is also written there,
    its regions as physical groups.

    Raises:
        MeshError: the file cannot be read, has no plane face at z = 0, or gmsh fails.
    """
    with _session():
        gmsh.option.setString("Geometry.OCCTargetUnit", UNIT_NAMES[unit])
        gmsh.model.occ.importShapes(str(path), highestDimOnly=False)
        gmsh.model.occ.synchronize()
        faces = [tag for _, tag in gmsh.model.getEntities(2) if _is_at_bottom(tag)]
        if len(faces) != 1:
            raise MeshError(f"{path}: found {len(faces)} plane faces at z = 0; one is the section of the part")
        section = gmsh.model.occ.copy([(2, faces[0])])
        gmsh.model.occ.remove([entity for entity in gmsh.model.occ.getEntities(3)], recursive=True)
        gmsh.model.occ.remove(
            [entity for entity in gmsh.model.occ.getEntities(2) if entity not in section], recursive=True
        )
        if family.part > 0:
            others = []
            for index, loop in enumerate(family.loops):
                if index != family.part:
                    edges = _add_loop(loop, control_points[family.loop_slices[index]])
                    others.append(gmsh.model.occ.addCurveLoop(edges))
            domain = gmsh.model.occ.addPlaneSurface(others)
            gmsh.model.occ.cut([(2, domain)], section)
        gmsh.model.occ.synchronize()
        mesh = _mesh(family, control_points, mesh_size)
        if save is not None:
            _save(save, family, control_points)
        return mesh


def _save(path: Path, family: Family, control_points: NDArray[np.float64]) -> None:
    edge_tags = _name_edges(family, control_points)
    for name in family.tags:
        gmsh.model.addPhysicalGroup(1, [edge for edge, tag in edge_tags.items() if tag == name], name=name)
    gmsh.model.addPhysicalGroup(2, [face for _, face in gmsh.model.getEntities(2)], name="domain")
    part = path.with_name("part-" + path.name)  # gmsh chooses the format by the ending
    gmsh.write(str(part))
    part.replace(path)


def _is_at_bottom(face: int) -> bool:
    box = gmsh.model.getBoundingBox(2, face)
    size = max(box[3] - box[0], box[4] - box[1])
    return max(abs(box[2]), abs(box[5])) < 1e-5 * size


def _add_loop(loop: tuple[Curve, ...], points: NDArray[np.float64]) -> list[int]:
    occ, edges, start, first, last = gmsh.model.occ, [], 0, 0, 0
    for index, curve in enumerate(loop):
        own = points[start : start + curve.count]
        start += curve.count
        if curve.periodic:
            poles = [occ.addPoint(x, y, 0) for x, y in own]
            n = curve.count
            edges.append(occ.addBSpline([*poles, poles[0]], degree=3, knots=list(range(n + 1)), multiplicities=[1] * (n + 1)))
            occ.remove([(0, pole) for pole in poles])
            continue
        begin = last if index else occ.addPoint(*own[0], 0)
        first = begin if index == 0 else first
        end = first if index == len(loop) - 1 else occ.addPoint(*own[-1], 0)
        if curve.degree == 1:
            edges.append(occ.addLine(begin, end))
        else:
            inner = [occ.addPoint(x, y, 0) for x, y in own[1:-1]]
            multiplicities = [4, *[1] * (curve.spans - 1), 4]
            edges.append(
                occ.addBSpline([begin, *inner, end], degree=3, knots=list(range(curve.spans + 1)), multiplicities=multiplicities)
            )
            occ.remove([(0, pole) for pole in inner])
        last = end
    return edges


def _mesh(family: Family, control_points: NDArray[np.float64], mesh_size: float) -> TaggedMesh:
    edge_tags = _name_edges(family, control_points)
    part_tags = {curve.tag for curve in family.loops[family.part]}
    near = [edge for edge, tag in edge_tags.items() if tag in part_tags]
    _set_sizes(family, near, control_points, mesh_size)
    gmsh.option.setNumber("Mesh.ElementOrder", 2)
    gmsh.option.setNumber("Mesh.SecondOrderLinear", 0)
    gmsh.model.mesh.generate(2)
    node_tags, coordinates, _ = gmsh.model.mesh.getNodes()
    types, _, connectivity = gmsh.model.mesh.getElements(2)
    if list(types) != [9]:
        raise MeshError(f"gmsh made cells of types {list(types)}; expected 6-node triangles (type 9) only")
    cells = connectivity[0].reshape(-1, 6).astype(np.int64)
    used, cells = np.unique(cells, return_inverse=True)
    cells = cells.reshape(-1, 6)
    order = np.argsort(node_tags)
    nodes = coordinates.reshape(-1, 3)[order[np.searchsorted(node_tags[order], used)], :2]
    facets, facet_tags = [], []
    for edge, tag in edge_tags.items():
        kinds, _, lines = gmsh.model.mesh.getElements(1, edge)
        if list(kinds) != [8]:
            raise MeshError(f"boundary '{tag}' has line types {list(kinds)}; expected 3-node lines (type 8) only")
        facets.append(np.searchsorted(used, lines[0].reshape(-1, 3).astype(np.int64)))
        facet_tags.append(np.full(len(facets[-1]), family.tags.index(tag)))
    return _oriented(nodes, cells, np.concatenate(facets), np.concatenate(facet_tags), family.tags)


def _set_sizes(family: Family, near: list[int], control_points: NDArray[np.float64], mesh_size: float) -> None:
    """Cell size grows linearly from ``mesh_size`` at the part to ``grading`` times that at the other loops' distance."""
    for option in ("MeshSizeExtendFromBoundary", "MeshSizeFromPoints", "MeshSizeFromCurvature"):
        gmsh.option.setNumber(f"Mesh.{option}", 0)
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


def _name_edges(family: Family, control_points: NDArray[np.float64]) -> dict[int, str]:
    """Boundary region of every CAD edge: that of the nearest curve of the family."""
    samples, names = [], []
    for loop, span in zip(family.loops, family.loop_slices, strict=True):
        start = span.start
        for curve in loop:
            t = np.linspace(0, curve.spans, 40 * curve.spans + 1)
            samples.append(curve.basis(t) @ control_points[start : start + curve.count])
            names += [curve.tag] * len(t)
            start += curve.count
    tree = KDTree(np.concatenate(samples))
    edges = {}
    for _, edge in gmsh.model.getEntities(1):
        low, high = gmsh.model.getParametrizationBounds(1, edge)
        middle = low[0] + (high[0] - low[0]) * np.array([0.31, 0.5, 0.77])
        points = np.asarray(gmsh.model.getValue(1, edge, list(middle))).reshape(-1, 3)[:, :2]
        votes = [names[index] for index in tree.query(points)[1]]
        edges[edge] = max(set(votes), key=votes.count)
    return edges


def _oriented(
    nodes: NDArray[np.float64], cells: NDArray[np.int64], facets: NDArray[np.int64], facet_tags: NDArray[np.int64], tags: tuple[str, ...]
) -> TaggedMesh:
    """Turn cells counter-clockwise and facets so that the domain is on their left."""
    a, b, c = (nodes[cells[:, k]] for k in range(3))
    signed = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    cells = np.where(signed[:, None] > 0, cells, cells[:, [0, 2, 1, 5, 4, 3]])
    along = {(cell[i], cell[j]) for cell in cells for i, j in ((0, 1), (1, 2), (2, 0))}
    forward = np.array([(first, second) in along for first, second in facets[:, :2]])
    facets = np.where(forward[:, None], facets, facets[:, [1, 0, 2]])
    if not all((first, second) in along for first, second in facets[:, :2]):
        raise MeshError("a boundary edge of the mesh belongs to no cell")
    return TaggedMesh(nodes, cells, facets, facet_tags.astype(np.int64), tags)
