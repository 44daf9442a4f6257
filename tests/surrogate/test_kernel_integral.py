"""Encoder and decoder against their formula, and every derivative against finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.surrogate.formulas import WEIGHTS, gelu, grid_nodes, scaled_offset
from tests.surrogate.operator_cases import GRIDS, decoder, encoder, owners, random_cloud, random_latent, random_points

both = pytest.mark.parametrize("dimension", GRIDS)
mollifiers = pytest.mark.parametrize("mollifier", WEIGHTS)


def parameters(module):
    return {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}


def features_of(cloud):
    return torch.stack([torch.sin(3 * cloud.points[:, 0]), cloud.points[:, 1] ** 2], -1)


@both
@mollifiers
def test_encoder_equals_a_loop_over_all_pairs(dimension, mollifier):
    grid, module = GRIDS[dimension], encoder(dimension, mollifier)
    cloud = random_cloud(grid, [7, 12])
    features, owner = features_of(cloud), cloud.shape_index
    p = {name: value.numpy() for name, value in module.state_dict().items()}
    expected = np.zeros((2, *grid.shape, 3))
    for point, weight, feature, shape in zip(
        *(part.numpy() for part in (cloud.points, cloud.weights, features, owner)), strict=True
    ):
        for index, node in grid_nodes(grid).items():
            offset = scaled_offset(grid, node, point)
            kernel = p["readout.weight"] @ gelu(
                p["per_point.weight"] @ feature + p["per_point.bias"] + p["per_edge.weight"] @ offset
            )
            expected[(shape, *index)] += WEIGHTS[mollifier](float(offset @ offset)) * weight * kernel
    result = module(cloud.points, cloud.weights, features, owner, 2).detach().numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-12)


@both
@mollifiers
def test_decoder_equals_a_loop_over_all_pairs(dimension, mollifier):
    """The weights of a regular grid's nodes are equal and cancel in the mean over the neighbourhood."""
    grid, module, latent = GRIDS[dimension], decoder(dimension, mollifier), random_latent(dimension, 2)
    queries, owner = random_points(grid, 9, seed=5), torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 0])
    p = {name: value.numpy() for name, value in module.state_dict().items()}
    expected = np.zeros((9, 2))
    for row, (query, shape) in enumerate(zip(queries.numpy(), owner.tolist(), strict=True)):
        total, measure = np.zeros(5), 0.0
        for index, node in grid_nodes(grid).items():
            offset = scaled_offset(grid, node, query)
            weight = WEIGHTS[mollifier](float(offset @ offset)) * grid.cell_measure
            field = p["per_node.weight"] @ latent[(shape, *index)].numpy() + p["per_node.bias"]
            total += weight * gelu(field + p["per_edge.weight"] @ offset)
            measure += weight
        expected[row] = p["readout.weight"] @ (total / measure) + p["readout.bias"]
    np.testing.assert_allclose(module(latent, queries, owner).detach().numpy(), expected, atol=1e-12)


@both
@mollifiers
def test_decoder_derivatives_in_queries_latent_fields_and_weights(dimension, mollifier):
    module, latent = decoder(dimension, mollifier), random_latent(dimension).requires_grad_()
    queries, weights = random_points(GRIDS[dimension], 4, seed=6).requires_grad_(), parameters(module)

    def apply(x, u, *values):
        return torch.func.functional_call(module, dict(zip(weights, values, strict=True)), (u, x, owners(4)))

    def in_queries(x):
        return apply(x, latent.detach(), *(value.detach() for value in weights.values()))

    assert torch.autograd.gradcheck(in_queries, (queries,), check_forward_ad=True)
    assert torch.autograd.gradcheck(apply, (queries, latent, *weights.values()), fast_mode=True)


