"""Promise: a corrected model is exact to first order at its centre, knows every other solved design, and is smooth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.studies.optimize.correction import Difference, corrected


def expensive(z):
    """Two functionals of four parameters, with their Jacobian."""
    product = np.prod(1 + z)
    return np.array([np.sin(3 * z).sum(), product]), np.stack([3 * np.cos(3 * z), product / (1 + z)])


def cheap(z):
    """Another two, wrong in value and slope."""
    return np.array([1.0 + z[0], (z**2).sum()]), np.stack([np.eye(len(z))[0], 2 * z])


def differences(points):
    return [
        Difference(z, *(truth - guess for truth, guess in zip(expensive(z), cheap(z), strict=True))) for z in points
    ]


designs = st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=8, unique_by=tuple)


@settings(deadline=None)
@given(points=designs)
def test_first_order_consistency_at_the_centre_wherever_the_others_lie(points):
    known = differences(np.array(points))
    model = corrected(cheap, known[0], known[1:])
    values, jacobian = model(known[0].z)
    exact, slopes = expensive(known[0].z)
    np.testing.assert_allclose(values, exact, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jacobian, slopes, rtol=1e-11, atol=1e-11)


def test_all_designs_that_are_solved_are_interpolated():
    points = np.random.default_rng(0).random((6, 4))
    known = differences(points)
    model = corrected(cheap, known[0], known[1:])
    for z in points:
        np.testing.assert_allclose(model(z)[0], expensive(z)[0], atol=1e-6)
        np.testing.assert_allclose(model(z)[1], expensive(z)[1], atol=1e-6)


@pytest.mark.parametrize("others", [0, 5])
def test_the_jacobian_is_that_of_the_values(others):
    rng = np.random.default_rng(1)
    known = differences(rng.random((1 + others, 4)))
    model, z, direction = corrected(cheap, known[0], known[1:]), rng.random(4), rng.standard_normal(4)
    slope = model(z)[1] @ direction
    steps = np.array([1e-2, 1e-3])
    errors = np.stack([(model(z + h * direction)[0] - model(z - h * direction)[0]) / (2 * h) - slope for h in steps])
    assert np.abs(slope).min() > 0.1
    assert (np.abs(errors[1]) < 1e-4).all()
    if others:
        assert np.log10(np.abs(errors[0] / errors[1])).min() == pytest.approx(2, abs=0.1)


def test_known_designs_tell_of_curvature():
    """Between centre and a known design the difference is followed, which a linear correction cannot."""
    ends = np.array([[0.4] * 4, [0.6] * 4])
    known, z = differences(ends), np.full(4, 0.55)
    exact = expensive(z)[1]
    learnt, linear = (np.abs(corrected(cheap, known[0], others)(z)[1] - exact).max() for others in (known[1:], []))
    assert learnt < 0.1 * linear
