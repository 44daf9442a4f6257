"""Geometric quantities: their derivatives, and their values against brute force on shapes with known ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LinearRing, Polygon

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.measures import QUANTITIES, clearance, gap, jacobian, quantities_of, thickness
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.spline import loop_matrix
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from tests.geometries.shapes import (
    EXAMPLES,
    FAMILIES,
    designs,
    ellipse_family,
    family,
    polygon_family,
    shape_map,
    taylor_order,
)

NAMES = pytest.mark.parametrize("name", FAMILIES)
CASES = [(n, q) for n in FAMILIES for q in QUANTITIES if q != "clearance" or len(family(n).loops) > 1]


def test_clearance_needs_another_loop():
    assert list(quantities_of(shape_map("body_in_channel"))) == list(QUANTITIES)
    assert "clearance" not in quantities_of(shape_map("closed_bar"))
    assert all(quantity.unit and quantity.description for quantity in QUANTITIES.values())


@pytest.mark.parametrize(("name", "quantity"), CASES)
def test_gradients_match_finite_differences(name, quantity):
    """Each component, at designs inside the box; of a batch at once."""
    mapped = shape_map(name)
    evaluate = quantities_of(mapped)[quantity].evaluate
    bounds = mapped.family.bounds
    theta = (0.5 * (designs(mapped.family, 3, seed=11) + mapped.family.reference)).requires_grad_()
    values = evaluate(mapped, theta)
    assert values.shape == (3,)
    (gradient,) = torch.autograd.grad(values.sum(), theta)
    step = 1e-6 * (bounds[:, 1] - bounds[:, 0])
    with torch.no_grad():
        for k in range(len(step)):
            h = step * (torch.arange(len(step)) == k)
            difference = (evaluate(mapped, theta + h) - evaluate(mapped, theta - h)) / (2 * step[k])
            scale = gradient.abs().max() + values.detach().abs().max()
            torch.testing.assert_close(gradient[:, k], difference, rtol=0, atol=float(1e-6 * scale) + 1e-10)
    one = evaluate(mapped, theta[1].detach())
    torch.testing.assert_close(values[1].detach(), one, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("quantity", ["area", "perimeter", "centroid_x", "jacobian", "thickness", "clearance"])
def test_taylor_remainders(quantity):
    mapped = shape_map("body_in_channel")
    evaluate = QUANTITIES[quantity].evaluate
    at = mapped.family.default
    direction = 0.3 * at * torch.linspace(0.2, 1.0, len(at), dtype=torch.float64)
    # the smooth minima bend within a hundredth of the design
    steps = (1e-2, 3e-3, 1e-3, 3e-4) if quantity in ("jacobian", "thickness", "clearance") else (1e-1, 3e-2, 1e-2)
    assert taylor_order(lambda t: evaluate(mapped, t), at, direction, steps) == pytest.approx(2.0, abs=0.1)


@NAMES
def test_the_jacobian_margin_is_a_lower_bound_as_close_as_it_says(name):
    mapped = shape_map(name)
    theta = designs(mapped.family, 40, seed=5)
    reference = bernstein_jacobians(mapped.mesh, mapped.reference_nodes)
    least = (bernstein_jacobians(mapped.mesh, mapped.nodes(theta)) / reference).flatten(1).amin(1)
    below = least - jacobian(mapped, theta)
    assert float(below.min()) >= 0
    assert float(below.max()) <= math.log(6 * len(mapped.mesh.cells)) / 100


@pytest.mark.parametrize("aspect", [1.0, 1.5, 2.0, 3.0, 5.0])
def test_thickness_of_ellipses(aspect):
    of = ellipse_family(aspect, 1.0)
    mapped = build_shape_map(of, 1.0)
    assert 0.84 * 2 < float(thickness(mapped, of.default)) < 2
    assert float(gap(mapped, of.default)) > 1000  # convex: no side faces another
    torch.testing.assert_close(thickness(mapped, 1.3 * of.default), 1.3 * thickness(mapped, of.default))


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
def test_thickness_of_strips(width):
    of = polygon_family([(0.0, 0.0), (4.0, 0.0), (4.0, width), (0.0, width)])
    mapped = build_shape_map(of, 1.0)
    assert 0.84 * width < float(thickness(mapped, of.default)) < width
    assert float(gap(mapped, of.default)) > 1000 * width


@pytest.mark.parametrize(("slot", "prong"), [(0.2, 1.0), (0.5, 0.3), (1.5, 0.7)])
def test_gap_of_a_slotted_block(slot, prong):
    """A U of two prongs: the slot is its gap, a prong (or the base) its thickness."""
    width, base, height = 2 * prong + slot, 0.8, 3.0
    corners = [(0.0, 0.0), (width, 0.0), (width, height), (prong + slot, height), (prong + slot, base)]
    of = polygon_family([*corners, (prong, base), (prong, height), (0.0, height)])
    mapped = build_shape_map(of, 1.0)
    assert 0.84 * slot < float(gap(mapped, of.default)) < slot
    assert 0.84 * min(prong, base) < float(thickness(mapped, of.default)) < min(prong, base)


@settings(max_examples=25)
@given(st.data())
def test_thickness_lies_between_what_pairs_of_points_say(data):
    """Over the box of closed_bar: below the least distance of fully opposite points, near that of all which count."""
    mapped = shape_map("closed_bar")
    bounds = mapped.family.bounds.tolist()
    theta = torch.tensor([data.draw(st.floats(low, high)) for low, high in bounds], dtype=torch.float64)
    points = mapped.family.control_points(theta).numpy()
    x, tangent = (loop_matrix(mapped.family.loops[0], 24, derivative) @ points for derivative in (0, 1))
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], -1) / np.linalg.norm(tangent, axis=-1, keepdims=True)
    offset = x[None] - x[:, None]
    distance = np.linalg.norm(offset, axis=-1) + np.eye(len(x)) * 1e9
    opposed, facing = -normal @ normal.T, -np.einsum("ijd,id->ij", offset, normal) / distance
    value = float(thickness(mapped, theta))
    full = distance[(opposed > 0.99) & (facing > 0.99)]
    some = distance[(opposed > 0.85) & (facing > 0.85)]
    assert value < 1.03 * full.min(initial=np.inf)
    assert value > 0.8 * some.min()


@pytest.mark.parametrize("center", [(1.0, 0.5), (0.6, 0.35), (1.5, 0.7), (0.3, 0.5)])
def test_clearance_is_the_distance_to_the_channel(center):
    of = load_family("body_in_channel", {"center": list(center)}, EXAMPLES)
    mapped = build_shape_map(of, 0.1)
    for theta in [of.default, *designs(of, 4, seed=3)]:
        points = of.control_points(theta).numpy()
        outer, body = (LinearRing(of.outline(points, loop, 100)) for loop in range(2))
        extent = float(np.ptp(of.part_points(of.reference).numpy(), axis=0).min())
        below = outer.distance(body) - float(clearance(mapped, theta))
        assert -0.01 * extent < below < 1.01 * math.log(96) / 50 * extent


def test_clearance_is_negative_outside_the_channel():
    mapped = shape_map("body_in_channel")
    theta = mapped.family.default.clone()
    theta[2:] *= 5.0
    assert float(clearance(mapped, theta)) < -0.05


def test_clearance_from_another_hole():
    """Two square holes 0.4 apart, and 0.3 from the walls on their other sides."""
    holes = [[(0.3, 0.3), (0.6, 0.3), (0.6, 0.7), (0.3, 0.7)], [(1.0, 0.35), (1.7, 0.35), (1.7, 0.65), (1.0, 0.65)]]
    of = polygon_family([(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)], *holes, part=2)
    mapped = build_shape_map(of, 0.1)
    assert float(clearance(mapped, of.default)) == pytest.approx(0.3, abs=0.3 * math.log(300) / 50)
    larger = float(clearance(mapped, torch.tensor([1.4], dtype=torch.float64)))  # reaches x = 1.98
    assert larger == pytest.approx(0.02, abs=0.3 * math.log(300) / 50)


@NAMES
def test_area_and_centroid_are_those_of_the_part(name):
    mapped = shape_map(name)
    of = mapped.family
    for theta in designs(of, 3, seed=9):
        polygon = Polygon(of.outline(of.control_points(theta).numpy(), of.part, 400))
        for quantity, expected in (
            ("area", polygon.area),
            ("perimeter", polygon.length),
            ("centroid_x", polygon.centroid.x),
            ("centroid_y", polygon.centroid.y),
        ):
            assert float(QUANTITIES[quantity].evaluate(mapped, theta)) == pytest.approx(expected, rel=1e-5, abs=1e-9)
