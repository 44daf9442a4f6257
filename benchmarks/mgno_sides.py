"""The same mollified graph neural operator twice: ours, and put together from neuraloperator's layers.

Both read an interior and a boundary cloud into a latent grid by mollified kernel integrals with a perceptron of one
hidden layer, apply four Fourier blocks, and integrate back to the queries: same radius, octic mollifier, sums,
widths, modes and points. Their Fourier block has a two-layer channel perceptron of half width where ours has one
layer: the same multiplications. Encoders and decoder are the same function, and :func:`copy_kernels` makes them equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.geometries.design.point_cloud import INTERIOR, PointCloud
from shapewright.surrogate.mgno.derivatives import field_derivatives
from shapewright.surrogate.mgno.latent_grid import LatentGrid, grid_around
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig

CASES = ("neighbour search", "encoder", "decoder", "forward", "forward+backward", "physics step")
WIDTH, LAYERS, RADIUS = 32, 4, 2


@dataclass(frozen=True)
class Data:
    """Clouds of one shape and the points to answer, random in the unit cube."""

    grid: LatentGrid
    interior: PointCloud
    boundary: PointCloud
    queries: Tensor

    @property
    def owner(self) -> Tensor:
        """(N,) the one shape."""
        return torch.zeros(len(self.queries), dtype=torch.int64, device=self.queries.device)


def modes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Fourier modes kept along each axis: ten in the plane and four in space, or all that the grid resolves."""
    return tuple(min(10 if len(shape) == 2 else 4, count // 2) for count in shape)


def data(shape: tuple[int, ...], points: int) -> Data:
    """``points`` inside, an eighth of them on a sphere as boundary, and as many queries."""
    torch.manual_seed(0)
    dimension = len(shape)
    inside = torch.rand(points, dimension)
    normals = functional.normalize(torch.randn(max(1, points // 8), dimension), dim=-1)
    return Data(
        grid_around([0.0] * dimension, [1.0] * dimension, shape, RADIUS),
        _cloud(inside, torch.zeros_like(inside), INTERIOR),
        _cloud(0.5 + 0.5 * normals, normals, 0),
        torch.rand(points, dimension),
    )


def _cloud(points: Tensor, normals: Tensor, tag: int) -> PointCloud:
    count = len(points)
    tags, offsets = torch.full((count,), tag), torch.tensor([0, count])
    return PointCloud(points, torch.full((count,), 1 / count), normals, tags, offsets, ("wall",))


def ours(shape: tuple[int, ...]) -> MollifiedGraphNeuralOperator:
    """Our network, decoding by sums as theirs does."""
    torch.manual_seed(1)
    grid = grid_around([0.0] * len(shape), [1.0] * len(shape), shape, RADIUS)
    config = OperatorConfig(WIDTH, WIDTH, modes_of(shape), LAYERS, reduction="integral")
    return MollifiedGraphNeuralOperator(grid, config, 0, 1, 1)


class Theirs(nn.Module):
    """The same of neuraloperator's layers, with its own neighbour search."""

    def __init__(self, grid: LatentGrid, library: ModuleType, quadrature: tuple[float, float]) -> None:
        super().__init__()
        dimension, (step, *_) = grid.dimension, grid.spacing
        self.shape, self.radius = grid.shape, step * RADIUS
        axes = [start + step * torch.arange(count) for start, count in zip(grid.origin, grid.shape, strict=True)]
        self.register_buffer("nodes", torch.cartesian_prod(*axes))
        self.register_buffer("coordinates", grid.coordinates(self.nodes).flatten(0, -2))
        self.interior = self._kernel(library, 1, dimension, quadrature[0])
        self.boundary = self._kernel(library, dimension + 1, dimension, quadrature[1])
        self.decoder = self._kernel(library, WIDTH, dimension, RADIUS**-dimension)
        self.lift, self.projection = nn.Linear(dimension, WIDTH), nn.Linear(WIDTH, 1)
        *full, last = modes_of(grid.shape)
        self.blocks = library.FNOBlocks(
            WIDTH,
            WIDTH,
            n_modes=(*(2 * m for m in full), 2 * last - 2),  # of the last axis it keeps half and one
            n_layers=LAYERS,
            use_channel_mlp=True,
            channel_mlp_expansion=0.5,
            channel_mlp_skip="identity",
        )

    def _kernel(self, library: ModuleType, features: int, dimension: int, scale: float) -> nn.Module:
        return library.GNOBlock(
            features,
            WIDTH,
            dimension,
            self.radius,
            transform_type="nonlinear_kernelonly",
            weighting_fn=partial(library.octic_cutoff, radius=self.radius**2, scale=scale),
            reduction="sum",
            pos_embedding_type=None,
            channel_mlp_layers=[2 * dimension + features, WIDTH, WIDTH],  # [WIDTH] alone would have no hidden layer
            use_torch_scatter_reduce=False,
            use_open3d_neighbor_search=False,
        )

    def read(self, interior: PointCloud, boundary: PointCloud) -> Tensor:
        """(nodes, width) the two encoders and the lifted coordinates."""
        outer = torch.cat([boundary.normals, boundary.normals.new_ones(len(boundary.normals), 1)], -1)
        inner = interior.points.new_ones(1, len(interior.points), 1)
        latent = self.lift(self.coordinates) + self.interior(y=interior.points, x=self.nodes, f_y=inner)[0]
        return latent + self.boundary(y=boundary.points, x=self.nodes, f_y=outer[None])[0]

    def encode(self, interior: PointCloud, boundary: PointCloud) -> Tensor:
        """(nodes, width) latent fields."""
        latent = self.read(interior, boundary).mT.unflatten(-1, self.shape)[None]
        for layer in range(LAYERS):
            latent = self.blocks(latent, layer)
        return latent.flatten(2)[0].mT

    def decode(self, latent: Tensor, queries: Tensor) -> Tensor:
        """(N, 1) at the queries."""
        return self.projection(functional.gelu(self.decoder(y=self.nodes, x=queries, f_y=latent[None])[0]))


def theirs(given: Data, library: ModuleType) -> Theirs:
    """Their network for ``given``, whose equal quadrature weights are the scales of its mollifiers."""
    torch.manual_seed(2)
    measure = given.grid.cell_measure
    surface = measure ** (1 - 1 / given.grid.dimension)
    weights = float(given.interior.weights[0]) / measure, float(given.boundary.weights[0]) / surface
    return Theirs(given.grid, library, weights)


@torch.no_grad()
def copy_kernels(source: MollifiedGraphNeuralOperator, target: Theirs) -> None:
    """Give their kernels our weights. Both decoders lose their bias: theirs is inside the sum, ours outside."""
    source.decoder.readout.bias.zero_()
    for name in ("interior", "boundary", "decoder"):
        mine, (first, last) = getattr(source, name), getattr(target, name).integral_transform.channel_mlp.fcs
        features = mine.per_node if name == "decoder" else mine.per_point
        sign = 1 if name == "decoder" else -1  # they integrate over the first of (y, x): nodes when decoding
        towards = sign * mine.per_edge.weight / target.radius
        first.weight.copy_(torch.cat([towards, -towards, features.weight], 1))
        first.bias.copy_(features.bias)
        last.weight.copy_(mine.readout.weight)
        last.bias.zero_()
    target.lift.load_state_dict(source.lift.state_dict())
    target.projection.load_state_dict(source.projection.state_dict())


def our_step(case: str, network: MollifiedGraphNeuralOperator, given: Data) -> Callable[[], object]:
    """What is measured of ours."""
    weights = list(network.parameters())
    with torch.no_grad():
        latent = torch.randn(1, *given.grid.shape, WIDTH).to(given.queries)

    def physics() -> tuple[Tensor, ...]:
        encoded = network.encode(given.interior, given.boundary)
        found = field_derivatives(network, encoded, given.queries, given.owner, 2, second="laplacian")
        return torch.autograd.grad(_loss(found.values, found.gradients, found.laplacians), weights)

    def forward() -> Tensor:
        return network(given.interior, given.boundary, given.queries, given.owner)

    def read() -> Tensor:
        measure, interior = given.grid.cell_measure, given.interior
        ones = interior.weights.new_ones(len(interior.weights), 1)
        return network.interior(interior.points, interior.weights / measure, ones, interior.shape_index, 1)

    return {
        "neighbour search": lambda: given.grid.neighbours(given.queries, given.owner),
        "encoder": torch.no_grad()(read),
        "decoder": torch.no_grad()(lambda: network.decode(latent, given.queries, given.owner)),
        "forward": torch.no_grad()(forward),
        "forward+backward": lambda: torch.autograd.grad(forward().square().mean(), weights),
        "physics step": physics,
    }[case]


def their_step(case: str, network: Theirs, given: Data) -> Callable[[], object]:
    """What is measured of theirs; derivatives in the queries are nested reverse mode, the only one it has."""
    weights = list(network.parameters())
    latent = torch.randn(given.grid.nodes, WIDTH)

    def physics() -> tuple[Tensor | None, ...]:
        queries = given.queries.clone().requires_grad_()
        values = network.decode(network.encode(given.interior, given.boundary), queries)
        gradients = torch.autograd.grad(values.sum(), queries, create_graph=True)[0]
        rows = [torch.autograd.grad(g.sum(), queries, create_graph=True)[0] for g in gradients.unbind(-1)]
        laplacians = sum(row[:, axis] for axis, row in enumerate(rows))
        return torch.autograd.grad(_loss(values, gradients, laplacians), weights, allow_unused=True)

    def forward() -> Tensor:
        return network.decode(network.encode(given.interior, given.boundary), given.queries)

    def read() -> Tensor:
        inner = given.interior.points.new_ones(1, len(given.interior.points), 1)
        return network.interior(y=given.interior.points, x=network.nodes, f_y=inner)

    return {
        "neighbour search": lambda: network.decoder.neighbor_search(network.nodes, given.queries, network.radius),
        "encoder": torch.no_grad()(read),
        "decoder": torch.no_grad()(lambda: network.decode(latent, given.queries)),
        "forward": torch.no_grad()(forward),
        "forward+backward": lambda: torch.autograd.grad(forward().square().mean(), weights),
        "physics step": physics,
    }[case]


def _loss(values: Tensor, gradients: Tensor, laplacians: Tensor) -> Tensor:
    return values.square().mean() + gradients.square().mean() + laplacians.square().mean()