@both
@pytest.mark.parametrize("mollifier", ["bump", "octic"])
def test_second_derivatives_in_queries(dimension, mollifier):
    """Central differences of step 1e-6 of the first derivatives, in every pair of coordinates."""
    module, latent = decoder(dimension, mollifier), random_latent(dimension)
    queries = random_points(GRIDS[dimension], 5, seed=7)

    def slope(x):
        x = x.detach().requires_grad_()
        values = module(latent, x, owners(5))
        return torch.stack([torch.autograd.grad(c.sum(), x, create_graph=True)[0] for c in values.unbind(-1)], 1), x

    first, x = slope(queries)
    for axis in range(dimension):
        step = torch.zeros_like(queries)
        step[:, axis] = 1e-6
        expected = (slope(queries + step)[0] - slope(queries - step)[0]) / 2e-6
        for other in range(dimension):
            for output in range(2):
                second = torch.autograd.grad(first[:, output, other].sum(), x, retain_graph=True)[0][:, axis]
                torch.testing.assert_close(second, expected[:, output, other], atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradgradcheck(lambda x: module(latent, x, owners(5)), (queries.requires_grad_(),))


@both
def test_a_derivative_in_the_queries_is_differentiable_in_the_network(dimension):
    """What training on spatial slopes or on a strong residual needs."""
    module, latent = decoder(dimension), random_latent(dimension)
    queries, weights = random_points(GRIDS[dimension], 3, seed=8), parameters(module)

    def slope(*values):
        x = queries.clone().requires_grad_()
        out = torch.func.functional_call(module, dict(zip(weights, values, strict=True)), (latent, x, owners(3)))
        return torch.autograd.grad((out * torch.tensor([1.0, -0.7])).sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(slope, tuple(weights.values()))


@both
@mollifiers
def test_encoder_derivatives_in_points_weights_features_and_network(dimension, mollifier):
    grid, module = GRIDS[dimension], encoder(dimension, mollifier)
    cloud, weights = random_cloud(grid, [3, 2]), parameters(module)
    inputs = [part.clone().requires_grad_() for part in (cloud.points, cloud.weights, features_of(cloud))]
    # a fixed combination of the outputs, so that all of its derivatives are compared one by one
    seen = torch.randn(2, *grid.shape, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def apply(points, q, f, *values):
        named = dict(zip(weights, values, strict=True))
        return (torch.func.functional_call(module, named, (points, q, f, cloud.shape_index, 2)) * seen).sum()

    assert torch.autograd.gradcheck(apply, (*inputs, *weights.values()), check_forward_ad=True)
    if mollifier in ("bump", "octic"):
        frozen = [value.detach() for value in weights.values()]
        assert torch.autograd.gradgradcheck(lambda *given: apply(*given, *frozen), tuple(inputs))


@both
def test_encoder_is_linear_in_the_quadrature_weights(dimension):
    module, cloud = encoder(dimension), random_cloud(GRIDS[dimension], [8])
    features = features_of(cloud)

    def apply(weights):
        return module(cloud.points, weights, features, cloud.shape_index, 1)

    torch.testing.assert_close(apply(2 * cloud.weights), 2 * apply(cloud.weights))
    assert not apply(torch.zeros_like(cloud.weights)).any()


def test_encoder_converges_with_the_cloud():
    """Midpoint rule on a square: order 2, from the neighbourhoods that the square's edge cuts."""
    module = encoder(2)

    def encode(n):
        ticks = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 0.8 - 0.1
        points = torch.cartesian_prod(ticks, ticks)
        features = torch.stack([torch.sin(3 * points[:, 0]), points[:, 1] ** 2], -1)
        weights = torch.full((n * n,), (0.8 / n) ** 2, dtype=torch.float64)
        return module(points, weights, features, owners(n * n), 1).detach()

    levels = [encode(n) for n in (16, 32, 64, 128)]
    changes = [float((a - b).abs().max()) for a, b in itertools.pairwise(levels)]
    orders = [float(np.log2(a / b)) for a, b in itertools.pairwise(changes)]
    print(f"changes {changes}, observed orders {orders}")
    assert min(orders) > 1.8
    assert changes[-1] < 1e-3 * float(levels[-1].abs().max())
