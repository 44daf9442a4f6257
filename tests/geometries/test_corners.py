"""Promise: corners of a loop are found with the angle inside it, and smooth joints are none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapewright.geometries.family.corners import corners
from shapewright.geometries.family.spline import Curve


def polygon(points):
    points = np.asarray(points, float)
    return [Curve("wall", 2, 1)] * len(points), np.concatenate([points, np.roll(points, -1, 0)], 1).reshape(-1, 2)


@given(sides=st.integers(3, 12), turn=st.floats(0, 6.2))
def test_a_regular_polygon_has_its_angles(sides, turn):
    angles = turn + 2 * math.pi * np.arange(sides) / sides
    found = corners(*polygon(np.stack([np.cos(angles), np.sin(angles)], -1)))
    assert len(found) == sides
    assert all(corner.angle == pytest.approx(180 * (sides - 2) / sides) for corner in found)


def test_a_corner_that_goes_in_is_above_180_degrees():
    found = corners(*polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]))
    assert [round(corner.angle) for corner in found] == [90, 90, 270, 90, 90, 90]
    assert found[2].point == (1.0, 1.0)


def test_smooth_joints_and_periodic_curves_have_none():
    lens = np.array([[-1, 0], [-1, -1], [1, -1], [1, 0], [1, 0], [1, 1], [-1, 1], [-1, 0]], float)
    assert corners([Curve("wall", 4)] * 2, lens) == []
    assert corners([Curve("wall", 8, periodic=True)], lens) == []
    lens[[1, 6], 0] = -0.5  # the joint at (-1, 0) becomes a tip
    (tip,) = corners([Curve("wall", 4)] * 2, lens)
    assert tip.point == (-1.0, 0.0)
    assert tip.angle == pytest.approx(2 * math.degrees(math.atan2(1, 0.5)))
