"""What must not matter to the network: the order of points and shapes, how a weight is split, where the origin is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometries.design.point_cloud import concatenate
from shapewright.surrogate.mgno.derivatives import field_derivatives
from shapewright.surrogate.mgno.latent_grid import grid_around
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator
from tests.surrogate.operator_cases import (
    GRIDS,
    encoder,
    operator,
    owners,
    picked,
    random_cloud,
    random_points,
)

both = pytest.mark.parametrize("dimension", GRIDS)


def clouds(dimension, counts, seed=0):
    grid = GRIDS[dimension]
    return random_cloud(grid, counts, seed), random_cloud(
        grid, [count + 2 for count in counts], seed + 1, boundary=True
    )


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


@both
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_order_of_points(dimension, seed):
    network, (interior, boundary) = operator(dimension), clouds(dimension, [9], seed)
    generator = torch.Generator().manual_seed(seed)
    shuffled = [picked(cloud, torch.randperm(len(cloud.points), generator=generator)) for cloud in (interior, boundary)]
    close(network.encode(*shuffled), network.encode(interior, boundary))


@both
@given(seed=st.integers(0, 1000), count=st.integers(1, 12), part=st.floats(0.05, 0.95) | st.just(0.5))
@settings(max_examples=10)
def test_a_point_is_two_points_that_share_its_weight(dimension, seed, count, part):
    network, (interior, boundary) = operator(dimension), clouds(dimension, [count], seed)

    def doubled(cloud):
        twice = picked(cloud, torch.arange(len(cloud.points)).repeat(2))
        return replace(twice, weights=torch.cat([part * cloud.weights, (1 - part) * cloud.weights]))

    close(network.encode(doubled(interior), doubled(boundary)), network.encode(interior, boundary))


@both
def test_a_point_without_weight_is_not_there(dimension):
    network, (interior, boundary) = operator(dimension), clouds(dimension, [6])
    weights = interior.weights.clone()
    weights[2] = 0
    without = picked(interior, torch.tensor([0, 1, 3, 4, 5]))
    close(network.encode(replace(interior, weights=weights), boundary), network.encode(without, boundary))


@both
def test_ragged_batch_equals_one_by_one_in_any_order(dimension):
    network = operator(dimension)
    pairs = [clouds(dimension, [count], seed) for seed, count in enumerate((4, 11, 7))]
    queries = random_points(GRIDS[dimension], 5, seed=20)
    alone = [network(interior, boundary, queries, owners(5)) for interior, boundary in pairs]
    for order in ([0, 1, 2], [2, 0, 1]):
        interior, boundary = (concatenate([pairs[k][side] for k in order]) for side in (0, 1))
        together = network(interior, boundary, queries.repeat(3, 1), torch.arange(3).repeat_interleave(5))
        close(together, torch.cat([alone[k] for k in order]))
        mixed = torch.randperm(15, generator=torch.Generator().manual_seed(0))
        shuffled = network(interior, boundary, queries.repeat(3, 1)[mixed], torch.arange(3).repeat_interleave(5)[mixed])
        close(shuffled, together[mixed])


@both
@given(shift=st.lists(st.floats(-5, 5), min_size=3, max_size=3), seed=st.integers(0, 1000), count=st.integers(1, 12))
@settings(max_examples=10)
def test_the_domain_moves_together_with_the_grid(dimension, shift, seed, count):
    grid, (interior, boundary) = GRIDS[dimension], clouds(dimension, [count], seed)
    step = torch.tensor(shift[:dimension], dtype=torch.float64)
    moved = replace(grid, origin=tuple(o + s for o, s in zip(grid.origin, shift, strict=False)))
    queries = random_points(grid, 5, seed=21)
    here = operator(dimension)(interior, boundary, queries, owners(5))
    there = operator(dimension, grid=moved)(
        replace(interior, points=interior.points + step),
        replace(boundary, points=boundary.points + step),
        queries + step,
        owners(5),
    )
    torch.testing.assert_close(there, here, atol=1e-10, rtol=1e-10)


@both
def test_encoder_moves_by_whole_cells_with_the_points(dimension):
    grid, module = GRIDS[dimension], encoder(dimension)
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in grid.box)
    spacing = torch.tensor(grid.spacing, dtype=torch.float64)
    parameters = torch.rand(10, dimension, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    points = low + parameters * (high - low - spacing)
    features = parameters[:, :2]

    def encode(at):
        return module(at, parameters[:, 0], features, owners(10), 1)

    axes = tuple(range(1, dimension + 1))
    close(encode(points + spacing), encode(points).roll((1,) * dimension, axes))


PERIODIC = {
    (True, False): grid_around([0, -1], [2, 1], (8, 10), 2, periodic=(True, False)),
    (True, True): grid_around([0, -1], [2, 1], (8, 10), 2, periodic=(True, True)),
    (False, True, True): grid_around([0, 0, 0], [1, 1, 1], (7, 4, 6), 1, periodic=(False, True, True)),
}


def periodic_case(axes):
    """A network on a periodic grid, clouds and queries in its period."""
    grid = PERIODIC[axes]
    dimension, low = grid.dimension, torch.tensor(grid.origin, dtype=torch.float64)
    span = torch.tensor([h * n for h, n in zip(grid.spacing, grid.shape, strict=True)], dtype=torch.float64)
    wraps = torch.tensor(axes)
    margin = torch.where(wraps, 0.0, 0.3)

    def placed(cloud, seed):
        parameters = torch.rand(len(cloud.points), dimension, generator=torch.Generator().manual_seed(seed))
        return replace(cloud, points=low + (margin + (1 - 2 * margin) * parameters.double()) * span)

    cloud, rim = clouds(dimension, [9])
    queries = placed(clouds(dimension, [6], 3)[0], 5).points
    return operator(dimension, grid=grid), placed(cloud, 6), placed(rim, 7), queries, span * wraps


@pytest.mark.parametrize("axes", PERIODIC)
@given(periods=st.lists(st.integers(-5, 5), min_size=24, max_size=24))
@settings(max_examples=5)
def test_points_a_period_away_are_the_same_points(axes, periods):
    """Values and derivatives in the queries, for clouds and queries moved each by its own number of periods."""
    network, interior, boundary, queries, period = periodic_case(axes)
    steps = iter(periods)

    def moved(points):
        return points + torch.tensor([next(steps) for _ in points]).double()[:, None] * period

    here = network.encode(interior, boundary)
    there = network.encode(
        replace(interior, points=moved(interior.points)), replace(boundary, points=moved(boundary.points))
    )
    torch.testing.assert_close(there, here, atol=1e-10, rtol=1e-10)
    for derivative in ("values", "gradients", "hessians"):
        a, b = (
            getattr(field_derivatives(network, here, at, owners(6), order=2), derivative)
            for at in (queries, queries + 3 * period)
        )
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("axes", PERIODIC)
@given(cells=st.lists(st.integers(-20, 20), min_size=3, max_size=3))
@settings(max_examples=5)
def test_everything_moves_by_whole_cells_along_periodic_axes(axes, cells):
    """The Fourier blocks commute with a shift by grid nodes, and no coordinate tells the places apart."""
    network, interior, boundary, queries, _ = periodic_case(axes)
    spacing = torch.tensor(network.grid.spacing, dtype=torch.float64)
    shift = torch.tensor(cells[: len(axes)]) * spacing * torch.tensor(axes)
    here = network(interior, boundary, queries, owners(6))
    there = network(
        replace(interior, points=interior.points + shift),
        replace(boundary, points=boundary.points + shift),
        queries + shift,
        owners(6),
    )
    assert (here - here.mean(0)).abs().max() > 1e-3
    torch.testing.assert_close(there, here, atol=1e-10, rtol=1e-10)


@both
def test_input_functions_are_seen_and_counted(dimension):
    interior, boundary = clouds(dimension, [6])
    network, values = operator(dimension, input_functions=1), torch.rand(6, 1, dtype=torch.float64)
    queries = random_points(GRIDS[dimension], 3)
    first, second = (network(interior, boundary, queries, owners(3), scale * values) for scale in (1, 2))
    assert (first - second).abs().max() > 1e-6
    with pytest.raises(ValueError, match="0 input functions are given; this operator takes 1"):
        network.encode(interior, boundary)
    with pytest.raises(ValueError, match="1 input functions are given; this operator takes 0"):
        operator(dimension).encode(interior, boundary, values)


@both
def test_boundary_functions_are_seen_and_counted(dimension):
    interior, boundary = clouds(dimension, [6])
    network, values = operator(dimension, boundary_functions=1), torch.rand(8, 1, dtype=torch.float64)
    queries = random_points(GRIDS[dimension], 3)
    first, second = (
        network(interior, boundary, queries, owners(3), boundary_functions=scale * values) for scale in (1, 2)
    )
    assert (first - second).abs().max() > 1e-6
    with pytest.raises(ValueError, match="0 boundary functions are given; this operator takes 1"):
        network.encode(interior, boundary)
    with pytest.raises(ValueError, match="1 boundary functions are given; this operator takes 0"):
        operator(dimension).encode(interior, boundary, boundary_functions=values)


def test_boundary_functions_come_last_in_the_parameters():
    """Without any, shipped weights fit; with some, only the first layer of the boundary's kernel is wider."""
    plain, wider = (dict(operator(2, boundary_functions=count).named_parameters()) for count in (0, 2))
    assert list(plain) == list(wider)
    different = [name for name in plain if plain[name].shape != wider[name].shape]
    assert different == ["boundary.per_point.weight"]
    assert wider[different[0]].shape[1] == plain[different[0]].shape[1] + 2


