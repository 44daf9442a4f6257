"""The differentiable map from design parameters to the nodes of a solid's mesh: X(theta) = X0 + E C(theta)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shapewright.geometries.design.free_form import FreeForm, gradient_of, smooth_minimum
from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.forward_mode import jvp
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.jacobians import bernstein_jacobians, determinant
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.precision import full_precision

MOST_FACETS = 2500
"""Facets among which those that face each other are looked for; of more, every second, third, ..."""


@dataclass(frozen=True)
class SolidMap:
    """A free-form deformation on a mesh of N nodes; what :class:`shape_map.ShapeMap` is to a planar family.

    Attributes:
        form: the map of space and its parameters.
        mesh: of the part as it came.
    """

    form: FreeForm
    mesh: Mesh

    def __post_init__(self) -> None:
        # before a transform of torch.func asks for them first: what it makes does not outlast it
        _ = self.reference_nodes, self.extension, self.reference_jacobians, self._sample_gradients

    @property
    def bounds(self) -> Tensor:
        """(P, 2) float64 bounds of the design parameters."""
        return self.form.bounds

    @cached_property
    def reference_nodes(self) -> Tensor:
        """(N, 3) float64 nodes of the reference design."""
        return torch.from_numpy(self.mesh.nodes)

    @cached_property
    def extension(self) -> Tensor:
        """(N, K) motion of the nodes by that of each control point."""
        return self.form.influence(self.reference_nodes)

    @cached_property
    def reference_jacobians(self) -> Tensor:
        """(M, b) float64 Bernstein coefficients of the Jacobian of each cell of the reference design."""
        return bernstein_jacobians(self.mesh, self.reference_nodes)

    @cached_property
    def facing_facets(self) -> tuple[Tensor, Tensor]:
        """Pairs of facets (n,) that face each other through the part as it came, or may do so when it moves."""
        middles = facet_points(self.mesh, self.reference_nodes, points_per_side=1)
        every = torch.arange(0, len(self.mesh.facets), 1 + len(self.mesh.facets) // MOST_FACETS)
        points, normals = middles.points[every, 0], middles.normals[every, 0]
        offset = points[None] - points[:, None]
        away = offset.norm(dim=-1).clamp_min(1e-300)
        opposed = normals @ normals.mT < -0.6
        ahead = (offset * normals[:, None]).sum(-1) < -0.3 * away
        behind = (offset * normals[None]).sum(-1) > 0.3 * away
        reach = away < (points.amax(0) - points.amin(0)).norm() / 2
        first, second = torch.nonzero((opposed & ahead & behind & reach).triu(1), as_tuple=True)
        return every[first], every[second]

    @cached_property
    def _sample_gradients(self) -> Tensor:
        """(n, 3, K) derivative of the influence at the vertices and the middles of the cells."""
        centres = cell_points(self.mesh, self.reference_nodes, 1).points.flatten(0, -2)
        vertices = self.reference_nodes[torch.from_numpy(self.mesh.vertices)]
        return self.form.influence_gradient(torch.cat([vertices, centres]))

    @full_precision
    def nodes(self, theta: Tensor) -> Tensor:
        """(..., N, 3) mesh nodes of the designs theta (..., P), in their dtype and on their device."""
        return constant(self.reference_nodes, theta) + constant(self.extension, theta) @ self.form.control_points(theta)

    def velocity(self, theta: Tensor, direction: Tensor) -> Tensor:
        """(N, 3) motion of the nodes per unit step along ``direction`` (P,): dX/dtheta . direction."""
        return jvp(self.nodes, (theta,), (direction,))[1]

    def pull_back(self, theta: Tensor, nodal_gradient: Tensor) -> Tensor:
        """(P,) gradient in theta from a gradient (N, 3) with respect to the mesh nodes."""
        return torch.func.vjp(self.nodes, theta)[1](nodal_gradient)[0]

    @full_precision
    def least_gradient(self, theta: Tensor, sharpness: float = 300.0) -> Tensor:
        """(...) smooth lower bound of the least det grad F in the part, for designs theta (..., P).

        Over the vertices and the middles of the cells; below the least of these values by at most log(n) / sharpness.
        """
        gradients = gradient_of(constant(self._sample_gradients, theta), self.form.control_points(theta))
        return smooth_minimum(determinant(gradients), sharpness)

    def check(self, theta: Tensor) -> float:
        """Least det grad F at the nodes and 27 quadrature points of each cell.

        Raises:
            ShapeError: it is not positive.
        """
        inside = cell_points(self.mesh, self.reference_nodes).points.flatten(0, -2)
        return self.form.check(theta, torch.cat([self.reference_nodes, inside]))


def pulled_back(form: FreeForm, theta: Tensor, mesh: Mesh) -> SolidMap:
    """The map on a fresh mesh of the solid deformed by a design theta (P,): its nodes are taken back to the original.

    At ``theta`` the nodes are those of ``mesh`` again; elsewhere they are those of a mesh made for shapes near it.

    Raises:
        ShapeError: a node has no origin, or a cell is folded where the nodes come from.
    """
    origins = form.inverse(theta, torch.from_numpy(mesh.nodes))
    moved = mesh.moved(origins.numpy())
    least = float(bernstein_jacobians(moved, origins).min())
    if not least > 0:
        raise ShapeError(
            f"pulled-back mesh: the least Jacobian of a cell is {least:.3g}; it must be positive (smaller cells, or"
            " wider zones around the faces that stay)"
        )
    return SolidMap(form, moved)
