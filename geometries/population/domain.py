"""A random domain as a mesh: drawn, refused where it is too thin for its cells, meshed, normalized."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import shapely
import torch
from scipy.spatial import KDTree

from shapewright.geometries.cad.mesher import mesh_loops
from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.population.kinds import DRAW
from shapewright.geometries.population.loops import Loop

NODES = (220, 420)
"""Least and largest number of nodes of a mesh unless others are asked for."""
DRAWS = 400
"""Shapes that are drawn at most before a kind is given up."""
TRIES = 5
"""Cell sizes that are tried at most for a shape."""
THINNEST = 1.25
"""Least width of a domain, in cells."""
NARROWEST = 0.6
"""Least width of a gap, in cells."""
SMALLEST_HOLE = 1.0
"""Least width of a hole, in cells."""
LEAST_JACOBIAN = 0.15
"""Least over largest coefficient of the Jacobian of a cell; below, tight bends of the boundary are badly curved."""
FINER = 1.07
"""Size asked of gmsh over that of its cells in the mean, measured."""
LOST = 0.03
"""Share of the area that corners and tips narrower than that may have."""


@dataclass(frozen=True)
class _Outline:
    """Loops that bound a domain of area 1, and the cell size that makes a mesh of ``target`` nodes of it."""

    loops: tuple[Loop, ...]
    target: int
    mesh_size: float


def random_domain(kind: str, seed: int, nodes: tuple[int, int] = NODES) -> Mesh:
    """A random domain of area 1 and centroid 0, as a mesh of nearly uniform cells; the same one for the same arguments.

    Regions are ``edge_1, edge_2, ...`` along the outer boundary (each side or edge curve, or 2 to 5 random arcs of a
    smooth one) and ``hole_1, ...``, one for each hole.

    Args:
        kind: one of :data:`kinds.KINDS` or :data:`kinds.UNSEEN`.
        seed: not negative.
        nodes: least and largest number of nodes; the more, the thinner the shapes may be.

    Raises:
        ValueError: another kind, or numbers of nodes that are none.
        MeshError: no shape of this kind was found that so few nodes resolve.
    """
    if kind not in DRAW:
        raise ValueError(f"kind '{kind}'; allowed are {', '.join(DRAW)}")
    if not 0 < 1.2 * nodes[0] <= nodes[1]:
        raise ValueError(f"nodes {nodes}; allowed are a least and a largest number, the largest 1.2 times the least")
    generator = np.random.default_rng([seed, crc32(kind.encode())])
    for _ in range(DRAWS):
        outline = _drawn(kind, generator, nodes)
        mesh = outline and _meshed(outline, nodes)
        if mesh:
            return mesh
    raise MeshError(f"none of {DRAWS} random shapes of kind '{kind}' has a good mesh of {nodes[0]} to {nodes[1]} nodes")


def _drawn(kind: str, generator: np.random.Generator, nodes: tuple[int, int]) -> _Outline | None:
    """A random shape, turned and mirrored at random; None if it has no good mesh."""
    drawn = DRAW[kind](generator)
    angle, mirror = generator.uniform(0, 2 * math.pi), generator.choice([-1.0, 1.0])
    target = int(generator.integers(nodes[0] + (nodes[1] - nodes[0]) // 10, nodes[1] - (nodes[1] - nodes[0]) // 10))
    shape = _polygon(drawn)
    if not (shape.is_valid and shape.area > 0):
        return None
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn * np.array([1.0, mirror]) / math.sqrt(shape.area)
    loops = tuple(loop.moved(matrix, np.zeros(2)) for loop in drawn)
    # N nodes = 2 triangles + boundary facets, for equilateral cells: N h^2 = P h + 8 / sqrt(3) at area 1;
    # gmsh's cells are FINER than what it is asked for
    perimeter = shape.length / math.sqrt(shape.area)
    size = (perimeter + math.sqrt(perimeter**2 + 4 * target * 8 / math.sqrt(3))) / (2 * target)
    size *= FINER
    return _Outline(loops, target, size) if _resolved(_polygon(loops), size) else None


def _polygon(loops: list[Loop] | tuple[Loop, ...]) -> shapely.Polygon:
    outer, *holes = (loop.sampled(1, 16)[0] for loop in loops)
    return shapely.Polygon(outer, holes)


def _resolved(shape: shapely.Polygon, size: float) -> bool:
    """Whether cells of ``size`` resolve the domain: no needles or necks, no narrow gaps, no tiny holes."""
    width, gap, holes = THINNEST * size / 2, NARROWEST * size / 2, len(shape.interiors)
    inside = shape.buffer(-width)
    if inside.geom_type != "Polygon" or inside.is_empty or len(inside.interiors) != holes:
        return False
    if any(shapely.Polygon(hole).buffer(-SMALLEST_HOLE * size / 2).is_empty for hole in shape.interiors):
        return False
    filled = shape.buffer(gap)
    if len(filled.interiors) != holes or shape.area - inside.buffer(width).area > LOST * shape.area:
        return False
    return bool(filled.buffer(-gap).area - shape.area < LOST / 3 * shape.area)


def _meshed(outline: _Outline, nodes: tuple[int, int]) -> Mesh | None:
    """The mesh of an outline with its regions named; None if cells are badly curved or a region has no facet."""
    size = outline.mesh_size
    for _ in range(TRIES):
        try:
            mesh = mesh_loops([(loop.curves, loop.points) for loop in outline.loops], size)
        except MeshError:
            return None
        if nodes[0] <= len(mesh.nodes) <= nodes[1]:
            jacobians = bernstein_jacobians(mesh, torch.from_numpy(mesh.nodes))
            if (jacobians.amin(-1) < LEAST_JACOBIAN * jacobians.amax(-1)).any():
                return None
            return _with_regions(_normalized(mesh), mesh, outline.loops)
        size *= math.sqrt(len(mesh.nodes) / outline.target)
    return None


def _normalized(mesh: Mesh) -> Mesh:
    """The mesh moved and scaled so that the area of its curved cells is 1 and their centroid 0."""
    for _ in range(2):  # the second time for the rounding of the first
        cells = cell_points(mesh, torch.from_numpy(mesh.nodes))
        area = cells.weights.sum()
        centroid = (cells.weights[..., None] * cells.points).sum((0, 1)) / area
        mesh = mesh.moved((mesh.nodes - centroid.numpy()) / math.sqrt(area))
    return mesh


def _with_regions(mesh: Mesh, meshed: Mesh, loops: tuple[Loop, ...]) -> Mesh | None:
    """The facets tagged by the loop's region at their middles; None if a region has no facet."""
    outer, *holes = loops
    names = [f"edge_{k + 1}" for k in range(outer.regions)] + [f"hole_{k + 1}" for k in range(len(holes))]
    points, labels, first = [], [], 0
    for loop in loops:
        sampled, regions = loop.sampled(200, 40)
        points.append(sampled)
        labels.append(first + regions)
        first += loop.regions
    nearest = KDTree(np.concatenate(points)).query(meshed.nodes[meshed.facets[:, 2]])[1]
    tags = np.concatenate(labels)[nearest]
    if len(np.unique(tags)) < len(names):
        return None
    return replace(mesh, facet_tags=tags, tag_names=tuple(names))