def test_boundary_regions_are_told_apart():
    interior, boundary = clouds(2, [6])
    network = operator(2)
    other = replace(boundary, tags=1 - boundary.tags)
    assert (network.encode(interior, other) - network.encode(interior, boundary)).abs().max() > 1e-6


@both
def test_whole_network_derivatives_in_input_points_weights_and_normals(dimension):
    """Taylor: the remainder falls with order 2, along a random direction of everything that moves with a design."""
    network, (interior, boundary) = operator(dimension).requires_grad_(False), clouds(dimension, [9])
    queries = random_points(GRIDS[dimension], 4, seed=22)
    base = (interior.points, interior.weights, boundary.points, boundary.weights, boundary.normals, queries)
    generator = torch.Generator().manual_seed(6)
    direction = tuple(0.1 * torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in base)

    def output(inner, inner_weights, outer, outer_weights, normals, at):
        return network(
            replace(interior, points=inner, weights=inner_weights),
            replace(boundary, points=outer, weights=outer_weights, normals=normals),
            at,
            owners(4),
        ).sum()

    value, slope = torch.func.jvp(output, base, direction)
    gradient = torch.func.grad(output, tuple(range(6)))(*base)
    reverse = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    torch.testing.assert_close(reverse, slope, rtol=1e-10, atol=1e-12)
    steps = [10.0**-k for k in (2, 3, 4)]
    remainders = [
        abs(float(output(*(b + h * d for b, d in zip(base, direction, strict=True))) - value - h * slope))
        for h in steps
    ]
    orders = [float(torch.tensor(a / b).log10()) for a, b in itertools.pairwise(remainders)]
    assert all(abs(order - 2) < 0.1 for order in orders), orders


def test_precisions_agree():
    network, (interior, boundary) = operator(2), clouds(2, [9])
    queries = random_points(GRIDS[2], 5)
    exact = network(interior, boundary, queries, owners(5))
    single: MollifiedGraphNeuralOperator = operator(2).float()
    rough = single(interior.to(torch.float32), boundary.to(torch.float32), queries.float(), owners(5))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
def test_devices_agree():
    network, (interior, boundary) = operator(2), clouds(2, [9, 5])
    queries, owner = random_points(GRIDS[2], 6), torch.tensor([0, 1, 0, 1, 1, 0])
    expected = network(interior, boundary, queries, owner)
    on_gpu = operator(2).cuda()(interior.to("cuda"), boundary.to("cuda"), queries.cuda(), owner.cuda())
    torch.testing.assert_close(on_gpu.cpu(), expected, atol=1e-10, rtol=1e-10)
