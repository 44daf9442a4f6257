"""The optimum as CAD and the fields as VTU: files that other programs open."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.cad.step import (
    CadCheck,
    CadShape,
    check_step,
    domain_shape,
    measure_of,
    part_shape,
    read_step,
    write_brep,
    write_step,
    write_stl,
)
from shapewright.geometries.family.spline import LoopQuadrature
from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.studies.certify.model import Stl
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]
DOMAIN_FILE = "domain.step"


@dataclass(frozen=True)
class Exported:
    """The CAD file read back, its measure by the design's own B-spline, and the STL of a solid.

    Attributes:
        check: what the STEP file holds.
        measure: area, or area times thickness, of the design.
        files: names written.
        stl: triangulation by trimesh; None for a face.
        domain_error: of the measure of ``domain.step`` read back, relative; None where the part is the domain.
    """

    check: CadCheck
    measure: float
    files: tuple[str, ...]
    stl: Stl | None
    domain_error: float | None = None

    def as_data(self) -> dict[str, Any]:
        """Plain data, for the record of the stage."""
        return asdict(self) | {"stl": None if self.stl is None else self.stl.model_dump()}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Exported:
        """Of :meth:`as_data`, from JSON too."""
        stl = None if data["stl"] is None else Stl(**data["stl"])
        return cls(**{**data, "check": CadCheck(**data["check"]), "files": tuple(data["files"]), "stl": stl})

    @property
    def relative_error(self) -> float:
        """Of the measure read back."""
        return abs(self.check.measure - self.measure) / self.measure


def export_cad(setup: Setup, theta: Tensor, folder: Path, name: str = "optimum") -> Exported:
    """Write ``name``.step and .brep (and .stl of a solid) of the part, and read the STEP file back.

    Where the part is a hole or a body in its domain, ``domain.step`` is written too: the plate with the hole.

    Raises:
        CadError: OpenCASCADE finds the part invalid, or cannot write.
    """
    geometry = setup.study.model.geometry
    control_points, part = setup.family.control_points(theta).numpy(), setup.family.part_points(theta)
    shape = part_shape(setup.family, control_points, geometry.thickness)
    step = folder / f"{name}.step"
    write_step(shape, step, geometry.length_unit)
    write_brep(shape, folder / f"{name}.brep")
    files = [f"{name}.step", f"{name}.brep"]
    stl = None
    (folder / f"{name}.stl").unlink(missing_ok=True)  # of an earlier design, which may have been a solid
    if geometry.thickness is not None:
        files.append(f"{name}.stl")
        stl = _export_stl(shape, folder / f"{name}.stl", 1e-3 * float(np.ptp(part.numpy(), axis=0).max()))
    measure = float(setup.family.part_quadrature.area(part)) * (geometry.thickness or 1.0)
    check = check_step(step, setup.family, control_points, geometry.length_unit)
    domain_error = None
    (folder / DOMAIN_FILE).unlink(missing_ok=True)
    if setup.family.part:
        files.append(DOMAIN_FILE)
        domain_error = _export_domain(setup, control_points, folder / DOMAIN_FILE)
    return Exported(check, measure, tuple(files), stl, domain_error)


def _export_stl(shape: CadShape, path: Path, deflection: float) -> Stl:
    """Write the triangulation of a solid, at most ``deflection`` (length unit) off its faces, and measure it."""
    write_stl(shape, path, deflection)
    solid = trimesh.load_mesh(path, process=False)
    solid.apply_scale(shape.factor)  # trimesh merges vertices closer than 1e-8
    solid.merge_vertices()
    return Stl(
        watertight=bool(solid.is_watertight),
        consistent_winding=bool(solid.is_winding_consistent),
        volume=float(solid.volume) / shape.factor**3,
        facets=len(solid.faces),
    )


def _export_domain(setup: Setup, control_points: Array, path: Path) -> float:
    """Relative error of its measure, read back, against the areas that the design's own curves enclose."""
    family, geometry = setup.family, setup.study.model.geometry
    shape = domain_shape(family, control_points, geometry.thickness)
    write_step(shape, path, geometry.length_unit)
    outer, *holes = (
        float(LoopQuadrature(loop).area(torch.from_numpy(control_points[rows])))
        for loop, rows in zip(family.loops, family.loop_slices, strict=True)
    )
    exact = (outer - sum(holes)) * (geometry.thickness or 1.0)
    return abs(measure_of(read_step(path, geometry.length_unit, shape.factor)) - exact) / exact


def write_vtu(path: Path, mesh: Mesh, arrays: Mapping[str, Array]) -> None:
    """Write quadratic triangles with nodal arrays (N,) or (N, 2); vectors get a third component zero."""
    points = np.column_stack([mesh.nodes, np.zeros(len(mesh.nodes))])
    grid = pyvista.UnstructuredGrid({pyvista.CellType.QUADRATIC_TRIANGLE: mesh.cells}, points)
    for name, values in arrays.items():
        grid.point_data[name] = np.column_stack([values, np.zeros(len(values))]) if values.ndim == 2 else values
    with written_whole(path) as part:
        grid.save(part)
        try:
            whole = pyvista.read(part).n_points == len(points)
        except Exception:  # VTK reports a failed write by a file that it cannot read
            whole = False
        if not whole:
            raise OSError(errno.EIO, "could not be written whole (disk full?)", str(path))


def field_arrays(setup: Setup, fields: Array, suffix: str) -> dict[str, Array]:
    """Nodal fields (N, c) as named arrays, vector fields also as vectors."""
    arrays = {}
    start = 0
    for field in setup.problem.physics.fields:
        count = len(field.components)
        for offset, component in enumerate(field.components):
            arrays[f"{component}_{suffix}"] = np.ascontiguousarray(fields[:, start + offset])
        if count == 2:
            arrays[f"{field.name}_{suffix}"] = fields[:, start : start + 2]
        start += count
    return arrays


Points = tuple[tuple[float, ...], ...]
"""Coordinates of points, length unit."""


@dataclass(frozen=True)
class Outline:
    """Points along a loop of the domain's boundary, and the region of its first curve."""

    tag: str
    points: Points


@dataclass(frozen=True)
class Shape:
    """A design for drawing: outlines of the domain, and control points of the part."""

    outlines: tuple[Outline, ...]
    control_points: Points


@dataclass(frozen=True)
class Shapes:
    """Content of ``shapes.json``: unit of length, and the designs at the start and at the optimum."""

    unit: str
    initial: Shape
    optimum: Shape


def _points(coordinates: Array | Tensor) -> Points:
    return tuple(tuple(point) for point in coordinates.tolist())


def shape_of(setup: Setup, theta: Tensor) -> Shape:
    """Outlines and control points of a design (P,), for drawing."""
    control_points = setup.family.control_points(theta).numpy()
    outlines = tuple(
        Outline(loop[0].tag, _points(setup.family.outline(control_points, index, 16)))
        for index, loop in enumerate(setup.family.loops)
    )
    return Shape(outlines, _points(setup.family.part_points(theta)))


def shape_data(setup: Setup, theta: Tensor) -> dict[str, Any]:
    """A design as plain data of :class:`Shape`."""
    return asdict(shape_of(setup, theta))
