"""Mollifiers: the right function, and exactly as smooth at the edge of a neighbourhood as each one claims."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.surrogate.mgno.mollifier import MOLLIFIERS, mollifier_named
from tests.surrogate.formulas import EXACT_SMOOTHNESS, WEIGHTS

every = pytest.mark.parametrize("name", WEIGHTS)


def weight(name: str, d: float) -> float:
    return float(mollifier_named(name).weight(torch.tensor(d, dtype=torch.float64)))


def test_all_are_covered():
    assert set(MOLLIFIERS) == set(WEIGHTS)
    assert {name: mollifier.smoothness for name, mollifier in MOLLIFIERS.items()} == EXACT_SMOOTHNESS


@every
@given(d=st.floats(0, 3))
def test_formula(name, d):
    assert weight(name, d) == pytest.approx(WEIGHTS[name](d), abs=1e-12)


@every
def test_one_at_the_centre_and_zero_from_the_edge_on(name):
    assert weight(name, 0.0) == 1
    assert all(weight(name, d) == 0 for d in (1.0, 1.0 + 1e-12, 2.0, 1e6))


@every
@given(pair=st.tuples(st.floats(0, 1.5), st.floats(0, 1.5)))
def test_falls_and_stays_between_zero_and_one(name, pair):
    near, far = sorted(pair)
    assert weight(name, near) >= weight(name, far) - 1e-14
    assert -1e-14 <= weight(name, near) <= 1


@every
@given(h=st.floats(5e-4, 2e-3))
def test_derivatives_vanish_at_the_edge_up_to_the_stated_order_and_not_beyond(name, h):
    """One-sided difference quotients from inside; outside all derivatives are zero."""
    smoothness = MOLLIFIERS[name].smoothness

    def quotient(order: int) -> float:
        terms = ((-1) ** k * math.comb(order, k) * weight(name, 1 - k * h) for k in range(order + 1))
        return abs(sum(terms)) / h**order

    for order in range(1, min(smoothness, 4) + 1):
        assert quotient(order) < 250 * h
    if smoothness < math.inf:
        assert quotient(smoothness + 1) > 1


@every
def test_first_and_second_derivatives(name):
    d = torch.tensor([0.0, 0.03, 0.2, 0.41, 0.63, 0.85, 0.97, 1.2], dtype=torch.float64, requires_grad=True)
    function = MOLLIFIERS[name].weight
    assert torch.autograd.gradcheck(function, (d,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (d,))


@every
def test_slope_and_curvature_are_the_derivatives(name):
    """Those written out against automatic ones, also beyond the edge."""
    d = torch.tensor([0.0, 0.03, 0.2, 0.41, 0.63, 0.85, 0.97, 1.2, 1e6], dtype=torch.float64, requires_grad=True)
    mollifier = MOLLIFIERS[name]
    (slope,) = torch.autograd.grad(mollifier.weight(d).sum(), d, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), d)
    torch.testing.assert_close(mollifier.slope(d), slope, atol=1e-13, rtol=1e-12)
    torch.testing.assert_close(mollifier.curvature(d), curvature, atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(mollifier.curvature, (d[:-1],), rtol=1e-6, atol=1e-7)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_nan_in_derivatives_anywhere(name, dtype):
    d = torch.tensor([0.0, 1 - 1e-5, 1 - 1e-6, 1 - 1e-7, 1.0, 1 + 1e-7, 1.5, 1e6], dtype=dtype, requires_grad=True)
    value = MOLLIFIERS[name].weight(d)
    (first,) = torch.autograd.grad(value.sum(), d, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), d)
    assert value.isfinite().all()
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert (first[4:] == 0).all()
    assert (second[5:] == 0).all()


def test_unknown_name_lists_those_there_are():
    with pytest.raises(ValueError, match="mollifier is 'gauss'; allowed are bump, octic"):
        mollifier_named("gauss")
