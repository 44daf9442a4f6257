"""Promise: `check` passes for right derivatives and fails, with the cause, for wrong, vanishing or kinked ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapewright.studies.certify.taylor import check_study, taylor_test
from tests.studies.study_cases import setup_of


@pytest.fixture(scope="module")
def tests():
    return check_study(setup_of())


def test_every_derivative_of_the_chain_is_there_and_right(tests):
    names = "\n".join(test.name for test in tests)
    for link in (
        "quadrature weights in theta", "boundary points, normals and weights in theta", "area in theta",
        "FEM objective in theta (adjoint)", "FEM objective in theta (tangent)", "material derivative",
        "mGNO in query points", "mGNO in input points", "surrogate objective in theta (whole chain)",
    ):  # fmt: skip
        assert link in names
    for test in tests:
        assert test.passed, f"{test.name}: {test.explanation}"
        assert test.exact or abs(test.order - 2) <= 0.1
        assert test.exact or len(test.steps) >= 3


@given(slope=st.floats(0.5, 5), curvature=st.floats(0.1, 5), scale=st.floats(1e-2, 1e2))
def test_right_derivatives_pass_at_any_scale(slope, curvature, scale):
    test = taylor_test("f", lambda h: scale * (1 + slope * h + curvature * math.sin(h) ** 2), scale * slope)
    assert test.passed, test.explanation
    assert test.order == pytest.approx(2, abs=0.1)


@given(slope=st.floats(0.5, 5), factor=st.sampled_from([-1, 0.5, 0.83, 0.999, 1.001, 2]))
def test_wrong_derivatives_fail_whatever_the_function(slope, factor):
    test = taylor_test("f", lambda h: 1 + slope * h + h * h, factor * slope)
    assert not test.passed
    assert "off the central difference" in test.explanation


@pytest.mark.parametrize("derivative", [0.0, 1e-12, -1e-11])
def test_a_derivative_of_about_zero_proves_nothing(derivative):
    """A constant agrees with any derivative that rounding hides."""
    test = taylor_test("f", lambda h: 1.0, derivative)
    assert not test.passed
    assert test.explanation == "the derivative is zero, so the test proves nothing"


def test_a_kink_is_found_by_the_order():
    """Central differences agree with the mean slope; the remainder falls with order one only."""
    test = taylor_test("f", lambda h: 1 + 2 * h + 0.3 * abs(h), 2.0)
    assert not test.passed
    assert "falls with order 1.00, not 2" in test.explanation


def test_linear_functions_are_exact():
    test = taylor_test("f", lambda h: 3 + 2 * h, 2.0)
    assert test.exact
    assert test.passed
    assert math.isnan(test.order)


def test_values_that_are_not_numbers_fail():
    assert not taylor_test("f", lambda h: math.nan, 1.0).passed
    assert not taylor_test("f", lambda h: 1 + h, math.nan).passed
