"""Promise: any point of a curved mesh is found in its cell, and nodal fields have their finite-element values there."""

import numpy as np
import pytest
import torch

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.cavity import cavity
from shapewright.geometries.family.porous_square import porous_square
from shapewright.geometries.family.star_domain import star_domain
from shapewright.geometries.mesh.locate import interpolation_matrix, locate, values_at
from shapewright.geometries.mesh.simplex import TRIANGLE
from tests.geometries.shapes import designs

FAMILIES = {"star_domain": (star_domain(), 0.2), "porous_square": (porous_square(), 0.08), "cavity": (cavity(), 0.2)}


def curved(name):
    """A mesh whose cells are curved and stretched: the one of a design at a corner of the box."""
    family, size = FAMILIES[name]
    shape_map = build_shape_map(family, size)
    theta = 0.9 * family.bounds[:, 1] + 0.1 * family.bounds[:, 0]
    return shape_map.mesh.moved(shape_map.nodes(theta).numpy())


def inner_points(mesh, count, seed=0):
    """Random points with the cell and the place in it that they were made from."""
    random = np.random.default_rng(seed)
    cell = random.integers(len(mesh.cells), size=count)
    coordinates = random.random((count, 2))
    coordinates = np.where(coordinates.sum(-1, keepdims=True) > 1, 1 - coordinates, coordinates)
    points = np.einsum("pi,pid->pd", TRIANGLE.shape_functions(coordinates), mesh.nodes[mesh.cells[cell]])
    return points, cell, coordinates


@pytest.mark.parametrize("name", FAMILIES)
def test_points_are_found_in_the_cell_they_were_made_in(name):
    mesh = curved(name)
    points, cell, coordinates = inner_points(mesh, 800)
    clear = np.minimum(coordinates.min(-1), 1 - coordinates.sum(-1)) > 1e-6
    found, where = locate(mesh, points)
    assert (found == cell)[clear].all()
    np.testing.assert_allclose(where[clear], coordinates[clear], atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_quadratic_in_a_cells_own_coordinates_is_reproduced_on_curved_cells(name):
    """That is the space of the elements; random nodal values span it."""
    mesh = curved(name)
    points, cell, coordinates = inner_points(mesh, 500)
    nodal = np.random.default_rng(1).standard_normal((len(mesh.nodes), 3))
    wanted = np.einsum("pi,pic->pc", TRIANGLE.shape_functions(coordinates), nodal[mesh.cells[cell]])
    np.testing.assert_allclose(interpolation_matrix(mesh, points) @ nodal, wanted, atol=1e-8)
    np.testing.assert_allclose(interpolation_matrix(mesh, points) @ mesh.nodes, points, atol=1e-10)


def test_quadratics_are_reproduced_on_straight_cells_and_to_third_order_on_curved_ones():
    def quadratic(x):
        return 1 + x[:, 0] - 2 * x[:, 1] + 3 * x[:, 0] * x[:, 1] - x[:, 1] ** 2

    straight = build_shape_map(cavity(), 0.3).mesh  # the middle of the box is the unit square
    points = inner_points(straight, 300)[0]
    np.testing.assert_allclose(interpolation_matrix(straight, points) @ quadratic(straight.nodes), quadratic(points))
    errors = []
    for size in (0.2, 0.1):
        mesh = build_shape_map(star_domain((3,), control_points=48), size).mesh
        points = inner_points(mesh, 2000)[0]
        gap = interpolation_matrix(mesh, points) @ quadratic(mesh.nodes) - quadratic(points)
        errors.append(np.abs(gap).max())
    print(f"errors {errors}, order {np.log2(errors[0] / errors[1]):.2f}")
    assert np.log2(errors[0] / errors[1]) > 2.5


def test_nodes_are_found_where_they_are():
    mesh = curved("cavity")
    np.testing.assert_allclose(interpolation_matrix(mesh, mesh.nodes).toarray(), np.eye(len(mesh.nodes)), atol=1e-9)


def test_a_point_a_little_outside_goes_to_the_cell_nearest_to_it():
    mesh = curved("star_domain")
    middles = mesh.nodes[mesh.facets[:, 2]]
    outside = middles * (1 + 1e-4)
    cell, coordinates = locate(mesh, outside)
    assert (cell == mesh.facet_cells[:, 0]).all()
    assert np.maximum(-np.minimum(coordinates.min(-1), 1 - coordinates.sum(-1)), 0).max() < 0.01
    linear = mesh.nodes @ [1.0, 2.0]
    np.testing.assert_allclose(interpolation_matrix(mesh, outside) @ linear, outside @ [1.0, 2.0], atol=1e-10)


@pytest.mark.parametrize("what", ["nodes", "values", "points"])
def test_values_at_fixed_points_have_exact_derivatives(what):
    """Against central differences that locate the points anew in the moved mesh."""
    family, size = FAMILIES["cavity"]
    shape_map = build_shape_map(family, size)
    mesh, generator = shape_map.mesh, torch.Generator().manual_seed(0)
    theta = designs(family, 1, seed=2)[0]
    direction = torch.tensor([0.2, 0.3, -0.1, 0.2], dtype=torch.float64)
    nodal = torch.rand(len(mesh.nodes), 2, generator=generator, dtype=torch.float64)
    moved = mesh.moved(shape_map.nodes(theta).numpy())
    points, _, coordinates = inner_points(moved, 200, seed=4)
    inside = np.minimum(coordinates.min(-1), 1 - coordinates.sum(-1)) > 1e-2  # none changes its cell
    points = torch.from_numpy(points[inside])

    def of(t):
        nodes = shape_map.nodes(theta + t * direction) if what == "nodes" else shape_map.nodes(theta)
        values = nodal * (1 + t) if what == "values" else nodal
        at = points + t * direction[:2] if what == "points" else points
        return values_at(mesh, nodes, values, at)

    zero, step = torch.zeros((), dtype=torch.float64), 1e-5
    slope = torch.autograd.functional.jvp(of, zero, torch.ones_like(zero))[1]
    difference = (of(zero + step) - of(zero - step)) / (2 * step)
    assert slope.abs().max() > 0.1
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-7)
    expected = interpolation_matrix(moved, points.numpy()) @ nodal.numpy()
    np.testing.assert_allclose(of(zero).numpy(), expected, atol=1e-9)
