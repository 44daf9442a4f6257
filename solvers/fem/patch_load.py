"""A load on a narrow patch of the boundary around a material point, whose total is exact on the moved mesh.

The traction is total * bump / int bump, with bump(x) = max(0, 1 - |x - c|^2 / width^2)^2 along the region, which is
continuously differentiable. The centre c is carried along by the facet on which it lies, so that

- dc = sum_k N_k dX_k with that facet's shape functions N at c,
- d(1/I) = -(I_X dX + I_c dc) / I^2 for I = int bump, by the same quadrature that assembles the load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import ufl
from numpy.typing import NDArray
from torch import Tensor
from ufl.core.expr import Expr

from shapewright.geometries.fields.problem import Patch, ProblemError
from shapewright.geometries.mesh.integration import FacetPoints
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import SEGMENT
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.backend import fem
from shapewright.solvers.fem.discretization import Discretization
from shapewright.solvers.fem.jit import compile_form

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def boundary_point(mesh: Mesh, tag: str, at: Array) -> tuple[Index, Array]:
    """Nodes (3,) of the facet on ``tag`` that comes nearest to ``at`` (2,), and their shape functions (3,) there."""
    facets = mesh.facets_on(tag)
    local = mesh.nodes[facets]
    s = np.linspace(0, 1, 9)[:, None]
    distance = np.linalg.norm(np.einsum("qi,kid->kqd", SEGMENT.shape_functions(s), local) - at, axis=-1)
    best = (np.inf, np.zeros(3, np.int64), np.zeros(3))
    for facet in np.unique(np.argsort(distance.min(-1))[:4]):
        nodes = local[facet]
        along = float(s[distance[facet].argmin(), 0])
        for _ in range(50):  # Gauss-Newton: the residual is small beside the curvature
            at_point = np.array([[along]])
            value = SEGMENT.shape_functions(at_point)[0] @ nodes
            slope = SEGMENT.shape_gradients(at_point)[0, :, 0] @ nodes
            step = float((at - value) @ slope / (slope @ slope))
            along = min(1.0, max(0.0, along + step))
            if abs(step) < 1e-15:
                break
        shape = SEGMENT.shape_functions(np.array([[along]]))[0]
        best = min(best, (float(np.linalg.norm(shape @ nodes - at)), facets[facet], shape), key=lambda found: found[0])
    return best[1], best[2]


def facet_lengths_near(mesh: Mesh, tag: str, at: Array, reach: float) -> Array:
    """Lengths, end to end, of the facets on ``tag`` that come within ``reach`` of ``at`` (2,)."""
    local = mesh.nodes[mesh.facets_on(tag)]
    samples = np.einsum("qi,kid->kqd", SEGMENT.shape_functions(np.linspace(0, 1, 17)[:, None]), local)
    near = np.linalg.norm(samples - at, axis=-1).min(-1) < reach
    return np.linalg.norm(local[near, 1] - local[near, 0], axis=-1)


def patch_density(patch: Patch, mesh: Mesh, nodes: Array, quadrature: FacetPoints) -> Tensor:
    """(K, Q) share of the patch's total at boundary points, per arc length, with the mesh's nodes at ``nodes``."""
    facet, shape = boundary_point(mesh, patch.tag, np.array(patch.at))
    offset = quadrature.points - torch.from_numpy(shape @ nodes[facet])
    bump = (1 - (offset**2).sum(-1) / patch.width**2).clamp(min=0) ** 2
    return bump / (bump * quadrature.weights).sum().clamp(min=1e-300)


class PatchLoad:
    """One patch on one mesh: its traction for the residual, and what moves it.

    Args:
        patch: the load.
        discretization: of the mesh that moves; its reference mesh holds the point ``patch.at``.
        measure: of the boundary region.
        test: component -> test function.
        parameters: of the problem by name.

    Raises:
        ProblemError: the region is further from the point than the patch is wide.
    """

    def __init__(
        self,
        patch: Patch,
        discretization: Discretization,
        measure: ufl.Measure,
        test: Mapping[str, Expr],
        parameters: Mapping[str, fem.Constant],
    ) -> None:
        if discretization.tagged.dimension != 2:
            raise ProblemError(f"a patch load on '{patch.tag}' of a solid; allowed is one in the plane")
        self.patch, self._discretization = patch, discretization
        tagged, mesh = discretization.tagged, discretization.mesh
        at = np.array(patch.at)
        self._nodes, self._shape = boundary_point(tagged, patch.tag, at)
        away = float(np.linalg.norm(self._shape @ tagged.nodes[self._nodes] - at))
        if away > patch.width:
            raise ProblemError(
                f"the patch at {list(patch.at)} of width {patch.width:g} meets no boundary: '{patch.tag}' is {away:.3g}"
                " away"
            )
        self._centre = fem.Constant(mesh, np.zeros(2))
        self._scale = fem.Constant(mesh, 1.0)
        self._growth = fem.Constant(mesh, 0.0)
        self._shift = fem.Constant(mesh, np.zeros(2))
        offset = ufl.SpatialCoordinate(mesh) - self._centre
        inside = ufl.max_value(1 - ufl.dot(offset, offset) / patch.width**2, 0.0)
        self._bump = inside**2
        self._slope = 4 * inside * ufl.dot(offset, self._shift) / patch.width**2
        self._factor = 1.0 if patch.factor is None else parameters[patch.factor]
        loads = self._factor * sum(total * test[component] for component, total in patch.totals.items())
        rate = (self._growth * self._bump + self._scale * self._slope) * loads * measure
        node_test = ufl.TestFunction(discretization.node_space)
        whole = self._bump * measure
        self._rate = compile_form(rate)
        self._integral, self._integral_by_centre = compile_form(whole), compile_form(self._slope * measure)
        self._integral_by_nodes = compile_form(
            ufl.derivative(whole, ufl.SpatialCoordinate(whole.ufl_domain()), node_test)
        )

    def traction(self, component: str) -> Any:
        """Flux . n of a component, a UFL expression."""
        return self.patch.totals.get(component, 0.0) * self._factor * self._scale * self._bump

    def move(self, nodes: Array) -> None:
        """Follow the mesh, whose nodes are at ``nodes`` (N, 2); SolveError if no quadrature point meets the patch."""
        self._centre.value[:] = self._shape @ nodes[self._nodes]
        integral = fem.assemble_scalar(self._integral).real
        if not integral > 0:
            raise SolveError(
                f"the patch at {self._centre.value.tolist()} of width {self.patch.width:g} is narrower than the cells"
                f" on '{self.patch.tag}': no quadrature point is inside; widen it, or refine the mesh"
            )
        self._scale.value[...] = 1 / integral

    def by_nodes(self, adjoint: Array) -> Array:
        """(N, 2) derivative by the nodes of the load's part in p . R, for adjoint dofs p."""
        scale = float(self._scale.value)
        work, *by_centre = (adjoint @ self._load(growth, shift) for growth, shift in _DIRECTIONS)
        nodes = self._discretization.nodes_from_space(fem.assemble_vector(self._integral_by_nodes).array)
        nodes = scale**2 * work * nodes
        centre = scale**2 * work * self._integral_gradient() - np.array(by_centre)
        np.add.at(nodes, self._nodes, self._shape[:, None] * centre)
        return nodes

    def rate(self, velocity: Array) -> Array:
        """Derivative of the load vector for nodes that move with ``velocity`` (N, 2)."""
        scale = float(self._scale.value)
        shift = self._shape @ velocity[self._nodes]
        by_nodes = fem.assemble_vector(self._integral_by_nodes).array
        grown = by_nodes @ self._discretization.nodes_to_space(velocity) + self._integral_gradient() @ shift
        return self._load(float(-(scale**2) * grown), shift)

    def _load(self, growth: float, shift: Array) -> Array:
        """Change of the load vector for a change of the scale and of the centre (2,)."""
        self._growth.value[...], self._shift.value[:] = growth, shift
        return fem.assemble_vector(self._rate).array.copy()

    def _integral_gradient(self) -> Array:
        """(2,) derivative of int bump by the centre."""
        found = []
        for axis in np.eye(2):
            self._shift.value[:] = axis
            found.append(fem.assemble_scalar(self._integral_by_centre).real)
        return np.array(found)


_DIRECTIONS: tuple[tuple[float, Array], ...] = (
    (1.0, np.zeros(2)),
    (0.0, np.array([1.0, 0.0])),
    (0.0, np.array([0.0, 1.0])),
)
"""Changes of scale and centre, one at a time."""
