"""The map from parameters to the mesh: exact on the boundary, linear in the control points, right to second order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LinearRing, Point

from shapewright.geometries.cad.mesher import MeshError, mesh_family
from shapewright.geometries.design.extension import boundary_basis, build_shape_map
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.family.spline import Curve, LoopQuadrature, loop_matrix
from shapewright.geometries.mesh.integration import cell_points, facet_points, nodal_weights
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.stiffness import dirichlet_factor
from tests.geometries.shapes import EXAMPLES, FAMILIES, designs, family, shape_map, taylor_order

NAMES = pytest.mark.parametrize("name", FAMILIES)


@NAMES
def test_the_reference_design_is_the_mesh(name):
    mapped = shape_map(name)
    torch.testing.assert_close(mapped.nodes(mapped.family.reference), mapped.reference_nodes, rtol=0, atol=1e-14)


@NAMES
def test_boundary_nodes_lie_on_the_b_spline_of_every_design(name):
    """Against the curve found by a search of its own: dense samples, then golden sections of the parameter."""
    mapped = shape_map(name)
    of = mapped.family
    for theta in designs(of, 3, seed=1):
        points = of.control_points(theta).numpy()
        nodes = mapped.nodes(theta).numpy()[np.unique(mapped.mesh.facets)]
        best, start = np.full(len(nodes), np.inf), 0
        for curve in of.curves:
            poles = points[start : start + curve.count]
            start += curve.count
            best = np.minimum(best, _distance(curve, poles, nodes))
        assert best.max() < 1e-10


def _distance(curve: Curve, poles: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    def distance(t: np.ndarray) -> np.ndarray:
        return np.linalg.norm(curve.basis(np.clip(t, 0, curve.spans)) @ poles - nodes, axis=-1)

    t = np.linspace(0, curve.spans, 200 * curve.spans + 1)
    nearest = np.linalg.norm((curve.basis(t) @ poles)[None] - nodes[:, None], axis=-1).argmin(-1)
    low, high = t[np.maximum(nearest - 1, 0)], t[np.minimum(nearest + 1, len(t) - 1)]
    for _ in range(70):
        left, right = low + 0.382 * (high - low), low + 0.618 * (high - low)
        first = distance(left) < distance(right)
        low, high = np.where(first, low, left), np.where(first, right, high)
    return distance((low + high) / 2)


@NAMES
def test_the_extension_moves_everything_with_its_control_points(name):
    """Partition of unity: a translation of all control points translates the mesh; so it is of each loop's nodes."""
    mapped = shape_map(name)
    np.testing.assert_allclose(mapped.extension.sum(-1), 1, atol=1e-12)
    boundary, values = boundary_basis(
        mapped.family, mapped.family.control_points(mapped.family.reference).numpy(), mapped.mesh
    )
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(mapped.extension[boundary], values)


@NAMES
def test_the_extension_keeps_within_what_the_boundary_has(name):
    """The maximum principle holds exactly for the harmonic function and only nearly for its quadratic elements."""
    extension = shape_map(name).extension
    assert float(extension.min()) > -0.02
    assert float((extension.amax(0) - 1).max()) < 0.02


@NAMES
def test_the_map_is_linear_in_the_control_points(name):
    mapped = shape_map(name)
    of = mapped.family
    first, second = of.control_points(designs(of, 2, seed=2))
    both = mapped.extension @ (0.3 * first - 1.7 * second)
    torch.testing.assert_close(both, 0.3 * (mapped.extension @ first) - 1.7 * (mapped.extension @ second))


@NAMES
def test_a_batch_is_its_designs_one_by_one(name):
    mapped = shape_map(name)
    theta = designs(mapped.family, 6).reshape(3, 2, -1)
    together = mapped.nodes(theta)
    assert together.shape == (3, 2, len(mapped.mesh.nodes), 2)
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(together[i, j], mapped.nodes(theta[i, j]), rtol=0, atol=1e-14)
    batch, one = cell_points(mapped.mesh, together), cell_points(mapped.mesh, together[2, 1])
    torch.testing.assert_close(batch.weights[2, 1], one.weights)
    torch.testing.assert_close(batch.inverse_jacobian[2, 1], one.inverse_jacobian)
    torch.testing.assert_close(nodal_weights(mapped.mesh, together)[2, 1], nodal_weights(mapped.mesh, together[2, 1]))
    batch, one = facet_points(mapped.mesh, together), facet_points(mapped.mesh, together[2, 1])
    torch.testing.assert_close(batch.normals[2, 1], one.normals)


