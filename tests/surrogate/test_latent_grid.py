"""Neighbours by index arithmetic are those that a search over all nodes finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.surrogate.mgno.latent_grid import LatentGrid, OutsideGridError, grid_around
from tests.surrogate.formulas import grid_nodes, scaled_offset

GRIDS = {
    2: LatentGrid((-0.3, 0.2), (0.25, 0.4), (9, 8), radius=2),
    3: LatentGrid((0.0, -1.0, 0.5), (0.5, 0.3, 0.2), (5, 6, 7), radius=1),
}
both = pytest.mark.parametrize("dimension", GRIDS)
fractions = st.lists(st.floats(0, 0.999), min_size=3, max_size=3)


def inside(grid: LatentGrid, fraction: list[float]) -> np.ndarray:
    low, high = (np.array(corner) for corner in grid.box)
    return low + np.array(fraction[: grid.dimension]) * (high - low)


@both
@given(first=fractions, second=fractions)
def test_window_holds_every_node_within_the_radius(dimension, first, second):
    grid = GRIDS[dimension]
    points = np.stack([inside(grid, first), inside(grid, second)])
    near = grid.neighbours(torch.from_numpy(points), torch.tensor([0, 1]))
    for shape, point in enumerate(points):
        indices = near.index[shape].tolist()
        assert len(set(indices)) == (2 * grid.radius) ** dimension
        found = dict(zip(indices, near.offset[shape].numpy(), strict=True))
        for index, node in grid_nodes(grid).items():
            flat = shape * grid.nodes + int(np.ravel_multi_index(index, grid.shape))
            offset = scaled_offset(grid, node, point)
            if (offset**2).sum() < 1 - 1e-12:
                assert flat in found
            if flat in found:
                np.testing.assert_allclose(found[flat], offset, atol=1e-12)


@both
def test_offsets_are_differentiable_in_the_points(dimension):
    grid = GRIDS[dimension]
    points = torch.from_numpy(inside(grid, [0.31, 0.57, 0.77]))[None].requires_grad_()
    near = grid.neighbours(points, torch.zeros(1, dtype=torch.int64))
    slope = torch.autograd.functional.jacobian(
        lambda x: grid.neighbours(x, torch.zeros(1, dtype=torch.int64)).offset, points
    )
    expected = -torch.diag(1 / (torch.tensor(grid.spacing, dtype=torch.float64) * grid.radius))
    for k in range(near.index.shape[1]):
        torch.testing.assert_close(slope[0, k, :, 0, :], expected)


@both
def test_lower_corner_is_inside_and_upper_corner_is_not(dimension):
    grid = GRIDS[dimension]
    index = torch.zeros(1, dtype=torch.int64)
    low, high = (np.array(corner) for corner in grid.box)
    grid.neighbours(torch.from_numpy(low + 1e-12)[None], index)
    for axis in range(dimension):
        point = inside(grid, [0.5] * 3)
        point[axis] = high[axis] + 1e-12
        with pytest.raises(OutsideGridError):
            grid.neighbours(torch.from_numpy(point)[None], index)


def test_outside_names_the_points_and_the_box():
    grid = LatentGrid((0.0, 0.0), (0.5, 0.5), (9, 7), radius=2)
    points = torch.tensor([[1.0, 1.0], [7.5, 1.0]], dtype=torch.float64)
    with pytest.raises(OutsideGridError) as error:
        grid.neighbours(points, torch.zeros(2, dtype=torch.int64))
    assert "[1.0, 1.0] to [7.5, 1.0]" in str(error.value)
    assert "takes [0.5, 0.5] to [3.5, 2.5]" in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_outside(value):
    with pytest.raises(OutsideGridError):
        GRIDS[2].neighbours(torch.tensor([[0.5, value]], dtype=torch.float64), torch.zeros(1, dtype=torch.int64))


@given(low=st.floats(-10, 10), size=st.floats(1e-3, 50), count=st.integers(8, 20), radius=st.integers(1, 2))
def test_grid_around_holds_the_box_with_a_margin(low, size, count, radius):
    grid = grid_around([low, -1.0], [low + size, 3.0], (count, 9), radius)
    least, most = grid.box
    assert least[0] <= low - 1.9 * grid.spacing[0]
    assert most[0] >= low + size + 0.9 * grid.spacing[0]
    assert grid.origin[0] + (grid.shape[0] - 1) * grid.spacing[0] == pytest.approx(
        low + size + (radius + 1) * grid.spacing[0], abs=1e-9
    )
    assert grid.cell_measure == pytest.approx(grid.spacing[0] * grid.spacing[1])


@pytest.mark.parametrize(
    ("low", "high", "shape", "radius", "message"),
    [
        ([0, 0], [1, 1], (8, 7), 2, r"latent grid \(8, 7\) is too small for radius 2; allowed is 8 or more"),
        ([0, 0], [1, 1], (8, 8), 0, "radius is 0; allowed is a whole number of 1 or more"),
        ([0, 2], [1, 2], (8, 8), 2, "is empty; a latent grid needs lower < upper"),
        ([0, float("nan")], [1, 1], (8, 8), 2, "is empty"),
        ([0, 0, 0], [1, 1, 1], (8, 8), 2, "3 and 3 coordinates; the latent grid has 2 axes"),
    ],
)
def test_grid_around_refuses(low, high, shape, radius, message):
    with pytest.raises(ValueError, match=message):
        grid_around(low, high, shape, radius)


def test_coordinates_run_from_minus_one_to_one_along_each_axis():
    grid = GRIDS[2]
    coordinates = grid.coordinates(torch.empty(0, dtype=torch.float64))
    assert coordinates.shape == (9, 8, 2)
    assert coordinates[0, 0].tolist() == [-1, -1]
    assert coordinates[-1, 0].tolist() == [1, -1]
    assert coordinates[4, 7].tolist() == [0, 1]


def test_periodic_axis_wraps_around():
    """What a search over the nodes and their images a period away finds; the other axis still ends."""
    grid = grid_around([-1.0, 0.0], [1.0, 3.0], (8, 10), radius=2, periodic=(True, False))
    assert grid.origin[0] == -1
    assert grid.spacing[0] == pytest.approx(2 / 8)
    assert grid.box[0] == (-np.inf, pytest.approx(-2 * grid.spacing[1]))
    assert grid.box[1][0] == np.inf
    points = torch.tensor([[-0.99, 0.5], [0.9, 1.5], [57.3, 2.9], [-1e3, 0.0]], dtype=torch.float64)
    near = grid.neighbours(points, torch.tensor([0, 1, 1, 0]))
    period = np.array([2.0, 0.0])
    for point, shape, indices, offsets in zip(points.numpy(), (0, 1, 1, 0), near.index, near.offset, strict=True):
        found = dict(zip(indices.tolist(), offsets.numpy(), strict=True))
        for index, node in grid_nodes(grid).items():
            image = node + period * np.round((point - node)[0] / 2)
            offset = scaled_offset(grid, image, point)
            flat = shape * grid.nodes + int(np.ravel_multi_index(index, grid.shape))
            if (offset**2).sum() < 1 - 1e-9:
                np.testing.assert_allclose(found.pop(flat), offset, atol=1e-11)
    with pytest.raises(OutsideGridError, match=r"takes \[-inf, .* to \[inf, "):
        grid.neighbours(torch.tensor([[0.0, 6.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(OutsideGridError):
        grid.neighbours(torch.tensor([[np.inf, 1.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.int64))


def test_no_place_along_a_periodic_axis_is_special():
    grid = grid_around([0, 0], [1, 1], (8, 9), 1, periodic=(True, False))
    coordinates = grid.coordinates(torch.empty(0, dtype=torch.float64))
    assert not coordinates[..., 0].any()
    assert coordinates[3, :, 1].tolist() == torch.linspace(-1, 1, 9, dtype=torch.float64).tolist()


def test_a_cloud_without_points_has_no_neighbours():
    near = GRIDS[2].neighbours(torch.empty(0, 2), torch.empty(0, dtype=torch.int64))
    assert near.index.shape == (0, 16)


def test_periodic_is_said_of_each_axis():
    with pytest.raises(ValueError, match=r"periodic is \(True,\); allowed is a truth value for each of the 2 axes"):
        LatentGrid((0.0, 0.0), (0.5, 0.5), (9, 7), periodic=(True,))
    with pytest.raises(ValueError, match=r"\(3, 9\) is too small for radius 2; .* 4 or more along a periodic one"):
        grid_around([0, 0], [1, 1], (3, 9), 2, periodic=(True, False))
