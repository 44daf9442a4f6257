"""The mollified graph neural operator (mGNO): clouds -> latent grid -> Fourier blocks -> any query point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.geometries.design.point_cloud import PointCloud
from shapewright.surrogate.mgno.fourier_blocks import FourierBlock, check_modes
from shapewright.surrogate.mgno.kernel_integral import Decoder, Encoder
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.mgno.mollifier import mollifier_named


@dataclass(frozen=True)
class OperatorConfig:
    """Sizes of an mGNO.

    Attributes:
        width: channels on the latent grid.
        hidden: hidden width of the kernels and of the pointwise projection.
        modes: Fourier modes kept along each axis.
        layers: number of Fourier blocks.
        mollifier: a name of :data:`surrogate.mollifier.MOLLIFIERS`.
        reduction: of the decoder over a neighbourhood, "mean" or "integral".
    """

    width: int = 32
    hidden: int = 32
    modes: tuple[int, ...] = (10, 10)
    layers: int = 4
    mollifier: str = "octic"
    reduction: str = "mean"


class MollifiedGraphNeuralOperator(nn.Module):
    """Fields at query points from an interior and a boundary point cloud.

    Args:
        grid: latent grid.
        config: sizes.
        input_functions: number of functions given at interior points beside the constant one.
        tags: number of boundary regions.
        outputs: number of field components.
        boundary_functions: number of functions given at boundary points beside normals and tags.
    """

    def __init__(
        self,
        grid: LatentGrid,
        config: OperatorConfig,
        input_functions: int,
        tags: int,
        outputs: int,
        boundary_functions: int = 0,
    ) -> None:
        super().__init__()
        check_modes(config.modes, grid.shape)
        mollifier = mollifier_named(config.mollifier)
        self.grid, self.config, self.tags = grid, config, tags
        self.input_functions, self.boundary_functions = input_functions, boundary_functions
        dimension = grid.dimension
        self.interior = Encoder(grid, mollifier, 1 + input_functions, config.hidden, config.width)
        self.boundary = Encoder(
            grid, mollifier, dimension + tags + boundary_functions, config.hidden, config.width
        )
        self.lift = nn.Linear(dimension, config.width)
        self.blocks = nn.ModuleList(FourierBlock(config.width, config.modes) for _ in range(config.layers))
        self.decoder = Decoder(grid, mollifier, config.width, config.hidden, config.hidden, config.reduction)
        self.projection = nn.Linear(config.hidden, outputs)

    def encode(
        self,
        interior: PointCloud,
        boundary: PointCloud,
        functions: Tensor | None = None,
        boundary_functions: Tensor | None = None,
    ) -> Tensor:
        """(B, *grid, width) latent fields of B shapes: :meth:`encoding`, then :meth:`transform`."""
        return self.transform(self.encoding(interior, boundary, functions, boundary_functions))

    def encoding(
        self,
        interior: PointCloud,
        boundary: PointCloud,
        functions: Tensor | None = None,
        boundary_functions: Tensor | None = None,
    ) -> Tensor:
        """(B, *grid, width) sums of the kernel integrals over B shapes.

        Args:
            interior: points inside.
            boundary: points of the boundary, with normals and tags.
            functions: (N, c) input functions at the interior points.
            boundary_functions: (M, c) input functions at the boundary points.

        Raises:
            ValueError: the number of functions is not the one that the network was made for.
            OutsideGridError: a point leaves the latent grid.
        """
        _check_count("input functions", functions, self.input_functions)
        _check_count("boundary functions", boundary_functions, self.boundary_functions)
        measure = self.grid.cell_measure
        surface = measure ** (1 - 1 / self.grid.dimension)  # of a boundary point: one dimension less
        ones = interior.weights.new_ones(len(interior.weights), 1)
        inner = ones if functions is None else torch.cat([ones, functions], -1)
        tags = torch.arange(self.tags, device=boundary.tags.device)  # torch's one_hot reads the values
        known = [boundary.normals, (boundary.tags[:, None] == tags).to(boundary.normals)]
        outer = torch.cat(known if boundary_functions is None else [*known, boundary_functions], -1)
        return self.interior(
            interior.points, interior.weights / measure, inner, interior.shape_index, interior.shapes
        ) + self.boundary(boundary.points, boundary.weights / surface, outer, boundary.shape_index, boundary.shapes)

    def transform(self, encoding: Tensor) -> Tensor:
        """(B, *grid, width) latent fields: coordinates added, through the Fourier blocks."""
        latent = self.lift(self.grid.coordinates(encoding)) + encoding
        for block in self.blocks:
            latent = block(latent)
        return latent

    def decode(self, latent: Tensor, queries: Tensor, shape_index: Tensor) -> Tensor:
        """(N, outputs) at query points (N, d) of the shapes ``shape_index`` (N,)."""
        return self.projection(functional.gelu(self.decoder(latent, queries, shape_index)))

    def forward(
        self,
        interior: PointCloud,
        boundary: PointCloud,
        queries: Tensor,
        shape_index: Tensor,
        functions: Tensor | None = None,
        boundary_functions: Tensor | None = None,
    ) -> Tensor:
        """(N, outputs) at query points: :meth:`encode`, then :meth:`decode`."""
        return self.decode(self.encode(interior, boundary, functions, boundary_functions), queries, shape_index)


def _check_count(name: str, functions: Tensor | None, count: int) -> None:
    given = 0 if functions is None else functions.shape[-1]
    if given != count:
        raise ValueError(f"{given} {name} are given; this operator takes {count}")