MAPPED = {
    "nodes": lambda mesh, x: x,
    "cell areas": lambda mesh, x: cell_points(mesh, x).weights.sum(-1),
    "inverse Jacobians": lambda mesh, x: cell_points(mesh, x).inverse_jacobian,
    "Bernstein coefficients": bernstein_jacobians,
    "nodal weights": nodal_weights,
    "facet normals": lambda mesh, x: facet_points(mesh, x).normals,
    "facet weights": lambda mesh, x: facet_points(mesh, x).weights,
    "perimeter": lambda mesh, x: facet_points(mesh, x).weights.sum(),
    "area": lambda mesh, x: nodal_weights(mesh, x).sum(),
}


# A nozzle's design moves one coordinate only, so that areas and Jacobians are linear in it.
LINEAR = {name: {"nodes"} for name in FAMILIES}
LINEAR["nozzle.py:Nozzle"] |= {"cell areas", "Bernstein coefficients", "nodal weights", "area"}


@pytest.mark.parametrize("what", MAPPED)
@NAMES
def test_taylor_remainders(name, what):
    mapped = shape_map(name)
    bounds = mapped.family.bounds
    at = designs(mapped.family, 1, seed=3)[0]
    at = 0.5 * (at + mapped.family.reference)
    direction = (bounds[:, 1] - bounds[:, 0]) * torch.linspace(-0.5, 0.8, len(bounds), dtype=torch.float64)
    direction = direction - 0.05 * bounds[:, 1]
    order = taylor_order(lambda theta: MAPPED[what](mapped.mesh, mapped.nodes(theta)), at, direction)
    assert order == (torch.inf if what in LINEAR[name] else pytest.approx(2.0, abs=0.1))


