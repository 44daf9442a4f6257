"""The CAD of a design of a solid: deformed, written as STEP, read back, compared and meshed afresh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.geometries.cad.compare import read_back
from shapewright.geometries.cad.deform import deform
from shapewright.geometries.cad.solid_mesher import MeshOptions, mesh_solid
from shapewright.geometries.cad.step import CadShape, read_step, write_step
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.mesh.simplex import Array
from shapewright.studies.problem.solid_setup import SolidSetup

FINER = (1.0, 1.2, 1.5, 2.0)
"""Factors by which cells are made smaller where those asked for fold on the deformed part."""


@dataclass(frozen=True)
class ExportedSolid:
    """A deformed solid, written and read back.

    Attributes:
        file: STEP.
        cad: as it is read back.
        regions: region -> numbers of its faces there.
        kept: numbers there of the faces that are the original surfaces still.
        kept_distance: largest distance of their radius, axis, normal or centroid from the original's.
        poles: of all new surfaces.
        valid: OpenCASCADE's own check.
        volume, centroid: of the solid, in the study's unit.
    """

    file: Path
    cad: CadShape
    regions: Mapping[str, tuple[int, ...]]
    kept: tuple[int, ...]
    kept_distance: float
    poles: int
    valid: bool
    volume: float
    centroid: tuple[float, float, float]

    def as_data(self) -> dict[str, Any]:
        """All but the shape and its file, as plain data."""
        data = {name: value for name, value in vars(self).items() if name not in ("file", "cad")}
        return {"factor": self.cad.factor, **data}

    @classmethod
    def of_data(cls, data: Mapping[str, Any], file: Path, unit: str) -> ExportedSolid:
        """Of :meth:`as_data`, with the shape from its file."""
        rest = {name: value for name, value in data.items() if name != "factor"}
        regions = {name: tuple(faces) for name, faces in rest.pop("regions").items()}
        kept, centroid = tuple(rest.pop("kept")), tuple(rest.pop("centroid"))
        return cls(file, read_step(file, unit, data["factor"]), regions, kept, centroid=centroid, **rest)

    def mesh(self, options: MeshOptions) -> tuple[Mesh, MeshOptions]:
        """A fresh mesh with the study's regions, finer than asked for where larger cells fold; and how fine it is.

        Raises:
            MeshError: cells of half the size fold, too.
        """
        for finer in FINER:
            tried = replace(options, size=options.size / finer, curvature=round(options.curvature * finer))
            try:
                return mesh_solid(self.cad, self.regions, tried).mesh, tried
            except MeshError:
                if finer == FINER[-1]:
                    raise
        raise AssertionError


def export_solid(setup: SolidSetup, theta: Array, path: Path) -> ExportedSolid:
    """Deform the CAD of a study by a design (P,), write it to ``path`` as STEP, and read it back.

    Raises:
        CadError: a fit that does not succeed, an invalid result, or a file that is not what was written.
    """
    design, form, unit = torch.from_numpy(np.array(theta)), setup.family.form, setup.study.model.geometry.length_unit

    def move(points: Array) -> Array:
        return form.moved(design, torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))).numpy()

    keep = [number for name in setup.study.model.geometry.keep for number in setup.regions[name]]
    deformed = deform(setup.cad, move, keep)
    write_step(deformed.cad, path, unit)
    read = read_back(path, unit, setup.cad, deformed)
    numbers = read.numbers.tolist()
    return ExportedSolid(
        path,
        read.cad,
        {name: tuple(numbers[n - 1] for n in faces) for name, faces in setup.regions.items()},
        tuple(sorted(numbers[n - 1] for n in deformed.kept)) if read.kept else (),
        read.kept_distance,
        deformed.poles,
        bool(read.valid),
        read.volume,
        read.centroid,
    )
