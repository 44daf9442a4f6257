"""The differentiable map from design parameters to the domain: X(theta) = X0 + E (C(theta) - C0)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.offset import offset_points
from shapewright.geometries.forward_mode import jvp
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.precision import full_precision


@dataclass(frozen=True)
class ShapeMap:
    """A family on its reference mesh.

    Attributes:
        family: parameters and curves.
        mesh: mesh of the design in the middle of the bounds, N nodes.
        extension: (N, n) harmonic extension of the boundary motion of each control point.
        made_for: family whose middle the mesh is of, where some of its parameters are held fixed in ``family``.
        offset: distance by which the boundary regions ``offset_on`` lie further out than the design's own.
    """

    family: Family
    mesh: Mesh
    extension: Tensor
    made_for: Family | None = None
    offset: float = 0.0
    offset_on: tuple[str, ...] = ()

    @property
    def bounds(self) -> Tensor:
        """(P, 2) float64 bounds of the design parameters."""
        return self.family.bounds

    @property
    def origin(self) -> Family:
        """The family with all its parameters free, in the middle of whose bounds the mesh was made."""
        return self.made_for or self.family

    def __post_init__(self) -> None:
        # before a transform of torch.func asks for them first: what it makes does not outlast it
        _ = self.reference_nodes, self._reference_points, self.reference_jacobians

    @cached_property
    def reference_nodes(self) -> Tensor:
        """(N, 2) float64 nodes of the reference design."""
        return torch.from_numpy(self.mesh.nodes)

    @cached_property
    def reference_jacobians(self) -> Tensor:
        """(M, b) float64 Bernstein coefficients of the Jacobian of each cell of the reference design."""
        return bernstein_jacobians(self.mesh, self.reference_nodes)

    @cached_property
    def _reference_points(self) -> Tensor:
        return self.origin.control_points(self.origin.reference)

    def control_points(self, theta: Tensor) -> Tensor:
        """(..., n, 2) control points of the designs theta (..., P), their boundary moved by the offset."""
        points = self.family.control_points(theta)
        return offset_points(self.family, points, self.offset, self.offset_on) if self.offset else points

    @full_precision
    def nodes(self, theta: Tensor) -> Tensor:
        """(..., N, 2) mesh nodes of the designs theta (..., P), in their dtype and on their device."""
        motion = self.control_points(theta) - constant(self._reference_points, theta)
        return constant(self.reference_nodes, theta) + constant(self.extension, theta) @ motion

    def velocity(self, theta: Tensor, direction: Tensor) -> Tensor:
        """(N, 2) motion of the nodes per unit step along ``direction`` (P,): dX/dtheta . direction."""
        return jvp(self.nodes, (theta,), (direction,))[1]

    def pull_back(self, theta: Tensor, nodal_gradient: Tensor) -> Tensor:
        """(P,) gradient in theta from a gradient (N, 2) with respect to the mesh nodes."""
        return torch.func.vjp(self.nodes, theta)[1](nodal_gradient)[0]
