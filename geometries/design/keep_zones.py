"""Zones of a solid that a deformation leaves as they are, and how its freedom grows away from them.

A zone has a bump: 1 on the zone and 0 beyond ``width`` of it, by a septic smoothstep, which is three times
continuously differentiable. The freedom of a point is the product of 1 - bump over all zones, exactly 0 on a zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Vector = tuple[float, float, float]


class KeepZone(Protocol):
    """A zone that stays, with the width over which the freedom grows beside it, in the study's length unit."""

    @property
    def width(self) -> float:
        """Of the ramp beside the zone."""
        ...

    def bump(self, points: Tensor) -> Tensor:
        """(n,) 1 on the zone to 0 beyond its width, for points (n, 3)."""
        ...


def fall(distance: Tensor, width: float) -> Tensor:
    """1 where ``distance`` <= 0 to 0 where it is ``width`` or more; three times continuously differentiable."""
    t = (distance / width).clamp(0, 1)
    return 1 - t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)


@dataclass(frozen=True)
class KeptCylinder:
    """A solid cylinder: a bore with what is in it, or a boss.

    Attributes:
        centre: of the axis between both ends.
        axis: unit vector.
        radius: of the cylinder.
        half_length: of the axis.
        width: over which the freedom grows, outwards and beyond both ends.
        margin: by which the zone is larger than the cylinder.
    """

    centre: Vector
    axis: Vector
    radius: float
    half_length: float
    width: float
    margin: float = 0.0

    def bump(self, points: Tensor) -> Tensor:
        """(n,) see :class:`KeepZone`."""
        offset = points - points.new_tensor(self.centre)
        axis = points.new_tensor(self.axis)
        along = offset @ axis
        across = torch.linalg.vector_norm(offset - along[:, None] * axis, dim=-1)
        outside = fall(across - self.radius - self.margin, self.width)
        return outside * fall(along.abs() - self.half_length - self.margin, self.width)


@dataclass(frozen=True)
class KeptBox:
    """A box, also a flat one around a plane face.

    Attributes:
        centre: of the box.
        axes: three orthonormal vectors along its sides.
        half: half its extent along each of them.
        width: over which the freedom grows on all sides.
        margin: by which the zone is larger than the box.
    """

    centre: Vector
    axes: tuple[Vector, Vector, Vector]
    half: Vector
    width: float
    margin: float = 0.0

    def bump(self, points: Tensor) -> Tensor:
        """(n,) see :class:`KeepZone`."""
        local = (points - points.new_tensor(self.centre)) @ points.new_tensor(self.axes).mT
        return fall(local.abs() - points.new_tensor(self.half) - self.margin, self.width).prod(-1)


@dataclass(frozen=True)
class KeptPlane:
    """All that lies within ``margin`` of a plane through ``origin`` with unit ``normal``."""

    origin: Vector
    normal: Vector
    width: float
    margin: float = 0.0

    def bump(self, points: Tensor) -> Tensor:
        """(n,) see :class:`KeepZone`."""
        height = (points - points.new_tensor(self.origin)) @ points.new_tensor(self.normal)
        return fall(height.abs() - self.margin, self.width)


def freedom(zones: Sequence[KeepZone], points: Tensor) -> Tensor:
    """(n,) 0 on a zone to 1 beyond the widths of all, for points (n, 3)."""
    value = points.new_ones(len(points))
    for zone in zones:
        value = value * (1 - zone.bump(points))
    return value


def freedom_gradient(zones: Sequence[KeepZone], points: Tensor) -> Tensor:
    """(n, 3) derivative of :func:`freedom` with respect to the position."""
    if not zones:
        return torch.zeros_like(points)
    with torch.enable_grad():
        at = points.detach().requires_grad_()
        return torch.autograd.grad(freedom(zones, at).sum(), at)[0]
