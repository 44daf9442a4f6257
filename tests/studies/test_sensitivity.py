"""Promise: curvatures are second differences of the objective, and a tolerance costs what was allowed, not more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapewright.studies.certify.sensitivity import hessian, tolerance_for, tolerances
from shapewright.studies.problem.models import FemModel
from tests.studies.study_cases import setup_of


def test_the_hessian_holds_the_second_differences_of_the_objective():
    setup = setup_of()
    fem, theta = FemModel(setup), setup.initial + 0.01
    value, gradient, _ = fem.value_and_gradient(theta)
    found = hessian(fem, theta, gradient)
    step = 1e-3 * np.eye(len(theta))
    above, below = (fem.evaluate(theta.numpy() + sign * step)[0][:, 0] for sign in (1, -1))
    np.testing.assert_allclose(np.diagonal(found), (above - 2 * value + below) / 1e-6, rtol=2e-2, atol=1e-3)
    both = step[0] + step[1]
    above, below = (float(fem.evaluate((theta.numpy() + sign * both)[None])[0][0, 0]) for sign in (1, -1))
    second = (above - 2 * value + below) / 1e-6
    assert found[:2, :2].sum() == pytest.approx(second, rel=2e-2, abs=4e-3)


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


matrices = arrays(float, (3, 3), elements=st.floats(-10, 10)).map(lambda m: m + m.T + 0.1 * np.eye(3))


@given(
    gradient=arrays(float, 3, elements=st.floats(0.1, 10)),
    curvature=matrices,
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_all_parameters_together_cost_no_more_than_is_allowed(gradient, curvature, signs):
    alone, share = tolerances(gradient, curvature, 0.01)
    step = share * np.array(alone) * signs
    assert 0 < share <= 1
    assert abs(gradient @ step + 0.5 * step @ curvature @ step) <= 0.01 * (1 + 1e-9)


def test_one_parameter_may_use_its_whole_tolerance():
    alone, share = tolerances(np.array([2.0]), np.array([[3.0]]), 0.01)
    assert share == pytest.approx(1.0)
    assert tolerances(np.array([2.0, 0.0]), np.diag([3.0, 0.0]), 0.01) == ([alone[0], None], pytest.approx(1.0))
    assert tolerances(np.zeros(2), np.zeros((2, 2)), 0.01) == ([None, None], None)
    assert tolerances(np.ones(2), np.array([[1.0, np.nan], [np.nan, 1.0]]), 0.01)[1] is None
