"""Quadratic segments, triangles and tetrahedra: shape functions, quadrature, volumes, normals, and what follows."""

from __future__ import annotations

import math
from itertools import product

import gmsh
import numpy as np
import pytest
import torch

from shapewright.geometries.cad.mesher import _session
from shapewright.geometries.mesh.integration import cell_points, facet_points, nodal_weights
from shapewright.geometries.mesh.jacobians import _bernstein, adjugate, bernstein_jacobians, determinant, inverse
from shapewright.geometries.mesh.locate import interpolation_matrix
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.mesh.quadrature import gauss_quadrature
from shapewright.geometries.mesh.simplex import GMSH_TETRAHEDRON, SIMPLICES, TETRAHEDRON, TRIANGLE
from shapewright.geometries.mesh.stiffness import weighted_stiffness

KINDS = pytest.mark.parametrize("cell", SIMPLICES.values(), ids=lambda cell: cell.name)


def lattice(dimension, count=8):
    """Points of the reference simplex on a grid."""
    return np.array([p for p in product(range(count + 1), repeat=dimension) if sum(p) <= count]) / count


def of_one_cell(nodes):
    """A tetrahedron of 10 nodes; its facets begin at each of their vertices in turn."""
    mesh = Mesh(nodes, np.arange(10)[None], np.zeros((0, 6), np.int64), np.zeros(0, np.int64), ())
    middles = {frozenset(edge): 4 + k for k, edge in enumerate(TETRAHEDRON.edges)}
    faces = [TETRAHEDRON.facets[k] for k in (1, 3, 8, 9)]
    facets = [[*f, *(middles[frozenset((f[i], f[j]))] for i, j in TRIANGLE.edges)] for f in faces]
    return Mesh(mesh.nodes, mesh.cells, np.array(facets), np.arange(4), ("z", "y", "slanted", "x"))


@pytest.fixture(scope="module")
def ball():
    """A mesh of the unit ball by gmsh with curved cells."""
    with _session():
        gmsh.model.occ.addSphere(0, 0, 0, 1)
        gmsh.model.occ.synchronize()
        gmsh.option.setNumber("Mesh.MeshSizeMax", 0.7)
        gmsh.option.setNumber("Mesh.ElementOrder", 2)
        gmsh.model.mesh.generate(3)
        tags, coordinates, _ = gmsh.model.mesh.getNodes()
        (kind,), _, (cells,) = gmsh.model.mesh.getElements(3)
        (side,), _, (facets,) = gmsh.model.mesh.getElements(2)
    assert (kind, side) == (11, 9)
    used, cells = np.unique(cells.astype(np.int64), return_inverse=True)
    order = np.argsort(tags)
    nodes = coordinates.reshape(-1, 3)[order[np.searchsorted(tags[order], used)]]
    facets = np.searchsorted(used, facets.reshape(-1, 6).astype(np.int64))
    cells = cells.reshape(-1, 10)[:, GMSH_TETRAHEDRON]
    return Mesh(nodes, cells, facets, np.zeros(len(facets), np.int64), ("surface",))


def bent(seed=0, size=0.05):
    """The reference tetrahedron with all nodes moved at random."""
    return TETRAHEDRON.nodes + size * np.random.default_rng(seed).standard_normal((10, 3))


@KINDS
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_quadrature_is_exact_for_monomials(cell, count):
    """To degree 2 n - 1: int x^i y^j z^k = i! j! k! / (i + j + k + d)!."""
    points, weights = gauss_quadrature(cell.dimension, count)
    assert weights.min() > 0
    assert len(points) == count**cell.dimension
    for powers in product(range(2 * count), repeat=cell.dimension):
        if sum(powers) < 2 * count:
            exact = math.prod(map(math.factorial, powers)) / math.factorial(sum(powers) + cell.dimension)
            assert (weights * (points**powers).prod(-1)).sum() == pytest.approx(exact, rel=1e-12)


@KINDS
def test_shape_functions_interpolate_and_sum_to_one(cell):
    samples = lattice(cell.dimension)
    np.testing.assert_allclose(cell.shape_functions(cell.nodes), np.eye(len(cell.nodes)), atol=1e-15)
    np.testing.assert_allclose(cell.hat_functions(cell.nodes), np.eye(len(cell.nodes)), atol=1e-15)
    for functions in (cell.shape_functions, cell.hat_functions):
        np.testing.assert_allclose(functions(samples).sum(-1), 1, atol=1e-14)
        np.testing.assert_allclose(functions(samples) @ cell.nodes, samples, atol=1e-14)
    assert cell.hat_functions(samples).min() > -1e-14


@KINDS
def test_shape_functions_are_complete_to_degree_two(cell):
    """Each product of two coordinates is interpolated exactly."""
    samples = lattice(cell.dimension)
    for i, j in product(range(cell.dimension), repeat=2):
        nodal = cell.nodes[:, i] * cell.nodes[:, j]
        np.testing.assert_allclose(cell.shape_functions(samples) @ nodal, samples[:, i] * samples[:, j], atol=1e-14)


