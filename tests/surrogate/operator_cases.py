"""Small random networks and point clouds in two and three dimensions."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from shapewright.geometries.design.point_cloud import PointCloud
from shapewright.surrogate.mgno.kernel_integral import Decoder, Encoder
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.mgno.mollifier import mollifier_named
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig

GRIDS = {
    2: LatentGrid((-0.6, -0.4), (0.2, 0.25), (9, 10), radius=2),
    3: LatentGrid((-0.3, -0.2, -0.4), (0.4, 0.3, 0.35), (5, 6, 5), radius=1),
}
TAGS = ("wall", "inlet")


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers in [0, 1)."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def random_points(grid: LatentGrid, count: int, seed: int = 0) -> Tensor:
    """(count, d) points in the middle part of the box that the grid takes."""
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in grid.box)
    return low + (0.05 + 0.9 * uniform(torch.Generator().manual_seed(seed), count, grid.dimension)) * (high - low)


def random_cloud(grid: LatentGrid, counts: list[int], seed: int = 0, boundary: bool = False) -> PointCloud:
    """A ragged batch; boundary clouds have unit normals and tags."""
    generator = torch.Generator().manual_seed(seed + 100)
    total = sum(counts)
    normals = torch.zeros(total, grid.dimension, dtype=torch.float64)
    tags = torch.full((total,), -1)
    if boundary:
        normals = uniform(generator, total, grid.dimension) - 0.5
        normals = normals / normals.norm(dim=-1, keepdim=True)
        tags = torch.randint(len(TAGS), (total,), generator=generator)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    points = random_points(grid, total, seed)
    return PointCloud(points, 0.1 + uniform(generator, total), normals, tags, offsets, TAGS)


def picked(cloud: PointCloud, index: Tensor) -> PointCloud:
    """A single shape made of the points ``index`` of a cloud of one shape."""
    parts = {name: getattr(cloud, name)[index] for name in ("points", "weights", "normals", "tags")}
    return replace(cloud, **parts, offsets=torch.tensor([0, len(index)]))


def encoder(dimension: int, mollifier: str = "octic", features: int = 2) -> Encoder:
    """With hidden width 5 and 3 channels."""
    torch.manual_seed(1)
    return Encoder(GRIDS[dimension], mollifier_named(mollifier), features, 5, 3).double()


def decoder(dimension: int, mollifier: str = "octic", reduction: str = "mean") -> Decoder:
    """From 3 channels by hidden width 5 to 2 outputs."""
    torch.manual_seed(2)
    return Decoder(GRIDS[dimension], mollifier_named(mollifier), 3, 5, 2, reduction).double()


def random_latent(dimension: int, shapes: int = 1) -> Tensor:
    """(shapes, *grid, 3)."""
    generator = torch.Generator().manual_seed(3)
    return 4 * uniform(generator, shapes, *GRIDS[dimension].shape, 3) - 2


def operator(
    dimension: int,
    mollifier: str = "octic",
    input_functions: int = 0,
    grid: LatentGrid | None = None,
    boundary_functions: int = 0,
    reduction: str = "mean",
) -> MollifiedGraphNeuralOperator:
    """A whole network with two outputs."""
    torch.manual_seed(4)
    config = OperatorConfig(
        width=4, hidden=5, modes=(2,) * dimension, layers=2, mollifier=mollifier, reduction=reduction
    )
    grid = grid or GRIDS[dimension]
    return MollifiedGraphNeuralOperator(
        grid, config, input_functions, len(TAGS), 2, boundary_functions=boundary_functions
    ).double()


def owners(count: int) -> Tensor:
    """All of the first shape."""
    return torch.zeros(count, dtype=torch.int64)
