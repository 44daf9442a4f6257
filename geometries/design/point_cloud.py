"""Point clouds of shapes: positions, quadrature weights, normals and region tags, ragged-batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.mesh.constants import constant, is_capturing
from shapewright.geometries.mesh.integration import cell_points, facet_points, nodal_weights
from shapewright.geometries.mesh.jacobians import determinant

INTERIOR = -1


@dataclass(frozen=True)
class PointCloud:
    """Points of one or several shapes, one after another.

    Attributes:
        points: (N, d) positions.
        weights: (N,) quadrature weights; over each shape they sum to its measure.
        normals: (N, d) outward normals, zero at interior points.
        tags: (N,) int64 index into ``tag_names``, ``INTERIOR`` inside.
        offsets: (B + 1,) int64; shape b owns the points offsets[b]:offsets[b + 1].
        tag_names: names of the boundary regions.
    """

    points: Tensor
    weights: Tensor
    normals: Tensor
    tags: Tensor
    offsets: Tensor
    tag_names: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.points)
        owned = count if is_capturing(self.offsets) else int(self.offsets[-1])
        if not len(self.weights) == len(self.normals) == len(self.tags) == count == owned:
            raise ValueError(
                f"point cloud: {count} points, {len(self.weights)} weights, {len(self.normals)} normals,"
                f" {len(self.tags)} tags, offsets to {int(self.offsets[-1])}; all must agree"
            )

    @property
    def shapes(self) -> int:
        """Number of shapes B."""
        return len(self.offsets) - 1

    @property
    def shape_index(self) -> Tensor:
        """(N,) int64 shape of every point."""
        counts = self.offsets[1:] - self.offsets[:-1]
        shapes = torch.arange(self.shapes, device=self.points.device)
        return torch.repeat_interleave(shapes, counts, output_size=len(self.points))  # which asks the device nothing

    def measures(self) -> Tensor:
        """(B,) sum of the weights of each shape."""
        return self.weights.new_zeros(self.shapes).index_add(0, self.shape_index, self.weights)

    def to(self, *args: object, **kwargs: object) -> PointCloud:
        """The cloud in another dtype or on another device."""
        moved = {name: getattr(self, name).to(*args, **kwargs) for name in ("points", "weights", "normals")}
        device = moved["points"].device
        return replace(self, **moved, tags=self.tags.to(device), offsets=self.offsets.to(device))


def concatenate(clouds: Sequence[PointCloud]) -> PointCloud:
    """One ragged batch of several clouds with the same regions.

    Raises:
        ValueError: the clouds name different regions.
    """
    names = {cloud.tag_names for cloud in clouds}
    if len(names) != 1:
        raise ValueError(f"point clouds with different boundary regions cannot be batched: {sorted(names)}")
    counts = torch.cat([cloud.offsets[1:] - cloud.offsets[:-1] for cloud in clouds])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    parts = {
        name: torch.cat([getattr(cloud, name) for cloud in clouds]) for name in ("points", "weights", "normals", "tags")
    }
    return PointCloud(**parts, offsets=offsets, tag_names=clouds[0].tag_names)


def _equal_sized(points: Tensor, weights: Tensor, normals: Tensor, tags: Tensor, names: tuple[str, ...]) -> PointCloud:
    shapes, count = weights.shape
    return PointCloud(
        points=points.reshape(shapes * count, -1),
        weights=weights.reshape(-1),
        normals=normals.reshape(shapes * count, -1),
        tags=tags.repeat(shapes),
        offsets=torch.arange(shapes + 1, device=points.device) * count,
        tag_names=names,
    )


def nodal_cloud(shape_map: ShapeMap, nodes: Tensor) -> PointCloud:
    """Mesh nodes (B, N, 2) of a batch of designs with their quadrature weights, all tagged interior."""
    tags = torch.full((nodes.shape[1],), INTERIOR, device=nodes.device)
    return _equal_sized(
        nodes, nodal_weights(shape_map.mesh, nodes), torch.zeros_like(nodes), tags, shape_map.mesh.tag_names
    )


def boundary_cloud(shape_map: ShapeMap, nodes: Tensor, points_per_side: int = 2) -> PointCloud:
    """Gauss points of the boundary of designs with nodes (B, N, 2): arc-length weights, normals, tags."""
    mesh = shape_map.mesh
    facets = facet_points(mesh, nodes, points_per_side=points_per_side)
    tags = constant(np.repeat(mesh.facet_tags, points_per_side), nodes, torch.int64)
    points, normals = (part.flatten(1, 2) for part in (facets.points, facets.normals))
    return _equal_sized(points, facets.weights.flatten(1), normals, tags, mesh.tag_names)


def sobol_cloud(shape_map: ShapeMap, nodes: Tensor, count: int, seed: int = 0) -> PointCloud:
    """``count`` quasi-random interior points that move with the cells of designs with nodes (B, N, 2).

    Sobol numbers choose a cell by area in the reference mesh and a position in it (square folded to triangle).
    The weight is the Jacobian there over the density of positions, scaled so that each shape's weights sum to its area.
    """
    sobol = qmc.Sobol(3, seed=seed).random_base2(max(count - 1, 1).bit_length())[:count]
    reference = cell_points(shape_map.mesh, shape_map.reference_nodes).weights.sum(-1)
    cumulative = (reference.cumsum(0) / reference.sum()).numpy()
    cell = torch.from_numpy(np.minimum(np.searchsorted(cumulative, sobol[:, 0]), len(cumulative) - 1))
    kind = shape_map.mesh.cell
    local = np.where(sobol[:, 1:].sum(-1, keepdims=True) > 1, 1 - sobol[:, 1:], sobol[:, 1:])
    owners = torch.from_numpy(shape_map.mesh.cells)[cell].to(nodes.device)
    values, gradients = (torch.from_numpy(f(local)).to(nodes) for f in (kind.shape_functions, kind.shape_gradients))
    points = torch.einsum("...qid,qi->...qd", nodes[..., owners, :], values)
    jacobian = torch.einsum("...qid,qik->...qdk", nodes[..., owners, :], gradients)
    ratio = determinant(jacobian) / reference[cell].to(nodes)
    area = cell_points(shape_map.mesh, nodes).weights.sum((-1, -2))
    weights = ratio / ratio.sum(-1, keepdim=True) * area[..., None]
    tags = torch.full((count,), INTERIOR, device=nodes.device)
    return _equal_sized(points, weights, torch.zeros_like(points), tags, shape_map.mesh.tag_names)
