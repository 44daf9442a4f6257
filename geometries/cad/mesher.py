"""Meshes by gmsh: of a design of a family, and of a CAD file read back."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gmsh
import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.cad.gmsh_model import add_loop, generate, generate_uniform, name_edges
from shapewright.geometries.cad.units import READER_UNITS, cad_factor, millimetres, reader_unit
from shapewright.geometries.family.effort import mesh_fault
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.mesh import Mesh, MeshError

__all__ = ["MeshError", "mesh_family", "mesh_loops", "mesh_step"]


@contextmanager
def _session() -> Iterator[None]:
    """A quiet gmsh model that is always closed.

    gmsh's own signal handler would swallow Ctrl-C, and a user's .gmshrc would change the meshes.
    """
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("Mesh.Algorithm", 6)
        gmsh.model.add("shapewright")
        yield
    except (MeshError, OSError):
        raise
    except Exception as error:  # gmsh raises bare Exception
        raise MeshError(f"gmsh: {error}") from error
    finally:
        gmsh.finalize()


def mesh_family(family: Family, control_points: NDArray[np.float64], mesh_size: float) -> Mesh:
    """Mesh the domain whose curves have these control points (n, 2), ``mesh_size`` at the designed part.

    Raises:
        MeshError: with gmsh's own message, or cells that fold, or more of them than :mod:`family.effort` allows.
    """
    _refuse_effort(family, control_points, mesh_size)
    factor = _factor(family, control_points)
    with _session():
        loops = [
            gmsh.model.occ.addCurveLoop(add_loop(loop, factor * control_points[rows]))
            for loop, rows in zip(family.loops, family.loop_slices, strict=True)
        ]
        gmsh.model.occ.addPlaneSurface(loops)
        gmsh.model.occ.synchronize()
        return generate(family, control_points, mesh_size, factor)


def mesh_loops(
    loops: Sequence[tuple[tuple[Curve, ...], NDArray[np.float64]]], mesh_size: float
) -> Mesh:
    """Mesh with cells of ``mesh_size`` everywhere the domain inside the first loop and outside all others.

    Args:
        loops: curves of each loop, whose tags name the boundary regions, and their control points (n, 2).
        mesh_size: of the cells, in the unit of the control points.

    Raises:
        MeshError: with gmsh's own message, or cells that fold.
    """
    outer = loops[0][1]
    factor = cad_factor(outer, outer)
    with _session():
        edge_tags: dict[int, str] = {}
        faces = []
        for curves, points in loops:
            edges = add_loop(curves, factor * points)
            edge_tags |= zip(edges, (curve.tag for curve in curves), strict=True)
            faces.append(gmsh.model.occ.addCurveLoop(edges))
        gmsh.model.occ.addPlaneSurface(faces)
        gmsh.model.occ.synchronize()
        return generate_uniform(edge_tags, mesh_size, factor)


def _refuse_effort(family: Family, control_points: NDArray[np.float64], mesh_size: float) -> None:
    found = mesh_fault(family, control_points, mesh_size)
    if found:
        raise MeshError(found)


def _factor(family: Family, control_points: NDArray[np.float64]) -> float:
    """By how much gmsh's model is larger than the design, so that gmsh's absolute tolerances suit it."""
    return cad_factor(control_points[family.loop_slices[family.part]], control_points)


def mesh_step(
    path: Path,
    family: Family,
    control_points: NDArray[np.float64],
    mesh_size: float,
    unit: str,
    save: Path | None = None,
) -> Mesh:
    """Mesh the domain around (or inside) the part in a STEP file, afresh.

    The plane face at z = 0 of the file is the part; where the part is a hole of the domain it is cut out of the
    family's outer loop. ``control_points`` (n, 2) only give the fixed loops and the names of the regions. With
    ``save`` (``*.msh``) the mesh is also written there, its regions as physical groups.

    Raises:
        MeshError: the file cannot be read, has no plane face at z = 0 or another outline, too many cells, gmsh fails.
        OSError: ``save`` cannot be written.
    """
    _refuse_effort(family, control_points, mesh_size)
    factor = _factor(family, control_points)
    own = control_points[family.loop_slices[family.part]]
    read_in = reader_unit(unit, float(np.ptp(own, axis=0).max()))
    with _session():
        occ = gmsh.model.occ
        gmsh.option.setString("Geometry.OCCTargetUnit", read_in)
        gmsh.option.setNumber("Geometry.OCCScaling", factor * (READER_UNITS[read_in] / millimetres(unit)))
        occ.importShapes(str(path), highestDimOnly=False)
        occ.synchronize()
        faces = [tag for _, tag in gmsh.model.getEntities(2) if _is_section(tag)]
        if len(faces) != 1:
            raise MeshError(f"{path}: found {len(faces)} plane faces at z = 0; one is the section of the part")
        section = occ.copy([(2, faces[0])])
        occ.remove(occ.getEntities(3), recursive=True)
        occ.remove([entity for entity in occ.getEntities(2) if entity not in section], recursive=True)
        if family.part > 0:
            others = [
                occ.addCurveLoop(add_loop(loop, factor * control_points[rows]))
                for index, (loop, rows) in enumerate(zip(family.loops, family.loop_slices, strict=True))
                if index != family.part
            ]
            occ.cut([(2, occ.addPlaneSurface(others))], section)
        occ.synchronize()
        mesh = generate(family, control_points, mesh_size, factor)
        if save is not None:
            _save(save, family, control_points, factor)
        return mesh


def _is_section(face: int) -> bool:
    """Whether a face lies in the plane z = 0; by its centre, because gmsh's boxes are 1e-7 too large."""
    low_x, low_y, _, high_x, high_y, _ = gmsh.model.getBoundingBox(2, face)
    z = gmsh.model.occ.getCenterOfMass(2, face)[2]
    return gmsh.model.getType(2, face) == "Plane" and abs(z) < 1e-5 * max(high_x - low_x, high_y - low_y)


def _save(path: Path, family: Family, control_points: NDArray[np.float64], factor: float) -> None:
    edge_tags = name_edges(family, factor * control_points)
    gmsh.option.setNumber("Mesh.ScalingFactor", 1.0 / factor)
    for name in family.tags:
        gmsh.model.addPhysicalGroup(1, [edge for edge, tag in edge_tags.items() if tag == name], name=name)
    gmsh.model.addPhysicalGroup(2, [face for _, face in gmsh.model.getEntities(2)], name="domain")
    with written_whole(path) as part:
        gmsh.write(str(part))
        if not part.read_bytes().rstrip().endswith(b"$EndElements"):  # gmsh does not notice a full disk
            raise OSError(errno.EIO, "could not be written whole (disk full?)", str(path))