@KINDS
def test_gradients_of_shape_functions_match_finite_differences(cell):
    inside = lattice(cell.dimension) * 0.9 + 0.02
    for axis in range(cell.dimension):
        step = 1e-6 * np.eye(cell.dimension)[axis]
        difference = (cell.shape_functions(inside + step) - cell.shape_functions(inside - step)) / 2e-6
        np.testing.assert_allclose(cell.shape_gradients(inside)[..., axis], difference, atol=1e-9)


@KINDS
def test_subcells_fill_the_cell_in_equal_parts(cell):
    corners = cell.nodes[cell.subcells]
    sizes = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    np.testing.assert_allclose(sizes, 0.5**cell.dimension)


def test_facets_of_a_tetrahedron_are_seen_from_outside():
    assert len(set(TETRAHEDRON.facets)) == 12
    for facet in TETRAHEDRON.facets:
        a, b, c = TETRAHEDRON.vertices[list(facet)]
        outward = np.cross(b - a, c - a)
        assert outward @ (a - TETRAHEDRON.vertices.mean(0)) > 0


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_small_matrices(dimension):
    matrix = torch.randn(5, dimension, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(determinant(matrix), torch.linalg.det(matrix))
    torch.testing.assert_close(inverse(matrix), torch.linalg.inv(matrix))
    scaled = determinant(matrix)[:, None, None] * torch.linalg.inv(matrix)
    torch.testing.assert_close(adjugate(matrix), scaled)


def test_a_curved_segment_has_its_length():
    """x = s + s^2, from 0 to 2, by its three nodes."""
    mesh = Mesh(np.array([[0.0], [2.0], [0.75]]), np.array([[0, 1, 2]]), np.array([[0], [1]]), np.arange(2), ("a", "b"))
    cells = cell_points(mesh, torch.from_numpy(mesh.nodes))
    assert float(cells.weights.sum()) == pytest.approx(2)
    assert float((cells.points[..., 0] * cells.weights).sum()) == pytest.approx(2)
    torch.testing.assert_close(cells.gradient(torch.from_numpy(mesh.nodes[:, 0])), torch.ones(1, 3, 1).double())
    with pytest.raises(MeshError, match="in 2 or 3 dimensions"):
        facet_points(mesh, torch.from_numpy(mesh.nodes))


def test_volume_and_surface_of_a_straight_tetrahedron():
    """Of a turned and stretched reference cell; the normals are those of its sides."""
    matrix = np.array([[1.2, 0.3, -0.1], [0.2, 0.8, 0.4], [-0.3, 0.1, 1.5]])
    mesh = of_one_cell(TETRAHEDRON.nodes @ matrix.T)
    nodes = torch.from_numpy(mesh.nodes)
    assert float(cell_points(mesh, nodes).weights.sum()) == pytest.approx(np.linalg.det(matrix) / 6)
    for tag, facet in zip(mesh.tag_names, mesh.facets, strict=True):
        a, b, c = mesh.nodes[facet[:3]]
        area = np.cross(b - a, c - a) / 2
        points = facet_points(mesh, nodes, tag)
        assert float(points.weights.sum()) == pytest.approx(np.linalg.norm(area))
        expected = torch.from_numpy(area / np.linalg.norm(area)).expand(points.normals.shape)
        torch.testing.assert_close(points.normals, expected)


@pytest.mark.parametrize("seed", range(4))
def test_divergence_theorem_on_a_curved_tetrahedron(seed):
    """int div f = int f . n for f of degree two: of degree 6 + 1 inside, 4 + 4 around; and for each of its parts."""
    mesh = of_one_cell(bent(seed))
    nodes = torch.from_numpy(mesh.nodes)
    cells, facets = cell_points(mesh, nodes, 5), facet_points(mesh, nodes, points_per_side=5)
    for i, j, axis in product(range(3), repeat=3):
        x = cells.points
        inside = (x[..., j] * (i == axis) + x[..., i] * (j == axis)) * cells.weights
        x = facets.points
        around = x[..., i] * x[..., j] * facets.normals[..., axis] * facets.weights
        torch.testing.assert_close(inside.sum(), around.sum(), rtol=0, atol=1e-13)


def test_fields_of_the_isoparametric_space_have_exact_gradients():
    """Coordinates on a curved cell, quadratics on a straight one; facets see the gradient of the cell behind them."""
    coefficients = np.random.default_rng(1).standard_normal((3, 3))
    for points_of in (lambda m, n: cell_points(m, n), lambda m, n: facet_points(m, n)):
        mesh = of_one_cell(bent(2))
        nodes = torch.from_numpy(mesh.nodes)
        curved = points_of(mesh, nodes)
        for axis in range(3):
            expected = torch.zeros_like(curved.points)
            expected[..., axis] = 1
            torch.testing.assert_close(curved.gradient(nodes[:, axis]), expected)
            torch.testing.assert_close(curved.interpolate(nodes[:, axis]), curved.points[..., axis])
        mesh = of_one_cell(TETRAHEDRON.nodes @ np.array([[1.2, 0.3, -0.1], [0.2, 0.8, 0.4], [-0.3, 0.1, 1.5]]))
        nodes, symmetric = torch.from_numpy(mesh.nodes), torch.from_numpy(coefficients + coefficients.T)
        straight = points_of(mesh, nodes)
        nodal = torch.einsum("ni,ij,nj->n", nodes, symmetric, nodes)
        torch.testing.assert_close(straight.gradient(nodal), 2 * straight.points @ symmetric)


def test_derivative_of_the_volume_by_the_nodes():
    mesh = of_one_cell(bent(3))
    nodes = torch.from_numpy(mesh.nodes).requires_grad_()

    def volume(at):
        return cell_points(mesh, at).weights.sum()

    (gradient,) = torch.autograd.grad(volume(nodes), nodes)
    with torch.no_grad():
        for node, axis in product(range(10), range(3)):
            step = torch.zeros_like(nodes)
            step[node, axis] = 1e-5
            difference = (volume(nodes + step) - volume(nodes - step)) / 2e-5
            assert float(gradient[node, axis]) == pytest.approx(float(difference), abs=1e-9)


def test_bernstein_coefficients_bound_the_jacobian_of_a_tetrahedron():
    samples = lattice(3)
    for seed in range(20):
        mesh = of_one_cell(bent(seed, 0.12))
        coefficients = bernstein_jacobians(mesh, torch.from_numpy(mesh.nodes))[0].numpy()
        jacobian = np.linalg.det(np.einsum("id,qik->qdk", mesh.nodes, TETRAHEDRON.shape_gradients(samples)))
        assert len(coefficients) == 20
        assert coefficients.min() <= jacobian.min() + 1e-12
        assert coefficients.max() >= jacobian.max() - 1e-12
        volume = float(cell_points(mesh, torch.from_numpy(mesh.nodes)).weights.sum())
        assert coefficients.mean() / 6 == pytest.approx(volume)


def test_bernstein_coefficients_in_the_plane_are_those_of_any_dimension():
    nodes = TRIANGLE.nodes + 0.1 * np.random.default_rng(0).standard_normal((6, 2))
    mesh = Mesh(nodes, np.arange(6)[None], np.zeros((0, 3), np.int64), np.zeros(0, np.int64), ())
    points, coefficients = _bernstein(2)
    jacobian = np.linalg.det(np.einsum("id,qik->qdk", nodes, TRIANGLE.shape_gradients(points)))
    found = bernstein_jacobians(mesh, torch.from_numpy(nodes))[0].sort().values
    torch.testing.assert_close(found, torch.from_numpy(coefficients @ jacobian).sort().values)


def test_a_ball_by_gmsh(ball):
    """Curved cells have its volume and surface to the fourth order; straight ones would miss 10 %."""
    nodes = torch.from_numpy(ball.nodes)
    assert float(bernstein_jacobians(ball, nodes).min()) > 0
    cells, facets = cell_points(ball, nodes), facet_points(ball, nodes)
    assert float(cells.weights.sum()) == pytest.approx(4 / 3 * math.pi, rel=5e-3)
    assert float(facets.weights.sum()) == pytest.approx(4 * math.pi, rel=5e-3)
    flow = (facets.points * facets.normals).sum(-1) * facets.weights
    assert float(flow.sum()) == pytest.approx(3 * float(cells.weights.sum()), rel=1e-3)
    weights = nodal_weights(ball, nodes)
    assert float(weights.min()) > 0
    assert float(weights.sum()) == pytest.approx(float(cells.weights.sum()))


def test_positions_and_stiffness_in_a_ball(ball):
    """Coordinates are interpolated exactly at any point; their stiffness is the volume."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 3))
    np.testing.assert_allclose(interpolation_matrix(ball, points) @ ball.nodes, points, atol=1e-10)
    stiffness = weighted_stiffness(ball, lambda x: np.ones(x.shape[:-1]))
    energies = ball.nodes.T @ (stiffness @ ball.nodes)
    volume = float(cell_points(ball, torch.from_numpy(ball.nodes)).weights.sum())
    np.testing.assert_allclose(energies, volume * np.eye(3), atol=1e-9)


def test_cells_of_another_kind_are_refused():
    facets = np.zeros((0, 3), np.int64)
    with pytest.raises(MeshError, match="2 coordinates a node and 10 nodes a cell; allowed in each dimension are 3 in"):
        Mesh(np.zeros((10, 2)), np.arange(10)[None], facets, np.zeros(0, np.int64), ())
