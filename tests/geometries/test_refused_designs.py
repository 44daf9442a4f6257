"""Designs that are no valid shape are refused by name, and all others pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.measures import ShapeError, check_design, jacobian, thickness, valid_designs
from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from tests.geometries.shapes import FAMILIES, designs, family, polygon_family, shape_map

BODY = family("body_in_channel")
PARAMETERS = [parameter.name for parameter in BODY.parameters]


def body(**changes: float) -> torch.Tensor:
    """The body's default design with some parameters changed."""
    theta = BODY.default
    for name, value in changes.items():
        theta[PARAMETERS.index(name)] = value
    return theta


@pytest.mark.parametrize("name", FAMILIES)
def test_the_start_and_the_middle_of_the_bounds_pass(name):
    mapped = shape_map(name)
    check_design(mapped, mapped.family.default)
    check_design(mapped, mapped.family.reference)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value):
    with pytest.raises(ShapeError, match="parameters that are not finite"):
        check_design(shape_map("body_in_channel"), body(h3=value))


@settings(max_examples=20)
@given(st.integers(2, 6), st.floats(-0.4, -0.2))
def test_self_intersecting(k, height):
    """One height below the axis: upper and lower side change places there."""
    with pytest.raises(ShapeError, match="self-intersecting curve: the outline 'body' crosses itself"):
        check_design(shape_map("body_in_channel"), body(**{f"h{k}": height}))


@settings(max_examples=20)
@given(st.sampled_from(["front", "back", "h4"]), st.floats(1.8, 5.0))
def test_outside_the_domain(name, value):
    with pytest.raises(ShapeError, match="outside the domain: the outline 'body' leaves 'wall'"):
        check_design(shape_map("body_in_channel"), body(**{name: value}))


def test_overlapping_holes():
    holes = [[(0.3, 0.3), (0.6, 0.3), (0.6, 0.5), (0.3, 0.5)], [(1.0, 0.35), (1.3, 0.35), (1.3, 0.65), (1.0, 0.65)]]
    of = polygon_family([(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)], *holes, part=1)
    mapped = build_shape_map(of, 0.2)
    check_design(mapped, of.default)
    with pytest.raises(ShapeError, match="overlapping holes: the outlines 'loop1' and 'loop2' meet"):
        check_design(mapped, torch.tensor([2.4], dtype=torch.float64))


def test_folded_maps_are_refused_and_no_others():
    """A coarse mesh folds for one design in twenty of the box; cells that are folded at a point are never passed."""
    mapped = build_shape_map(BODY, 0.1)
    theta = designs(BODY, 120)
    nodes = mapped.nodes(theta)
    least = (
        bernstein_jacobians(mapped.mesh, nodes) / bernstein_jacobians(mapped.mesh, mapped.reference_nodes)
    ).flatten(1)
    folded = (least.amin(1) <= 0).numpy()
    assert 0 < folded.sum() < 20
    np.testing.assert_array_equal(valid_designs(mapped, theta), ~folded)
    assert cell_points(mapped.mesh, nodes[torch.from_numpy(~folded)]).weights.min() > 0
    with pytest.raises(ShapeError, match="folded map: the least Jacobian ratio is -0"):
        check_design(mapped, theta[int(folded.argmax())])


def test_a_margin_above_folding_can_be_asked_for():
    mapped = shape_map("closed_bar")
    theta = designs(mapped.family, 60, seed=1)
    margin = jacobian(mapped, theta)
    threshold = float(margin.median())
    np.testing.assert_array_equal(valid_designs(mapped, theta, threshold), (margin > threshold).numpy())
    assert valid_designs(mapped, theta).all()


@settings(max_examples=15)
@given(st.floats(0.4, 1.0))
def test_too_thin(share):
    theta = BODY.default
    theta[2:] *= share
    through = float(thickness(shape_map("body_in_channel"), theta))
    check_design(shape_map("body_in_channel"), theta, least_thickness=0.99 * through)
    with pytest.raises(ShapeError, match=r"too thin: least distance through the part .*; allowed is .* or more"):
        check_design(shape_map("body_in_channel"), theta, least_thickness=1.01 * through)


@settings(max_examples=40)
@given(st.data())
def test_every_design_in_the_box_of_the_closed_bar_passes(data):
    mapped = shape_map("closed_bar")
    bounds = mapped.family.bounds.tolist()
    check_design(mapped, torch.tensor([data.draw(st.floats(low, high)) for low, high in bounds], dtype=torch.float64))


def test_designs_may_carry_a_gradient_and_be_float32():
    theta = family("closed_bar").default
    check_design(shape_map("closed_bar"), theta.clone().requires_grad_())
    check_design(shape_map("closed_bar"), theta.float())
