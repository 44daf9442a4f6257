"""The plate with a hole: its circle, its ellipses, its symmetry, and the designs in its box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.measures import QUANTITIES, valid_designs
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.parts import FamilyError
from shapewright.geometries.family.plate_with_hole import plate_with_hole
from tests.geometries.shapes import EXAMPLES, designs, taylor_order


@pytest.fixture(scope="module")
def shape_map():
    return build_shape_map(plate_with_hole(), 0.3)


@pytest.mark.parametrize("count", [8, 12, 16, 32])
def test_the_hole_starts_as_the_circle_that_was_asked_for(count):
    family = plate_with_hole(radius=0.7, control_points=count)
    points = family.part_points(family.default)
    assert len(family.parameters) == count // 4 + 1
    error = 1.5e-3 * (8 / count) ** 4
    assert float(family.part_quadrature.area(points)) == pytest.approx(math.pi * 0.49, rel=error)
    radii = np.linalg.norm(family.outline(family.control_points(family.default).numpy(), 1), axis=-1)
    np.testing.assert_allclose(radii, 0.7, rtol=error)


def test_ellipses_of_axes_two_to_one_are_among_the_designs():
    family = plate_with_hole(control_points=16)
    theta = family.default.clone()
    theta[1] = 2.0
    assert (theta >= family.bounds[:, 0]).all()
    assert (theta <= family.bounds[:, 1]).all()
    x, y = family.outline(family.control_points(theta).numpy(), 1).T
    np.testing.assert_allclose(x**2 / 2 + 2 * y**2, 1, rtol=2e-4)


def test_every_design_is_symmetric_and_keeps_the_rim():
    family = plate_with_hole(width=8, height=6, control_points=12)
    for theta in designs(family, 5):
        points = family.control_points(theta)
        assert sorted(map(tuple, points[:8].abs().tolist())) == [(4.0, 3.0)] * 8
        hole = points[8:]
        for mirror in ([1, -1], [-1, 1]):
            image = hole * torch.tensor(mirror, dtype=torch.float64)
            assert float(torch.cdist(image, hole).min(-1).values.max()) < 1e-14


def test_designs_of_the_box_are_valid(shape_map):
    family = shape_map.family
    assert valid_designs(shape_map, designs(family, 60), least_jacobian=0.05).mean() > 0.95
    box = torch.stack([family.default, family.bounds[:, 0], family.bounds[:, 1]])
    assert valid_designs(shape_map, box).all()
    assert set(shape_map.mesh.tag_names) == {"left", "right", "top", "bottom", "hole"}


@pytest.mark.parametrize("name", ["area", "perimeter", "jacobian", "clearance"])
def test_quantities_are_differentiable(shape_map, name):
    theta = shape_map.family.default
    direction = torch.linspace(0.3, -0.2, len(theta), dtype=torch.float64)
    order = taylor_order(lambda t: QUANTITIES[name].evaluate(shape_map, t), theta, direction, (1e-2, 3e-3, 1e-3))
    assert order > 1.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 4.0}, r"hole of radius 4.0, stretched to 1.8 radii along x .* not inside the plate 10.0 x 10.0"),
        ({"radius": -1.0}, "hole of radius -1.0"),
        ({"height": 2.0}, "not inside the plate 10.0 x 2.0"),
        ({"control_points": 10}, "control_points is 10; allowed is a multiple of 4, 8 or more"),
        ({"control_points": 4}, "control_points is 4"),
        ({"slenderness": 0.9}, "slenderness is 0.9; allowed is more than 1.1"),
    ],
)
def test_what_is_no_plate_with_a_hole(options, message):
    with pytest.raises(FamilyError, match=message):
        load_family("plate_with_hole", options, EXAMPLES)
