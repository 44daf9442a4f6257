"""The geometry behind the pictures: triangles that cover the domain, its boundary, and colour scales."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapewright.app.report.data import NodalFields
from shapewright.app.report.field_figures import (
    boundary,
    common_limits,
    field_figure,
    symmetric_limits,
    triangulation,
)
from shapewright.app.report.figures import outlines
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.body_in_channel import body_in_channel
from shapewright.studies.certify.export import Outline, Shape, Shapes

VALUES = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6))


@pytest.fixture(scope="module")
def channel() -> NodalFields:
    """A circle of radius 0.15 in a 2 by 1 channel."""
    shape_map = build_shape_map(body_in_channel(), 0.1)
    return NodalFields(shape_map.nodes(shape_map.family.default).numpy(), shape_map.mesh.cells, {})


def test_triangles_cover_the_domain_once(channel) -> None:
    triangles = triangulation(channel)
    a, b, c = channel.points[triangles.triangles].transpose(1, 0, 2)
    areas = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (areas > 0).all()
    assert len(areas) == 4 * len(channel.cells)
    assert areas.sum() == pytest.approx(2.0 - np.pi * 0.15**2, rel=1e-3)


def test_boundary_is_the_walls_and_the_body(channel) -> None:
    lines = boundary(channel)
    length = sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines)
    assert length == pytest.approx(6.0 + 2 * np.pi * 0.15, rel=1e-2)
    ends = np.round([line[i] for line in lines for i in (0, 2)], 9)
    assert (np.unique(ends, axis=0, return_counts=True)[1] == 2).all()  # closed


@given(VALUES, VALUES)
def test_common_limits_lie_within_the_values_and_apart(first, second) -> None:
    low, high = common_limits(first, second)
    together = np.concatenate([first, second])
    room = 1e-8 * max(1.0, np.abs(together).max())
    assert low < high
    assert together.min() - room <= low
    assert high <= together.max() + room


def test_single_peak_does_not_take_up_the_scale() -> None:
    values = np.append(np.linspace(0.0, 1.0, 1000), 50.0)
    assert common_limits(values)[1] < 1.1


@given(VALUES)
def test_symmetric_limits_have_zero_in_the_middle_and_hold_all(values) -> None:
    low, high = symmetric_limits(values)
    assert low == -high < 0
    assert np.abs(values).max() <= high


def test_constant_field_is_drawn(channel) -> None:
    values = np.full(len(channel.points), 3.0)
    figure = field_figure("u", channel, values, common_limits(values), "u [1]", "m")
    assert figure.source.startswith("data:image/png;base64,")
    assert "between 3 and 3" in figure.alt


def test_loops_that_moved_are_told_from_those_that_stayed() -> None:
    wall, hole = [[0, 0], [1, 0], [1, 1]], [[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]
    larger = [[0.3, 0.4], [0.6, 0.4], [0.5, 0.6]]

    def shapes(after: list) -> Shapes:
        initial, optimum = (Shape((Outline("wall", wall), Outline("hole", part)), part) for part in (hole, after))
        return Shapes("m", initial, optimum)

    moved, fixed = outlines(shapes(larger))
    assert (len(moved), len(fixed)) == (1, 1)
    np.testing.assert_array_equal(moved[0][1], larger)
    moved, fixed = outlines(shapes(hole))
    assert (len(moved), len(fixed)) == (2, 0)
