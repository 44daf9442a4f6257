"""Prescribed boundary values met exactly: a lifting that has them and a factor that vanishes where they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.mesh.stiffness import dirichlet_factor, weighted_stiffness

Value = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prescribed:
    """Values of one component on the regions ``tags``; where they meet the later region's value holds."""

    component: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class DirichletLift:
    """Nodal functions of one reference mesh of N nodes, carried to every design by its map.

    Attributes:
        shape_map: family and mesh.
        components: names of the c components.
        factor: (N, c), zero to first order on each component's regions and positive elsewhere.
        fixed: component -> region -> (k,) nodes that have their value from that region.
        extension: component -> (N, K) harmonic extension of values at its fixed nodes, regions in order.
    """

    shape_map: ShapeMap
    components: tuple[str, ...]
    factor: Tensor
    fixed: Mapping[str, Mapping[str, Tensor]]
    extension: Mapping[str, Tensor]

    def lifting(self, nodes: Tensor, values: Mapping[tuple[str, str], Value]) -> Tensor:
        """(B, N, c) functions with the prescribed values at the boundary nodes of designs with nodes (B, N, 2).

        Args:
            nodes: of the designs.
            values: (component, region) -> function of points (B, k, 2) that gives (B, k).
        """
        columns = []
        for component in self.components:
            if component not in self.fixed:
                columns.append(torch.zeros_like(nodes[..., 0]))
                continue
            prescribed = [
                values[component, tag](nodes[:, index.to(nodes.device)]) for tag, index in self.fixed[component].items()
            ]
            columns.append(torch.cat(prescribed, 1) @ self.extension[component].to(nodes).T)
        return torch.stack(columns, -1)


def build_dirichlet_lift(
    shape_map: ShapeMap, components: Sequence[str], prescribed: Sequence[Prescribed]
) -> DirichletLift:
    """Solve for factors and extensions once, on the reference mesh.

    Raises:
        KeyError: a region that the mesh has not.
    """
    mesh = shape_map.mesh
    stiffness = weighted_stiffness(mesh, lambda x: np.ones(x.shape[:-1]))
    regions = {p.component: p.tags for p in prescribed}
    made: dict[tuple[str, ...], tuple[NDArray[np.float64], dict[str, Tensor], Tensor]] = {}
    for tags in set(regions.values()):
        owner = np.full(len(mesh.nodes), -1)
        for rank, tag in enumerate(tags):
            owner[np.unique(mesh.facets_on(tag))] = rank
        fixed = {tag: torch.from_numpy(np.flatnonzero(owner == rank)) for rank, tag in enumerate(tags)}
        order = np.concatenate([index.numpy() for index in fixed.values()])
        free = np.flatnonzero(owner < 0)
        extension = np.zeros((len(mesh.nodes), len(order)))
        extension[order, np.arange(len(order))] = 1
        factorization = splu(stiffness[free][:, free].tocsc())
        extension[free] = factorization.solve(-stiffness[free][:, order].toarray())
        made[tags] = dirichlet_factor(mesh, list(tags)), fixed, torch.from_numpy(extension)
    ones = np.ones(len(mesh.nodes))
    factor = [made[regions[c]][0] if c in regions else ones for c in components]
    return DirichletLift(
        shape_map,
        tuple(components),
        torch.from_numpy(np.stack(factor, -1)),
        {c: made[tags][1] for c, tags in regions.items()},
        {c: made[tags][2] for c, tags in regions.items()},
    )
