"""Second-order triangle meshes with named boundary regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class MeshError(RuntimeError):
    """A shape that could not be meshed, or a mesh that is not what was asked for."""


EDGES = ((0, 1), (1, 2), (2, 0))
"""Vertices of a cell's edges, counter-clockwise."""


@dataclass(frozen=True)
class Mesh:
    """A planar mesh of curved (6-node, isoparametric) triangles.

    Attributes:
        nodes: (N, 2) float64, coordinates in the study's length unit.
        cells: (M, 6) int64, three vertices counter-clockwise, then the middles of the
            edges 0-1, 1-2, 2-0 (the order of gmsh's 6-node triangle).
        facets: (K, 3) int64, boundary edges: first vertex, second vertex, middle; the domain
            lies on the left of first -> second.
        facet_tags: (K,) int64, index into ``tag_names``.
        tag_names: names of the boundary regions.
    """

    nodes: NDArray[np.float64]
    cells: NDArray[np.int64]
    facets: NDArray[np.int64]
    facet_tags: NDArray[np.int64]
    tag_names: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """Of space: the number of coordinates."""
        return self.nodes.shape[1]

    def moved(self, nodes: NDArray[np.float64]) -> Mesh:
        """The same mesh with its nodes at ``nodes`` (N, 2)."""
        return replace(self, nodes=np.asarray(nodes, dtype=np.float64))

    def facets_on(self, tag: str) -> NDArray[np.int64]:
        """(k, 3) facets of the boundary region ``tag``; KeyError names the regions there are."""
        if tag not in self.tag_names:
            raise KeyError(f"no boundary region '{tag}'; this mesh has {', '.join(self.tag_names)}")
        return self.facets[self.facet_tags == self.tag_names.index(tag)]

    @cached_property
    def facet_cells(self) -> NDArray[np.int64]:
        """(K, 2) for each facet the cell it bounds, and which of the cell's :data:`EDGES` it is."""
        owner = {
            (cell[i], cell[j]): (index, edge)
            for index, cell in enumerate(self.cells[:, :3].tolist())
            for edge, (i, j) in enumerate(EDGES)
        }
        return np.array([owner[first, second] for first, second in self.facets[:, :2].tolist()], dtype=np.int64)

    @property
    def vertices(self) -> NDArray[np.int64]:
        """Sorted indices of the nodes that are cell corners."""
        return np.unique(self.cells[:, :3])
