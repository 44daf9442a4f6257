"""Promise: the outline is the waved disc of the formula, for every design, and its mesh follows it along rays."""

import numpy as np
import pytest
import torch

from shapewright.geometries.design.extension import boundary_basis, build_shape_map, ray_extension
from shapewright.geometries.family.parts import FamilyError
from shapewright.geometries.family.star_domain import star_domain
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from tests.geometries.shapes import designs

FAMILY = star_domain()


def radii(family, theta, waves, radius=1.0):
    """Radius of the outline and of the formula at the outline's own angles."""
    points = family.outline(family.control_points(theta).numpy(), 0, 16)
    angle = np.arctan2(points[:, 1], points[:, 0])
    wanted = radius * (1 + sum(c * np.cos(k * angle) for c, k in zip(theta.tolist(), waves, strict=True)))
    return np.hypot(*points.T), wanted


def corners(family):
    return torch.cartesian_prod(*family.bounds)


def test_the_outline_is_the_formula_to_2e_5():
    worst = 0.0
    for theta in torch.cat([corners(FAMILY), designs(FAMILY, 30)]):
        found, wanted = radii(FAMILY, theta, (4, 8))
        worst = max(worst, np.abs(found - wanted).max())
    print(f"largest distance of outline and formula {worst:.2e}")
    assert worst < 2.1e-5


def test_the_outline_converges_at_order_four():
    theta = torch.tensor([0.2, -0.2], dtype=torch.float64)
    errors = [
        np.abs(np.subtract(*radii(star_domain(control_points=count), theta, (4, 8)))).max() for count in (64, 128, 256)
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    print(f"errors {errors}, orders {orders}")
    assert (orders > 3.7).all()


def test_other_waves_and_radii():
    family = star_domain(waves=[2, 3, 5], amplitude=0.3, radius=2.5, control_points=96)
    for theta in designs(family, 10):
        found, wanted = radii(family, theta, (2, 3, 5), 2.5)
        np.testing.assert_allclose(found, wanted, atol=5e-5)


def test_the_area_is_that_of_the_formula():
    theta = designs(FAMILY, 20)
    area = FAMILY.part_quadrature.area(FAMILY.control_points(theta))
    torch.testing.assert_close(area, torch.pi * (1 + theta.square().sum(-1) / 2), rtol=1e-5, atol=0)


def test_the_mesh_follows_the_outline_and_does_not_fold():
    shape_map = build_shape_map(FAMILY, 0.12)  # that of the shipped study
    points = FAMILY.control_points(FAMILY.reference).numpy()
    boundary, basis = boundary_basis(FAMILY, points, shape_map.mesh)
    np.testing.assert_allclose(shape_map.extension[boundary].numpy(), basis, atol=1e-10)
    reference = bernstein_jacobians(shape_map.mesh, shape_map.reference_nodes)
    ratio = bernstein_jacobians(shape_map.mesh, shape_map.nodes(torch.cat([corners(FAMILY), designs(FAMILY, 100)])))
    print(f"least Jacobian {float((ratio / reference).min()):.3f} of the reference's")
    assert (ratio / reference).min() > 0.2


def test_a_node_in_the_centre_stays_there():
    mesh = build_shape_map(FAMILY, 0.4).mesh
    nodes = mesh.nodes.copy()
    centre = np.linalg.norm(nodes, axis=-1).argmin()
    nodes[centre] = 0.0
    extension = ray_extension(FAMILY, FAMILY.control_points(FAMILY.reference).numpy(), mesh.moved(nodes))
    assert np.isfinite(extension).all()
    assert not extension[centre].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"waves": []}, "waves is"),
        ({"waves": [1, 4]}, "whole numbers of 2 or more"),
        ({"waves": [2.5]}, r"waves\[0\] is 2.5; allowed is a whole number"),
        ({"amplitude": 0.5}, "sum to less than 1"),
        ({"amplitude": 0.0}, "sum to less than 1"),
        ({"radius": -1.0}, "radius > 0"),
        ({"control_points": 40}, "54 or more for 8 waves"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(FamilyError, match=message):
        star_domain(**options)
