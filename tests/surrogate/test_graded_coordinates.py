"""Graded coordinates: increasing, exact slopes, and weights that measure the domain as it lies in them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.point_cloud import boundary_cloud, nodal_cloud
from shapewright.geometries.family.plate_with_hole import plate_with_hole
from shapewright.surrogate.mgno.graded_coordinates import GradedCoordinates

GRADED = GradedCoordinates((0.3, -0.2), 1.2)
coordinates = st.floats(-50, 50)


@given(coordinates, coordinates, st.floats(0.1, 10))
def test_slopes_are_those_of_the_coordinates(x, y, length):
    graded = GradedCoordinates((0.3, -0.2), length)
    point = torch.tensor([x, y], dtype=torch.float64)
    jacobian = torch.func.jacrev(graded.map)(point)
    torch.testing.assert_close(jacobian, graded.slopes(point).diag(), rtol=1e-10, atol=0)
    assert bool((jacobian.diag() > 0).all())
    assert bool((jacobian.diag() <= 1).all())


def test_the_center_stays_and_lengths_near_it_are_kept():
    center = torch.tensor(GRADED.center, dtype=torch.float64)
    assert torch.equal(GRADED.map(center), center)
    assert torch.equal(GRADED.slopes(center), torch.ones(2, dtype=torch.float64))


def test_weights_sum_to_the_measures_in_the_coordinates():
    """A plate without its hole is a rectangle in them, too: area and perimeter are known but for the hole's."""
    shape_map = build_shape_map(plate_with_hole(width=8.0, height=6.0, radius=0.5), 0.1)
    nodes = shape_map.nodes(shape_map.family.default[None])
    graded = GradedCoordinates((0.0, 0.0), 1.2)
    inside, rim = graded.interior(nodal_cloud(shape_map, nodes)), graded.boundary(boundary_cloud(shape_map, nodes))
    sides = [2 * 1.2 * math.asinh(half / 1.2) for half in (4.0, 3.0)]
    circle = shape_map.family.outline(shape_map.family.control_points(shape_map.family.default).numpy(), 1, 400)
    hole = graded.map(torch.from_numpy(circle))
    step = hole.roll(-1, 0) - hole
    cut = float((hole[:, 0] * step[:, 1] - hole[:, 1] * step[:, 0]).sum() / 2)
    assert float(inside.measures()) == pytest.approx(sides[0] * sides[1] - abs(cut), rel=1e-3)
    assert float(rim.measures()) == pytest.approx(2 * sum(sides) + float(step.norm(dim=-1).sum()), rel=1e-4)
