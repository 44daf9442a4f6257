"""Meshes of solids by gmsh: second-order tetrahedra whose facets know the face they lie on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from OCP.BRepGProp import BRepGProp
from OCP.BRepTools import BRepTools
from OCP.GProp import GProp_GProps

from shapewright.geometries.cad.faces import area_and_centroid, box_of, faces_of
from shapewright.geometries.cad.step import CadShape
from shapewright.geometries.family.effort import forced
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.mesh.simplex import GMSH_TETRAHEDRON, Array

REST = "rest"
"""Boundary region of the faces that no other region names."""
WORKER = Path(__file__).with_name("gmsh_worker.py")
LONGEST = 1800.0
"""Seconds after which gmsh is stopped."""
MOST_NODES = 300_000
"""Nodes of a mesh at most, which ``--force`` lifts: about a million unknowns of elasticity."""
NODES_PER_CUBE = 12.0
"""Nodes in a cube with edges of the size of the cells; 17 were counted on a bracket of 11 such cubes across."""
TETRAHEDRON_10 = 11
"""gmsh's number of a curved cell."""
TRIANGLE_6 = 9
"""gmsh's number of a curved facet."""
SAME_FACE = 1e-3
"""Largest difference of a face in gmsh and in the shape: area over area, centroid over the size of the part."""


@dataclass(frozen=True)
class MeshOptions:
    """How fine a mesh is.

    Attributes:
        size: largest edge of a cell, in the study's length unit.
        curvature: cells around a full turn of a curved face; 0 for no refinement there.
        smallest: least edge that curvature asks for, in shares of ``size``.
    """

    size: float
    curvature: int = 8
    smallest: float = 0.25


@dataclass(frozen=True)
class SolidMesh:
    """A mesh of a solid.

    Attributes:
        mesh: in the study's length unit.
        facet_faces: (K,) int64 number, from 1, of the face that each facet lies on.
    """

    mesh: Mesh
    facet_faces: NDArray[np.int64]


def mesh_solid(cad: CadShape, regions: Mapping[str, Sequence[int]], options: MeshOptions) -> SolidMesh:
    """Mesh a solid.

    Args:
        cad: a shape with one solid.
        regions: numbers of the faces of each boundary region; the others form the region ``rest``.
        options: how fine.

    Raises:
        MeshError: gmsh's own message; a face in two regions; cells that fold; more of them than is sensible.
    """
    nodes = estimated_nodes(cad, options)
    if nodes > MOST_NODES and not forced():
        raise MeshError(
            f"cells of size {options.size:g} make {nodes:.2g} nodes or more; the limit is {MOST_NODES}: make them"
            " larger, or give --force to go on"
        )
    faces = faces_of(cad.shape)
    names = _names(len(faces), regions)
    described = [area_and_centroid(face) for face in faces]
    low, high = box_of(cad.shape)
    size = float(np.linalg.norm(high - low))
    found = _assemble(_by_gmsh(cad, options, False), described, names, size)
    if _least_jacobian(found.mesh) <= 0:  # moving the nodes of the curved cells often cures it
        found = _assemble(_by_gmsh(cad, options, True), described, names, size)
        least = _least_jacobian(found.mesh)
        if not least > 0:
            raise MeshError(f"{_too_large(options)} (its least Jacobian is {least:.2g} of its largest)")
    return SolidMesh(found.mesh.moved(found.mesh.nodes / cad.factor), found.facet_faces)


def estimated_nodes(cad: CadShape, options: MeshOptions) -> float:
    """Nodes of a mesh at least: those inside, without a refinement at curved faces."""
    properties = GProp_GProps()
    BRepGProp.VolumeProperties_s(cad.shape, properties)
    return NODES_PER_CUBE * abs(properties.Mass()) / (cad.factor * options.size) ** 3


def _too_large(options: MeshOptions) -> str:
    return f"cells of size {options.size:g} are too large for the part: a curved cell folds; choose a smaller mesh_size"


def _by_gmsh(cad: CadShape, options: MeshOptions, optimize: bool) -> dict[str, NDArray[Any]]:
    """Arrays of :mod:`gmsh_worker`, which runs in a process of its own."""
    with TemporaryDirectory() as folder:
        part, wanted, out = (Path(folder) / name for name in ("part.brep", "options.json", "mesh.npz"))
        if not BRepTools.Write_s(cad.shape, str(part)):
            raise MeshError("OpenCASCADE could not write the part for gmsh (disk full?)")
        wanted.write_text(json.dumps({"optimize": optimize, **_gmsh_options(options, cad.factor)}))
        command = [sys.executable, str(WORKER), str(part), str(wanted), str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)
        except subprocess.TimeoutExpired as error:
            raise MeshError(f"gmsh did not mesh the part within {LONGEST:.0f} s; choose a larger mesh_size") from error
        if done.returncode == 0:
            with np.load(out) as arrays:
                return dict(arrays)
        if optimize:  # gmsh ends its process when it does not succeed
            raise MeshError(_too_large(options))
        said = done.stderr.strip().rpartition("\n")[2] or f"gmsh ended with code {done.returncode}"
        raise MeshError(f"{said}; the part cannot be meshed with cells of size {options.size:g}")


