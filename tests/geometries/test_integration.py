"""Quadrature on curved triangles and edges: exact where it must be, and a Jacobian bound that is one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometries.mesh.integration import cell_points, facet_points, nodal_weights
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.quadrature import random_triangle_quadrature
from shapewright.geometries.mesh.simplex import TRIANGLE
from tests.geometries.shapes import FAMILIES, designs, shape_map

NODES = TRIANGLE.nodes
shape_functions, shape_gradients = TRIANGLE.shape_functions, TRIANGLE.shape_gradients
REFERENCE = Mesh(
    NODES,
    np.arange(6)[None],
    np.array([[0, 1, 3], [1, 2, 4], [2, 0, 5]]),
    np.array([0, 1, 1]),
    ("south", "rest"),
)
SAMPLES = np.array([[i, j] for i in range(21) for j in range(21 - i)]) / 20


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_a_field_are_those_of_the_interpolated_field(name):
    """x, y and xy at the nodes: the first two are in the isoparametric space on curved cells, so exact."""
    mapped = shape_map(name)
    nodes = mapped.nodes(designs(mapped.family, 2, seed=1))
    x = nodes[..., 0]
    for part in (cell_points(mapped.mesh, nodes), facet_points(mapped.mesh, nodes)):
        expected = torch.zeros_like(part.points)
        expected[..., 0] = 1
        torch.testing.assert_close(part.gradient(x), expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(part.interpolate(x), part.points[..., 0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("tag", [None, "south", "rest"])
def test_facets_see_the_gradient_of_their_own_cell(tag):
    """On one cell, moved; the field is quadratic in reference coordinates, where its gradient is known."""
    generator = torch.Generator().manual_seed(1)
    nodes = torch.from_numpy(NODES) + 0.05 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
    nodal = torch.randn(6, generator=generator, dtype=torch.float64)
    facets = facet_points(REFERENCE, nodes, tag)
    assert len(facets.points) == {None: 3, "south": 1, "rest": 2}[tag]
    gauss = (np.polynomial.legendre.leggauss(3)[0] + 1) / 2
    sides = {"south": [(0, 1)], "rest": [(1, 2), (2, 0)], None: [(0, 1), (1, 2), (2, 0)]}[tag]
    for k, (i, j) in enumerate(sides):
        xi = NODES[i] + gauss[:, None] * (NODES[j] - NODES[i])
        slopes = torch.from_numpy(shape_gradients(xi))
        jacobian = torch.einsum("id,qik->qdk", nodes, slopes)
        expected = torch.linalg.solve(jacobian.mT, torch.einsum("i,qik->qk", nodal, slopes)[..., None])[..., 0]
        torch.testing.assert_close(facets.gradient(nodal)[k], expected)
        torch.testing.assert_close(facets.points[k], torch.from_numpy(shape_functions(xi)) @ nodes)


def test_an_unknown_region_is_named():
    with pytest.raises(KeyError, match="no boundary region 'north'; this mesh has south, rest"):
        facet_points(REFERENCE, torch.from_numpy(NODES), "north")


def test_nodal_weights_integrate_linear_fields_on_straight_cells():
    """They are the integrals of the hat functions: vertices get 1, middles 3 parts of 24 on the reference triangle."""
    weights = nodal_weights(REFERENCE, torch.from_numpy(NODES))
    torch.testing.assert_close(weights, torch.tensor([1, 1, 1, 3, 3, 3], dtype=torch.float64) / 24)
    assert float(weights @ torch.from_numpy(NODES[:, 0])) == pytest.approx(1 / 6)


@pytest.mark.parametrize("name", FAMILIES)
def test_nodal_weights_are_positive_in_the_bounds(name):
    mapped = shape_map(name)
    assert float(nodal_weights(mapped.mesh, mapped.nodes(designs(mapped.family, 50, seed=3))).min()) > 0


@settings(max_examples=150)
@given(st.lists(st.floats(-0.4, 0.4), min_size=12, max_size=12))
def test_bernstein_coefficients_bound_the_jacobian(moves):
    """From below and above, for any 6-node triangle; at the vertices they are its values."""
    nodes = NODES + np.array(moves).reshape(6, 2)
    coefficients = bernstein_jacobians(REFERENCE, torch.from_numpy(nodes))[0].numpy()
    jacobian = np.linalg.det(np.einsum("id,qik->qdk", nodes, shape_gradients(SAMPLES)))
    assert coefficients.min() <= jacobian.min() + 1e-12
    assert coefficients.max() >= jacobian.max() - 1e-12
    at_vertices = np.linalg.det(np.einsum("id,qik->qdk", nodes, shape_gradients(NODES[:3])))
    np.testing.assert_allclose(coefficients[:3], at_vertices, atol=1e-14)
    zeta, xi, eta = 1 - SAMPLES.sum(-1), *SAMPLES.T
    powers = [zeta**2, xi**2, eta**2, 2 * zeta * xi, 2 * xi * eta, 2 * eta * zeta]
    np.testing.assert_allclose(np.stack(powers, -1) @ coefficients, jacobian, atol=1e-12)


@settings(max_examples=60)
@given(
    st.lists(st.floats(-0.08, 0.08), min_size=12, max_size=12),
    st.sampled_from([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]),
)
def test_green_s_theorem_on_one_curved_cell(moves, powers):
    """int d/dx (x^i y^j) over the cell, against its boundary: two quadratures that share nothing but the nodes.

    The rule of the cell is exact to degree 5, and the integrand has 2 (i + j - 1) and 2 of the Jacobian.
    """
    i, j = powers
    nodes = torch.from_numpy(NODES + np.array(moves).reshape(6, 2))
    cells = cell_points(REFERENCE, nodes)
    facets = facet_points(REFERENCE, nodes, points_per_side=6)
    x, y = cells.points.unbind(-1)
    inside = (i * x ** max(i - 1, 0) * y**j * cells.weights).sum()
    x, y = facets.points.unbind(-1)
    around = (x**i * y**j * facets.normals[..., 0] * facets.weights).sum()
    torch.testing.assert_close(inside, around, rtol=0, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_random_rules_are_positive_inside_and_exact_to_degree_two(seed, pairs):
    points, weights = random_triangle_quadrature(np.random.default_rng(seed), pairs)
    assert len(points) == len(weights) == 6 * pairs
    assert weights.min() > 0
    assert points.min() >= 0
    assert points.sum(1).max() <= 1 + 1e-15
    for i in range(3):
        for j in range(3 - i):
            exact = math.factorial(i) * math.factorial(j) / math.factorial(i + j + 2)
            assert (weights * points[:, 0] ** i * points[:, 1] ** j).sum() == pytest.approx(exact, abs=1e-14)


def test_random_rules_place_their_points_everywhere():
    """Over many draws the weight in each corner triangle is near its quarter of the whole."""
    drawn = [random_triangle_quadrature(np.random.default_rng(seed)) for seed in range(3000)]
    points, weights = (np.concatenate(part) for part in zip(*drawn, strict=True))
    corner = points[:, 0] > 0.5
    assert weights[corner].sum() / weights.sum() == pytest.approx(0.25, abs=0.03)
