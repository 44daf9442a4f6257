"""Stresses and other quantities that follow from the fields, at the nodes of a mesh."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.fields.sampled import sample_quantities
from shapewright.geometries.mesh.integration import cell_points
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]


def derived_arrays(setup: Setup, nodes: Array, fields: Array, suffix: str) -> Mapping[str, Array]:
    """Name and suffix -> (N,) mean over the cells at a node, by their areas, of what each of them has there.

    Args:
        setup: study.
        nodes: (N, 2) positions of the nodes of its mesh.
        fields: (N, c) solution there.
        suffix: such as ``fem``.
    """
    mesh, problem = setup.shape_map.mesh, setup.problem
    at_nodes = mesh.cell.nodes, np.full(len(mesh.cell.nodes), 0.5 / len(mesh.cell.nodes))
    quadrature = cell_points(mesh, torch.from_numpy(nodes), rule=at_nodes)
    components = dict(zip(problem.physics.components, np.ascontiguousarray(fields.T), strict=True))
    q = sample_quantities(problem, quadrature, components, problem.parameter_values())
    cells, areas = mesh.cells.ravel(), quadrature.weights.sum(-1, keepdim=True)
    areas = areas.expand(quadrature.weights.shape).reshape(-1)
    total = np.bincount(cells, areas.numpy(), len(nodes))
    arrays = {}
    for quantity in problem.physics.derived:
        values = torch.as_tensor(quantity.value(torch, q)).expand(quadrature.weights.shape).reshape(-1)
        arrays[f"{quantity.name}_{suffix}"] = np.bincount(cells, (areas * values).numpy(), len(nodes)) / total
    return arrays
