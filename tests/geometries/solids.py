"""Coarse meshes and maps of the shipped solids that the tests share, built once."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.cad.faces import box_of
from shapewright.geometries.cad.shipped import shipped_part
from shapewright.geometries.cad.solid_mesher import MeshOptions, SolidMesh, mesh_solid
from shapewright.geometries.cad.step import CadShape, read_step
from shapewright.geometries.design.free_form import FreeForm, free_form
from shapewright.geometries.design.kept_faces import zones_around
from shapewright.geometries.design.lattice import Lattice
from shapewright.geometries.design.solid_map import SolidMap

SIZES = {"bracket": 20.0, "link": 15.0, "cantilever": 20.0, "ball": 0.4, "turned": 10.0}
KEPT = {"bracket": (11, 12), "link": (), "cantilever": (7,), "ball": (), "turned": (1,)}
"""Numbers of the faces that stay."""


@cache
def part(name: str) -> CadShape:
    """A shipped part in millimetres."""
    return read_step(shipped_part(name), "mm")


@cache
def solid_mesh(name: str) -> SolidMesh:
    """A coarse mesh of it."""
    regions = {"kept": KEPT[name]} if KEPT[name] else {}
    return mesh_solid(part(name), regions, MeshOptions(SIZES[name], curvature=8))


@cache
def form(name: str) -> FreeForm:
    """A map of 3 by 3 by 3 control points around it, which may move by 8 % of its size."""
    low, high = box_of(part(name).shape)
    size = float(np.linalg.norm(high - low))
    lattice = Lattice(tuple(low.tolist()), tuple(high.tolist()), (3, 3, 3), 0.08 * size)
    nodes = torch.from_numpy(solid_mesh(name).mesh.nodes)
    return free_form(lattice, zones_around(part(name), KEPT[name], 0.2 * size), nodes)


@cache
def solid_map(name: str) -> SolidMap:
    """That map on that mesh."""
    return SolidMap(form(name), solid_mesh(name).mesh)


def design(of: FreeForm, seed: int, share: float = 1.0) -> Tensor:
    """(P,) a design, uniform in ``share`` of the bounds."""
    unit = torch.rand(len(of.parameters), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return share * (of.bounds[:, 0] + (of.bounds[:, 1] - of.bounds[:, 0]) * unit)
