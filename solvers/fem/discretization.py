"""A dolfinx mesh and function spaces made from a mesh of ours, and the maps between nodes and dofs."""

from __future__ import annotations

from collections.abc import Mapping

import basix
import basix.ufl
import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.fields.problem import Field, ProblemError
from shapewright.geometries.mesh.jacobians import determinant
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.quadrature import gauss_quadrature
from shapewright.geometries.mesh.simplex import Simplex
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.backend import MPI, fem
from shapewright.solvers.fem.backend import mesh as dolfinx_mesh

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def _basix_edges(kind: Simplex) -> list[tuple[int, ...]]:
    """Vertices of the edges of a cell in basix' order, which is that of its nodes in their middles."""
    return [tuple(edge) for edge in basix.topology(basix.CellType[kind.name])[1]]


def _basix_order(kind: Simplex) -> list[int]:
    """Local order of basix' quadratic cell by that of Mesh."""
    ours = [tuple(sorted(edge)) for edge in kind.edges]
    vertices = kind.dimension + 1
    return [*range(vertices), *(vertices + ours.index(edge) for edge in _basix_edges(kind))]


def _ends(kind: Simplex) -> Index:
    """(n, 2) vertices at the ends of the edge on which each basix node lies; a vertex is its own two ends."""
    return np.array([(k, k) for k in range(kind.dimension + 1)] + _basix_edges(kind))


class Discretization:
    """Mesh, spaces and node maps of a system of fields.

    Attributes:
        fields: the unknowns.
        mesh: dolfinx mesh with curved cells; its geometry moves by :meth:`move`.
        space: mixed space of all fields.
        node_space: space of the coordinates, in which velocities and shape gradients live.
        facet_tags: boundary facets by index into the mesh's tag names.
        component_dofs: component -> (N, 2) dofs whose mean is its value at each mesh node (twice the same one
            where the node carries a dof of its own).
    """

    def __init__(self, tagged: Mesh, fields: tuple[Field, ...]) -> None:
        used = len(np.unique(tagged.cells))
        if used != len(tagged.nodes):
            raise ProblemError(f"the mesh has {len(tagged.nodes)} nodes, but its cells use {used} of them")
        self.tagged = tagged
        self.fields = fields
        self.check_nodes(tagged.nodes)
        self._dimension = tagged.dimension
        coordinates = basix.ufl.element("Lagrange", tagged.cell.name, 2, shape=(self._dimension,))
        cells = tagged.cells[:, _basix_order(tagged.cell)]
        # basix types its elements by a base class of what dolfinx takes
        self.mesh = dolfinx_mesh.create_mesh(MPI.COMM_SELF, cells, coordinates, tagged.nodes)  # type: ignore[arg-type]
        domain = self.mesh.ufl_domain()
        assert domain is not None  # made with the mesh
        self._original: Index = np.asarray(self.mesh.geometry.input_global_indices, dtype=np.int64)
        # (M, n) our node of each local node, with cells and local nodes in dolfinx' order
        self._nodes: Index = self._original[self.mesh.geometry.dofmaps[0]]
        self.facet_tags = self._tag_facets()
        self.space = fem.functionspace(self.mesh, _element(fields, tagged.cell.name))
        self.node_space = fem.functionspace(self.mesh, domain.ufl_coordinate_element())
        self._node_dofs = np.empty(len(tagged.nodes), dtype=np.int64)
        self._node_dofs[self._nodes] = self.node_space.dofmap.list
        self.component_dofs: Mapping[str, Index] = {
            component: self._dofs_of(_subspace(self.space, fields, f, c), field.degree)
            for f, field in enumerate(fields)
            for c, component in enumerate(field.components)
        }
        self.dofs: int = self.space.dofmap.index_map.size_local * self.space.dofmap.index_map_bs

    def _dofs_of(self, subspace: fem.FunctionSpace, degree: int) -> Index:
        local = np.asarray(subspace.dofmap.list, dtype=np.int64)
        dofs = np.empty((len(self.tagged.nodes), 2), dtype=np.int64)
        dofs[self._nodes] = local[:, _ends(self.tagged.cell)] if degree == 1 else np.stack([local, local], -1)
        return dofs

    def _tag_facets(self) -> dolfinx_mesh.MeshTags:
        topology, d = self.mesh.topology, self._dimension
        topology.create_entities(d - 1)
        topology.create_connectivity(d - 1, 0)
        topology.create_connectivity(d - 1, d)
        vertex_nodes = np.empty(topology.index_map(0).size_local, dtype=np.int64)
        vertex_nodes[topology.connectivity(d, 0).array.reshape(-1, d + 1)] = self._nodes[:, : d + 1]
        sides = vertex_nodes[topology.connectivity(d - 1, 0).array.reshape(-1, d)]
        boundary = np.sort(dolfinx_mesh.exterior_facet_indices(topology))
        key = _facet_keys(sides[boundary], len(self.tagged.nodes))
        wanted = _facet_keys(self.tagged.facets[:, :d], len(self.tagged.nodes))
        order = np.argsort(key)
        position = order[np.clip(np.searchsorted(key, wanted, sorter=order), 0, len(key) - 1)]
        if not np.array_equal(key[position], wanted):
            count = int((key[position] != wanted).sum())
            raise ProblemError(f"{count} tagged facets of the mesh are not boundary facets of its cells")
        facets = boundary[position].astype(np.int32)
        by_facet = np.argsort(facets)
        tags = self.tagged.facet_tags[by_facet].astype(np.int32)
        return dolfinx_mesh.meshtags(self.mesh, d - 1, facets[by_facet], tags)

    def check_nodes(self, nodes: Array) -> None:
        """Refuse positions (N, d) that have a wrong shape, are not finite or fold a cell."""
        if nodes.shape != self.tagged.nodes.shape:
            raise ProblemError(f"nodes have shape {nodes.shape}; this mesh has {self.tagged.nodes.shape}")
        lost = int((~np.isfinite(nodes)).any(-1).sum())
        if lost:
            raise SolveError(f"{lost} nodes of the mesh have positions that are not finite")
        worst = _smallest_determinants(self.tagged.cell, nodes[self.tagged.cells])
        folded = np.flatnonzero(worst <= 0)
        if len(folded):
            raise SolveError(
                f"the mesh is folded: {len(folded)} of {len(worst)} cells have a non-positive Jacobian, "
                f"the worst is {worst.min():.3g} in cell {int(worst.argmin())}"
            )

    def move(self, nodes: Array) -> None:
        """Put the mesh nodes at ``nodes`` (N, d), in the length unit of the mesh."""
        self.mesh.geometry.x[:, : self._dimension] = nodes[self._original]

    def nodes(self) -> Array:
        """(N, d) present positions of the mesh nodes."""
        nodes = np.empty_like(self.tagged.nodes)
        nodes[self._original] = self.mesh.geometry.x[:, : self._dimension]
        return nodes

    def nodal(self, component: str, state: Array) -> Array:
        """(N,) values of a component at all mesh nodes from the dof values."""
        dofs = self.component_dofs[component]
        return 0.5 * (state[dofs[:, 0]] + state[dofs[:, 1]])

    def nodes_to_space(self, nodal: Array) -> Array:
        """(d N,) dof values in ``node_space`` of a vector field (N, d)."""
        values = np.empty_like(nodal)
        values[self._node_dofs] = nodal
        return values.ravel()

    def nodes_from_space(self, values: Array) -> Array:
        """(N, d) vector field from its dof values in ``node_space``; inverse of :meth:`nodes_to_space`."""
        return values.reshape(-1, self._dimension)[self._node_dofs]

    def has_components(self, components: tuple[str, ...]) -> NDArray[np.bool_]:
        """(D,) whether a dof belongs to one of the components."""
        belongs = np.zeros(self.dofs, dtype=bool)
        for component in components:
            belongs[self.component_dofs[component]] = True
        return belongs

    def boundary_dofs(self, component: str, tag: str) -> tuple[Index, Index]:
        """Dofs of ``component`` on the boundary region ``tag`` and the mesh nodes they sit at."""
        nodes = np.unique(self.tagged.facets_on(tag))
        dofs = self.component_dofs[component][nodes]
        own = dofs[:, 0] == dofs[:, 1]
        return dofs[own, 0], nodes[own]

    def scalar_dofs(self, space: fem.FunctionSpace, tag: str) -> Index:
        """Dofs of a scalar quadratic ``space`` on this mesh at the nodes of the boundary region ``tag``."""
        on_tag = np.isin(self._nodes, self.tagged.facets_on(tag))
        return np.unique(np.asarray(space.dofmap.list, dtype=np.int64)[on_tag])


