"""Small problems on small domains for tests of operators for all shapes."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.closed_bar import closed_bar
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.studies.problem.linear_physics import PHYSICS
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.shape_operator import ShapeOperator, ShapeOperatorConfig
from shapewright.surrogate.models.shape_operator_file import make_operator
from shapewright.surrogate.training.shape_population import (
    Draw,
    ShapePopulation,
    build_population,
    conditions_of_scalar,
    conditions_of_solid,
)

TINY = ShapeOperatorConfig(OperatorConfig(width=6, hidden=6, modes=(3, 3), layers=1), fields=2, nodes=14)
DRAWS = {"poisson_2d": Draw(), "elasticity_2d": Draw(parameters=((0.1, 0.4),))}


@cache
def meshes() -> tuple[Mesh, ...]:
    """Bars of 5 and 6 control points, of about unit area, whose walls are cut into four regions by angle."""
    found = []
    for points in (5, 6):
        shape_map = build_shape_map(closed_bar(control_points=points), 0.6)
        mesh = shape_map.mesh.moved(shape_map.mesh.nodes / np.sqrt(np.pi))
        middle = mesh.nodes[mesh.facets[:, 2]]
        quarter = np.floor((np.arctan2(middle[:, 1], middle[:, 0]) + np.pi) / (np.pi / 2)).astype(np.int64) % 4
        found.append(Mesh(mesh.nodes, mesh.cells, mesh.facets, quarter, tuple(f"edge_{k}" for k in range(4))))
    return tuple(found)


@cache
def population(operator: str) -> ShapePopulation:
    """Problems of an operator's physics on these domains."""
    scalar = operator == "poisson_2d"
    return build_population(meshes(), conditions_of_scalar if scalar else conditions_of_solid, 3, 0)


def tiny(operator: str, seed: int = 0) -> ShapeOperator:
    """An untrained network in double precision."""
    torch.manual_seed(seed)
    return make_operator(PHYSICS[operator], TINY).double()
