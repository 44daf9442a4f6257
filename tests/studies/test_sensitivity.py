"""Promise: curvatures are second differences of the objective, and a tolerance costs what was allowed, not more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.models import FemModel
from studies.sensitivity import curvatures, tolerance_for
from tests.studies.study_cases import setup_of


def test_curvatures_are_second_differences_of_the_objective():
    setup = setup_of()
    fem, theta = FemModel(setup), setup.initial + 0.01
    value, gradient, _ = fem.value_and_gradient(theta)
    found = curvatures(fem, theta, gradient)
    step = 1e-3 * np.eye(len(theta))
    above, below = (fem.evaluate(theta.numpy() + sign * step)[0][:, 0] for sign in (1, -1))
    np.testing.assert_allclose(found, (above - 2 * value + below) / 1e-6, rtol=2e-2, atol=1e-3)


sizes = st.floats(1e-6, 1e6)


@given(slope=sizes, curvature=sizes, allowed=sizes, signs=st.tuples(*[st.sampled_from([-1, 1])] * 2))
def test_the_tolerance_spends_what_is_allowed(slope, curvature, allowed, signs):
    found = tolerance_for(signs[0] * slope, signs[1] * curvature, allowed)
    assert slope * found + 0.5 * curvature * found**2 == pytest.approx(allowed, rel=1e-9)


@given(size=sizes, allowed=sizes)
def test_either_derivative_alone_bounds_it(size, allowed):
    assert tolerance_for(size, 0.0, allowed) == pytest.approx(allowed / size)
    assert tolerance_for(0.0, size, allowed) == pytest.approx(np.sqrt(2 * allowed / size))


def test_nothing_known_is_said_as_none():
    assert tolerance_for(0.0, 0.0, 1.0) is None
    assert tolerance_for(1.0, np.nan, 1.0) is None