def _names(count: int, regions: Mapping[str, Sequence[int]]) -> list[str]:
    """Region of each of ``count`` faces."""
    names = [REST] * count
    for region, numbers in regions.items():
        if region == REST:
            raise MeshError(f"region '{REST}' is the name of the faces that no other region has; choose another name")
        for number in numbers:
            if number not in range(1, count + 1):
                raise MeshError(f"region '{region}': face {number}; the part has faces 1 to {count}")
            if names[number - 1] != REST:
                raise MeshError(f"face {number} is in the regions '{names[number - 1]}' and '{region}'; allowed is one")
            names[number - 1] = region
    return names


def _gmsh_options(options: MeshOptions, factor: float) -> dict[str, float]:
    return {
        "Mesh.MeshSizeMax": factor * options.size,
        "Mesh.MeshSizeMin": factor * options.size * options.smallest,
        "Mesh.MeshSizeFromCurvature": options.curvature,
        "Mesh.MeshSizeFromPoints": 0,
        "Mesh.ElementOrder": 2,
        "Mesh.SecondOrderLinear": 0,
        "Geometry.OCCUseGenericClosestPoint": 1,  # raises the order ten times faster on B-spline faces
    }


def _match(arrays: Mapping[str, NDArray[Any]], described: list[tuple[float, Array]], size: float) -> NDArray[np.int64]:
    """Number of the face, from 1, of each of gmsh's surfaces: that with the same area and centroid."""
    areas = np.array([area for area, _ in described])
    centroids = np.array([centroid for _, centroid in described])
    found: list[int] = []
    for area, centroid in zip(arrays["areas"], arrays["centroids"], strict=True):
        gap = np.linalg.norm(centroids - centroid, axis=1) / size + np.abs(areas / area - 1)
        gap[[number - 1 for number in found]] = np.inf
        nearest = int(gap.argmin())
        if not gap[nearest] < SAME_FACE:
            raise MeshError(f"a surface that gmsh read, of area {area:.6g}, is none of the faces of the part")
        found.append(nearest + 1)
    return np.array(found, dtype=np.int64)


def _assemble(
    arrays: Mapping[str, NDArray[Any]], described: list[tuple[float, Array]], names: list[str], size: float
) -> SolidMesh:
    if arrays["types"].tolist() != [TETRAHEDRON_10] or arrays["facet_types"].tolist() != [TRIANGLE_6]:
        raise MeshError(
            f"gmsh made cells of types {arrays['types'].tolist()} and facets of types"
            f" {arrays['facet_types'].tolist()}; expected 10-node tetrahedra (11) and 6-node triangles (9) only"
        )
    used, cells = np.unique(arrays["cells"].astype(np.int64), return_inverse=True)
    order = np.argsort(arrays["node_tags"])
    nodes = arrays["nodes"][order[np.searchsorted(arrays["node_tags"][order], used)]]
    facets = np.searchsorted(used, arrays["facets"].reshape(-1, 6).astype(np.int64))
    facet_faces = _match(arrays, described, size)[arrays["owners"].reshape(-1, 6)[:, 0]]
    tags = tuple(dict.fromkeys(names))
    facet_tags = np.array([tags.index(name) for name in names], dtype=np.int64)[facet_faces - 1]
    cells = cells.reshape(-1, 10)[:, GMSH_TETRAHEDRON]
    return SolidMesh(Mesh(nodes, cells, _outwards(nodes, cells, facets), facet_tags, tags), facet_faces)


def _outwards(nodes: Array, cells: NDArray[np.int64], facets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Facets (K, 6) turned so that their vertices run counter-clockwise seen from outside the cell behind them."""
    sides = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    keys = np.sort(cells[:, sides], -1).reshape(-1, 3)
    apex = cells[:, :4].reshape(-1)
    order = np.lexsort(keys.T[::-1])
    wanted = np.sort(facets[:, :3], -1)
    as_one = [("a", keys.dtype), ("b", keys.dtype), ("c", keys.dtype)]
    table = np.ascontiguousarray(keys[order]).view(as_one).ravel()
    position = np.searchsorted(table, np.ascontiguousarray(wanted).view(as_one).ravel()).clip(max=len(table) - 1)
    row = order[position]
    if not (keys[row] == wanted).all():
        raise MeshError("a boundary facet of the mesh belongs to no cell")
    a, b, c = (nodes[facets[:, k]] for k in range(3))
    outside = (np.cross(b - a, c - a) * (a - nodes[apex[row]])).sum(-1) > 0
    return np.where(outside[:, None], facets, facets[:, [0, 2, 1, 5, 4, 3]])


def _least_jacobian(mesh: Mesh) -> float:
    """Least Bernstein coefficient of a cell's Jacobian over the largest of that cell."""
    coefficients = bernstein_jacobians(mesh, torch.from_numpy(mesh.nodes))
    return float((coefficients.amin(-1) / coefficients.amax(-1).clamp_min(1e-300)).min())
