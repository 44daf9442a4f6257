"""Coordinates in which the latent grid is fine around the part that changes and coarse far away.

``c + l asinh((x - c) / l)`` along each axis: lengths near the center c are kept, far away they shrink like l / |x - c|,
so that a wide domain leaves most nodes to where fields vary. Quadrature weights are taken along: of the interior by the
determinant, of the boundary by the stretch along it, so that both measure what the grid sees. Training measures its
errors with the same weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shapewright.geometries.design.point_cloud import PointCloud
from shapewright.geometries.mesh.constants import constant


@dataclass(frozen=True)
class GradedCoordinates:
    """Center, one entry per axis, and the length beyond which coordinates shrink."""

    center: tuple[float, ...]
    length: float

    def map(self, points: Tensor) -> Tensor:
        """(..., d) points to their coordinates; smooth and increasing along each axis."""
        center = constant(self.center, points)
        return center + self.length * torch.asinh((points - center) / self.length)

    def slopes(self, points: Tensor) -> Tensor:
        """(..., d) derivative of each coordinate along its axis, from 1 at the center towards 0."""
        return torch.rsqrt(1 + ((points - constant(self.center, points)) / self.length).square())

    def interior(self, cloud: PointCloud) -> PointCloud:
        """Points of the interior with weights that sum to the measure in these coordinates."""
        density = math.prod(self.slopes(cloud.points).unbind(-1))  # torch's product asks the device for zeros
        return replace(cloud, points=self.map(cloud.points), weights=cloud.weights * density)

    def boundary(self, cloud: PointCloud) -> PointCloud:
        """Points of a plane boundary with weights that sum to its length in these coordinates; normals stay."""
        tangents = cloud.normals.flip(-1)  # up to a sign, which lengths do not see
        stretch = (self.slopes(cloud.points) * tangents).norm(dim=-1)
        return replace(cloud, points=self.map(cloud.points), weights=cloud.weights * stretch)
