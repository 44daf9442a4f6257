"""Meshes of 10-node tetrahedra of mapped unit cubes, balls and shells, made without any mesher."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import TETRAHEDRON

Array = NDArray[np.float64]
SIDES = ("left", "right", "front", "back", "bottom", "top")
"""x = 0, x = 1, y = 0, y = 1, z = 0, z = 1."""


def identity(points: Array) -> Array:
    """The unit cube itself."""
    return points


def bulged(points: Array) -> Array:
    """The unit cube with curved sides and curved grid lines."""
    x, y, z = points.T
    return points + np.stack(
        [
            0.1 * np.sin(np.pi * y) * (x + 0.3) * (1 + z),
            0.08 * np.sin(2 * np.pi * x) * (0.4 + y),
            0.06 * np.sin(np.pi * x) * np.cos(y) * (0.5 + z),
        ],
        -1,
    )


def mapped_cube(n: int | tuple[int, int, int], mapping: Callable[[Array], Array] = identity) -> Mesh:
    """6 cells in each of n^3 boxes (Kuhn's division), whose nodes lie on the images of the grid points."""
    boxes = np.array((n, n, n) if isinstance(n, int) else n)
    axes = [np.linspace(0, 1, 2 * k + 1) for k in boxes]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    index = np.arange(grid[..., 0].size).reshape(grid.shape[:3])
    corners = np.stack(np.meshgrid(*(np.arange(0, 2 * k, 2) for k in boxes), indexing="ij"), -1).reshape(-1, 3)
    cells = []
    for order in permutations(range(3)):
        path = [np.zeros(3, dtype=int)]
        for axis in order:
            path.append(path[-1] + 2 * np.eye(3, dtype=int)[axis])
        if np.linalg.det(np.stack(path[1:])) < 0:
            path[1], path[2] = path[2], path[1]
        places = path + [(path[i] + path[j]) // 2 for i, j in TETRAHEDRON.edges]
        cells.append(np.stack([index[tuple((corners + place).T)] for place in places], -1))
    stacked = np.concatenate(cells)
    facets, tags = _boundary(stacked, grid.reshape(-1, 3))
    return Mesh(mapping(grid.reshape(-1, 3)), stacked, facets, tags, SIDES)


def _boundary(cells: NDArray[np.int64], points: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Facets (K, 6) on the sides of the cube, seen counter-clockwise from outside, and the numbers of their sides."""
    facets, tags = [], []
    for nodes in _sides(cells):
        at = points[nodes[:, :3]]
        for side in range(6):
            on = (np.abs(at[..., side // 2] - side % 2) < 1e-12).all(-1)
            facets.append(nodes[on])
            tags.append(np.full(on.sum(), side))
    return np.concatenate(facets), np.concatenate(tags).astype(np.int64)


def ball(levels: int, radius: float = 1.0) -> Mesh:
    """8^(levels + 1) cells of a ball about the origin, surface nodes exactly on it; one region, wall."""
    points = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    cells = np.array([[0, 1, 2, 3], [0, 2, 4, 3], [0, 4, 5, 3], [0, 5, 1, 3]])
    cells = np.concatenate([cells, np.where(cells == 3, 6, cells)[:, [0, 2, 1, 3]]])
    for _ in range(levels):
        points, quadratic = _quadratic(points, cells)
        cells = quadratic[:, TETRAHEDRON.subcells].reshape(-1, 4)
        flipped = np.linalg.det(points[cells[:, 1:]] - points[cells[:, :1]]) < 0
        cells[flipped] = cells[flipped][:, [1, 0, 2, 3]]
    points, cells = _quadratic(points, cells)
    outside = np.isclose(np.abs(points).sum(-1), 1.0)
    facets = np.concatenate([nodes[outside[nodes].all(-1)] for nodes in _sides(cells)])
    return Mesh(radius * _round(points), cells, facets, np.zeros(len(facets), dtype=np.int64), ("wall",))


def shell_octant(levels: int, layers: int, outer: float) -> Mesh:
    """The octant x, y, z > 0 between the unit sphere, cavity, and a sphere of radius ``outer``; sides x0, y0, z0."""
    corners, triangles = np.eye(3), np.array([[0, 1, 2]])
    for _ in range(levels):
        pairs = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], -1)
        distinct, place = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        a, b, c = triangles.T
        d, e, f = len(corners) + place.reshape(-1, 3).T
        corners = np.concatenate([corners, corners[distinct].mean(1)])
        triangles = np.concatenate([np.stack(t, -1) for t in ((a, d, f), (d, b, e), (f, e, c), (d, e, f))])
    radii = outer ** (np.arange(layers + 1) / layers)
    points = (radii[:, None, None] * corners).reshape(-1, 3)  # |p|_1 is the radius
    order = np.sort(triangles, -1)  # prisms are cut by the order of their vertices, so that neighbours agree
    low = np.concatenate([order + k * len(corners) for k in range(layers)])
    high = low + len(corners)
    cuts = ((low, [0, 1, 2], high, [2]), (low, [0, 1], high, [1, 2]), (low, [0], high, [0, 1, 2]))
    cells = np.concatenate([np.concatenate([below[:, i], above[:, j]], -1) for below, i, above, j in cuts])
    flipped = np.linalg.det(points[cells[:, 1:]] - points[cells[:, :1]]) < 0
    cells[flipped] = cells[flipped][:, [1, 0, 2, 3]]
    points, cells = _quadratic(points, cells)
    reach = points.sum(-1)
    regions = [np.isclose(reach, 1.0), np.isclose(reach, outer), *(np.isclose(x, 0.0) for x in points.T)]
    found = [np.concatenate([nodes[on[nodes].all(-1)] for nodes in _sides(cells)]) for on in regions]
    tags = np.repeat(np.arange(5), [len(facets) for facets in found])
    return Mesh(_round(points), cells, np.concatenate(found), tags, ("cavity", "outer", "x0", "y0", "z0"))


def _round(points: Array) -> Array:
    """Octahedra about the origin onto spheres."""
    length = np.linalg.norm(points, axis=-1, keepdims=True)
    return points * np.divide(np.abs(points).sum(-1, keepdims=True), length, out=np.ones_like(length), where=length > 0)


def _sides(cells: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Four times (M, 6) nodes of the cells' sides, seen counter-clockwise from outside."""
    edges = {tuple(sorted(edge)): 4 + k for k, edge in enumerate(TETRAHEDRON.edges)}
    faces = TETRAHEDRON.facets[::3]
    middles = [[edges[tuple(sorted((face[k], face[(k + 1) % 3])))] for k in range(3)] for face in faces]
    return [cells[:, [*face, *middle]] for face, middle in zip(faces, middles, strict=True)]


def _quadratic(points: Array, cells: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Nodes and 10-node cells of straight 4-node ones."""
    pairs = np.sort(cells[:, np.array(TETRAHEDRON.edges)], -1)  # (M, 6, 2)
    distinct, place = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    middles = points[distinct].mean(1)
    return np.concatenate([points, middles]), np.concatenate([cells, len(points) + place.reshape(-1, 6)], -1)