@NAMES
def test_velocity_and_pull_back_are_each_others_transpose(name):
    mapped = shape_map(name)
    at = mapped.family.default
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(len(at), generator=generator, dtype=torch.float64)
    gradient = torch.randn(len(mapped.mesh.nodes), 2, generator=generator, dtype=torch.float64)
    forward = (mapped.velocity(at, direction) * gradient).sum()
    torch.testing.assert_close(forward, mapped.pull_back(at, gradient) @ direction)
    difference = (mapped.nodes(at + 1e-6 * direction) - mapped.nodes(at - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(mapped.velocity(at, direction), difference, rtol=0, atol=1e-8)


@NAMES
def test_divergence_theorem_on_moved_meshes(name):
    """Also of each loop alone: the outward normal points into the hole there."""
    mapped = shape_map(name)
    for theta in designs(mapped.family, 3, seed=4):
        nodes = mapped.nodes(theta)
        cells, facets = cell_points(mapped.mesh, nodes), facet_points(mapped.mesh, nodes)
        area = cells.weights.sum()
        flux = (facets.points * facets.normals).sum(-1) * facets.weights
        torch.testing.assert_close(flux.sum() / 2, area, rtol=1e-12, atol=0)
        torch.testing.assert_close(nodal_weights(mapped.mesh, nodes).sum(), area, rtol=1e-12, atol=0)
        assert (facets.normals * facets.weights[..., None]).sum((0, 1)).norm() < 1e-12
        nodal = nodes[..., 0] ** 2 * nodes[..., 1]
        inside = (cells.gradient(nodal)[..., 0] * cells.weights).sum()
        around = (facets.interpolate(nodal) * facets.normals[..., 0] * facets.weights).sum()
        torch.testing.assert_close(inside, around, rtol=1e-11, atol=1e-13)


def _exact_area(of: Family, theta: torch.Tensor) -> float:
    """Of the meshed domain, by the B-splines."""
    points = of.control_points(theta)
    areas = [LoopQuadrature(loop).area(points[rows]) for loop, rows in zip(of.loops, of.loop_slices, strict=True)]
    return float(areas[0] - sum(areas[1:]))


@pytest.mark.parametrize("name", ["closed_bar", "nozzle.py:Nozzle"])
def test_curved_cells_converge_to_the_b_spline_with_order_four(name):
    of = family(name)
    theta = designs(of, 1, seed=7)[0]
    sizes = (0.4, 0.2, 0.1)
    errors = []
    for size in sizes:
        mapped = build_shape_map(of, size)
        area = float(nodal_weights(mapped.mesh, mapped.nodes(theta)).sum())
        errors.append(abs(area - _exact_area(of, theta)))
    orders = np.diff(np.log(errors)) / np.diff(np.log(sizes))
    assert orders.mean() > 3.5
    assert errors[-1] < 1e-6 * _exact_area(of, theta) * (10 if name == "closed_bar" else 1)


@pytest.mark.parametrize(
    ("name", "size"), [("closed_bar", 0.15), ("body_in_channel", 0.035), ("nozzle.py:Nozzle", 0.15)]
)
def test_no_design_in_the_bounds_folds_at_the_shipped_size(name, size):
    """At coarser meshes some do (the body's of size 0.07: one in twenty), and are refused."""
    mapped = build_shape_map(family(name), size)
    reference = bernstein_jacobians(mapped.mesh, mapped.reference_nodes)
    assert float(reference.min()) > 0
    ratio = bernstein_jacobians(mapped.mesh, mapped.nodes(designs(mapped.family, 150, seed=8))) / reference
    assert float(ratio.min()) > 0.05


@settings(max_examples=30)
@given(st.data())
def test_the_mesh_s_boundary_is_the_outline(data):
    """Over the box of closed_bar: the polygon of boundary nodes follows the curve as closely as its cells allow."""
    mapped = shape_map("closed_bar")
    bounds = mapped.family.bounds.tolist()
    theta = torch.tensor([data.draw(st.floats(low, high)) for low, high in bounds], dtype=torch.float64)
    points = mapped.family.control_points(theta).numpy()
    ring = LinearRing(loop_matrix(mapped.family.loops[0], 64) @ points)
    nodes = mapped.nodes(theta).numpy()[np.unique(mapped.mesh.facets)]
    assert max(ring.distance(Point(*node)) for node in nodes) < 2e-4


def test_a_fine_mesh_finds_the_seam_of_a_periodic_curve():
    """Nodes a hundredth of a span away from where the parameter begins again."""
    of = load_family("closed_bar", {"control_points": 5}, EXAMPLES)
    points = of.control_points(of.reference).numpy()
    mesh = mesh_family(of, points, 0.3)
    t = np.array([-0.004, 0.0, 0.004, 0.008]) % 5
    boundary = np.unique(mesh.facets)[:4]
    nodes = mesh.nodes.copy()
    nodes[boundary] = of.curves[0].basis(t) @ points
    found, values = boundary_basis(of, points, mesh.moved(nodes))
    np.testing.assert_allclose(values @ points, nodes[found], atol=1e-12)


def test_a_mesh_of_another_design_is_refused():
    of = family("closed_bar")
    mesh = mesh_family(of, of.control_points(of.default).numpy(), 0.5)
    with pytest.raises(MeshError, match="away from the curves of 'closed_bar'"):
        build_shape_map(of, 0.5, mesh)


def test_a_family_whose_middle_is_no_shape_is_refused():
    def control_points_at(theta: torch.Tensor) -> torch.Tensor:
        """A bow tie at x = 0, a rectangle beyond."""
        x, one = theta[..., 0], torch.ones_like(theta[..., 0])
        corners = [(-one, -one), (x, -one), (one, one), (x - 1, one)]
        points = [torch.stack(corners[k % 4], -1) for i in range(4) for k in (i, i + 1)]
        return torch.stack(points, -2)

    tags = ("a", "b", "c", "d")
    of = Family("tie", "", (Parameter("x", 1.5, 1.0, 2.0),), (tuple(Curve(t, 2, 1) for t in tags),), control_points_at)
    assert build_shape_map(of, 0.5).mesh.tag_names == tags
    crossed = Family("tie", "", (Parameter("x", 4.5, 3.0, 6.0),), of.loops, control_points_at)
    with pytest.raises(MeshError, match="the design in the middle of the bounds: self-intersecting curve"):
        build_shape_map(crossed, 0.5)


@pytest.mark.parametrize("tags", [["body"], ["wall", "body"], ["inlet", "wall", "body"]])
def test_the_factor_of_dirichlet_conditions_vanishes_there_only(tags):
    mesh = shape_map("body_in_channel").mesh
    factor = dirichlet_factor(mesh, tags)
    fixed = np.unique(np.concatenate([mesh.facets_on(tag) for tag in tags]))
    assert np.abs(factor[fixed]).max() == 0
    assert np.delete(factor, fixed).min() > 0
    assert factor.max() == 1


def test_without_dirichlet_conditions_the_factor_is_one():
    assert (dirichlet_factor(shape_map("closed_bar").mesh, []) == 1).all()


def test_the_factor_of_a_disc_is_the_paraboloid():
    """-lap(d) = 1 on a disc has the solution (1 - r^2) / 4, which is scaled to 1 - r^2."""
    of = load_family("closed_bar", {"control_points": 24, "lower": 0.9, "upper": 1.1}, EXAMPLES)
    mapped = build_shape_map(of, 0.15)
    radius = np.linalg.norm(mapped.mesh.nodes, axis=-1)
    np.testing.assert_allclose(dirichlet_factor(mapped.mesh, ["wall"]), 1 - (radius / radius.max()) ** 2, atol=1e-3)
