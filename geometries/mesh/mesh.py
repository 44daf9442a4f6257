"""Meshes of curved cells of second order, with named boundary regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.mesh.simplex import SIMPLICES, Simplex


class MeshError(RuntimeError):
    """A shape that could not be meshed, or a mesh that is not what was asked for."""


@dataclass(frozen=True)
class Mesh:
    """A mesh of curved (isoparametric, quadratic) simplices in d dimensions: triangles in the plane.

    Attributes:
        nodes: (N, d) float64, coordinates in the study's length unit.
        cells: (M, n) int64, nodes in the order of :class:`simplex.Simplex`: d + 1 vertices, positively oriented
            (counter-clockwise in the plane), then the middles of the edges.
        facets: (K, m) int64, boundary facets in the order of the simplex of dimension d - 1: in the plane first
            vertex, second vertex, middle, with the domain on the left of first -> second; in space vertices
            counter-clockwise seen from outside.
        facet_tags: (K,) int64, index into ``tag_names``.
        tag_names: names of the boundary regions.

    Raises:
        MeshError: cells that are no quadratic simplices of the dimension of the nodes.
    """

    nodes: NDArray[np.float64]
    cells: NDArray[np.int64]
    facets: NDArray[np.int64]
    facet_tags: NDArray[np.int64]
    tag_names: tuple[str, ...]

    def __post_init__(self) -> None:
        expected = SIMPLICES.get(self.dimension)
        if expected is None or self.cells.shape[1] != len(expected.nodes):
            known = ", ".join(f"{len(cell.nodes)} in {d}" for d, cell in SIMPLICES.items())
            raise MeshError(
                f"the mesh has {self.dimension} coordinates a node and {self.cells.shape[1]} nodes a cell; allowed in"
                f" each dimension are {known}"
            )

    @property
    def dimension(self) -> int:
        """Of space and of the cells: the number of coordinates."""
        return self.nodes.shape[1]

    @property
    def cell(self) -> Simplex:
        """Kind of the cells."""
        return SIMPLICES[self.dimension]

    def moved(self, nodes: NDArray[np.float64]) -> Mesh:
        """The same mesh with its nodes at ``nodes`` (N, d)."""
        return replace(self, nodes=np.asarray(nodes, dtype=np.float64))

    def facets_on(self, tag: str) -> NDArray[np.int64]:
        """(k, m) facets of the boundary region ``tag``; KeyError names the regions there are."""
        if tag not in self.tag_names:
            raise KeyError(f"no boundary region '{tag}'; this mesh has {', '.join(self.tag_names)}")
        return self.facets[self.facet_tags == self.tag_names.index(tag)]

    @cached_property
    def facet_cells(self) -> NDArray[np.int64]:
        """(K, 2) for each facet the cell it bounds, and which of its :attr:`Simplex.facets` it is, in that order."""
        d = self.dimension
        owner = {
            tuple(vertices[i] for i in facet): (index, side)
            for index, vertices in enumerate(self.cells[:, : d + 1].tolist())
            for side, facet in enumerate(self.cell.facets)
        }
        return np.array([owner[tuple(vertices)] for vertices in self.facets[:, :d].tolist()], dtype=np.int64)

    @property
    def vertices(self) -> NDArray[np.int64]:
        """Sorted indices of the nodes that are cell corners."""
        return np.unique(self.cells[:, : self.dimension + 1])