def _element(fields: tuple[Field, ...], cell: str) -> basix.ufl._ElementBase:
    shapes = [(len(f.components),) if len(f.components) > 1 else () for f in fields]
    elements = [
        basix.ufl.element("Lagrange", cell, f.degree, shape=shape)
        for f, shape in zip(fields, shapes, strict=True)
    ]
    return elements[0] if len(elements) == 1 else basix.ufl.mixed_element(elements)


def _subspace(
    space: fem.FunctionSpace, fields: tuple[Field, ...], field: int, component: int
) -> fem.FunctionSpace:
    owner = space if len(fields) == 1 else space.sub(field)
    return owner if len(fields[field].components) == 1 else owner.sub(component)


def _facet_keys(facets: Index, count: int) -> Index:
    """(K,) one number for each facet (K, d), whatever the order of its vertices."""
    key = np.zeros(len(facets), dtype=np.int64)
    for vertex in np.sort(facets, -1).T:
        key = key * count + vertex
    return key


def _smallest_determinants(kind: Simplex, cells: Array) -> Array:
    """(M,) smallest Jacobian determinant of cells (M, n, d) at their nodes and at quadrature points."""
    points = np.concatenate([kind.nodes, gauss_quadrature(kind.dimension, 4 if kind.dimension == 2 else 3)[0]])
    jacobian = np.tensordot(cells, kind.shape_gradients(points), axes=(1, 1)).swapaxes(1, 2)  # (M, Q, d, d)
    return determinant(torch.from_numpy(jacobian)).numpy().min(-1)
