"""Bounds of what smooth maxima miss; their derivatives are among those of test_shape_derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.smooth_maximum import (
    kreisselmeier_steinhauser,
    kreisselmeier_steinhauser_bounds,
    p_norm,
    p_norm_bounds,
)
from tests.solvers.solver_cases import TORSION
from tests.solvers.solver_meshes import mapped_square

WAVES = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 6)), min_size=1, max_size=4)


def profile(waves, level, length):
    """(S,) values of a periodic quantity, its spacing, and a Lipschitz constant of it."""
    arc = np.linspace(0, length, 20001)[:-1]
    values, slope = np.full_like(arc, level), 0.0
    for k, (amplitude, phase) in enumerate(waves, 1):
        wave = 2 * np.pi * k / length
        values += amplitude * np.cos(wave * arc + phase)
        slope += abs(amplitude) * wave
    return values, length / len(arc), slope


@given(waves=WAVES, level=st.floats(-3, 5), length=st.floats(0.3, 20), half=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_p_norm_bounds_hold(waves, level, length, half):
    values, spacing, slope = profile(waves, level, length)
    largest = np.abs(values).max()
    if largest < 1e-3:
        return
    norm = (((np.abs(values) / largest) ** (2 * half)).sum() * spacing) ** (0.5 / half) * largest
    least, most = p_norm_bounds(norm, 2 * half, length, slope)
    assert least <= largest * (1 + 1e-9)
    assert largest <= most * (1 + 1e-6)


@given(waves=WAVES, level=st.floats(-3, 5), length=st.floats(0.3, 20), sharpness=st.floats(1, 60))
@settings(max_examples=60, deadline=None)
def test_kreisselmeier_steinhauser_bounds_hold(waves, level, length, sharpness):
    values, spacing, slope = profile(waves, level, length)
    largest = values.max()
    smooth = largest + np.log(np.exp(sharpness * (values - largest)).sum() * spacing) / sharpness
    least, most = kreisselmeier_steinhauser_bounds(smooth, sharpness, length, slope)
    assert least <= largest + 1e-9
    assert largest <= most + 1e-6


def test_bounds_close_as_the_maximum_sharpens():
    """Around a maximum 3 of slope 1 on a curve of length 6, nearly in proportion to 1/p and 1/rho."""
    gaps = []
    for sharpness in (32, 128, 512):
        reach = np.linspace(0, 3, 200001)
        fall = 3 - reach
        norm = (2 * np.trapezoid((fall / 3) ** sharpness, reach)) ** (1 / sharpness) * 3
        low, high = p_norm_bounds(norm, sharpness, 6.0, 1.0)
        assert high == pytest.approx(3, rel=1e-5)  # the worst case is this very function
        gaps.append(high - low)
    assert gaps[2] < gaps[0] / 8
    flat = 3 * 6 ** (1 / 32)
    assert p_norm_bounds(flat, 32, 6.0, 0.0) == pytest.approx((3, 3))
    assert kreisselmeier_steinhauser_bounds(3 + np.log(6) / 30, 30, 6.0, 0.0) == pytest.approx((3, 3))


def test_functionals_of_a_known_quantity():
    """s = 2 x^2 on one side of the unit square; the scale changes nothing but the rounding."""

    def density(ops, q):
        return 2 * q["x"] ** 2

    norms = [p_norm(f"p{scale}", density, "1", "", exponent=4, on="top", scale=scale) for scale in (1.0, 50.0)]
    smooth = [
        kreisselmeier_steinhauser(f"ks{scale}", density, "1", "", sharpness=3.0 * scale, on="top", scale=scale)
        for scale in (1.0, 2.0)
    ]
    inside = p_norm("inside", density, "1", "", exponent=2)
    problem = TORSION.__class__(TORSION.physics, dirichlet=TORSION.dirichlet, functionals=(*norms, *smooth, inside))
    values = FemSolver(problem, mapped_square(8), quadrature_degree=10).solve().values
    assert values["p1.0"] == pytest.approx((16 / 9) ** 0.25, rel=1e-10)
    assert values["p50.0"] == pytest.approx(values["p1.0"], rel=1e-12)
    x, w = np.polynomial.legendre.leggauss(40)
    expected = np.log((np.exp(6 * ((x + 1) / 2) ** 2) * w / 2).sum()) / 3
    assert values["ks1.0"] == pytest.approx(expected, rel=1e-8)
    assert values["ks2.0"] == pytest.approx(expected, rel=1e-8)
    assert values["inside"] == pytest.approx(np.sqrt(4 / 5), rel=1e-12)
    for exponent in (3, 0, -2):
        with pytest.raises(ValueError, match=f"exponent of the p-norm is {exponent}; allowed is an even number"):
            p_norm("f", density, "1", "", exponent=exponent)
