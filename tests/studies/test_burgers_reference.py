"""Promise: the reference solves Burgers' equation to many digits more than anything judged by it, or refuses."""

import numpy as np
import pytest
from scipy.special import ive

from shapewright.studies.problem.burgers_reference import reference, solve_burgers

VISCOSITY = 0.05


def cole_hopf(x: np.ndarray, time: float) -> np.ndarray:
    """Exact solution for u(x, 0) = sin(2 pi x): u = -2 nu (log phi)_x, where phi solves the heat equation from
    exp(-(1 - cos 2 pi x) / (4 pi nu)), a Fourier series with modified Bessel functions as coefficients.

    J. D. Cole, *On a quasi-linear parabolic equation occurring in aerodynamics* (1951).
    """
    wave = np.arange(60)
    weight = np.where(wave == 0, 1, 2) * ive(wave, 1 / (4 * np.pi * VISCOSITY))
    weight = weight * np.exp(-VISCOSITY * (2 * np.pi * wave) ** 2 * time)
    phase = 2 * np.pi * np.outer(x, wave)
    return 2 * VISCOSITY * (np.sin(phase) @ (2 * np.pi * wave * weight)) / (np.cos(phase) @ weight)


def test_reference_is_the_cole_hopf_solution() -> None:
    x = np.arange(256) / 256
    found = reference(np.sin(2 * np.pi * x)[None], VISCOSITY, 32)[0]
    exact = np.stack([cole_hopf(x[::8], time) for time in np.linspace(0, 1, 33)], -1)
    assert found.shape == (32, 33)
    assert np.abs(found - exact).max() < 1e-9


def test_time_stepping_is_of_fourth_order() -> None:
    x = np.arange(64) / 64
    exact = cole_hopf(x, 1.0)
    errors = [
        np.abs(solve_burgers(np.sin(2 * np.pi * x)[None], VISCOSITY, 2, steps)[0, -1] - exact).max()
        for steps in (128, 256, 512)
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 4) < 0.2).all()


def test_space_converges_faster_than_any_power() -> None:
    """Coefficients fall exponentially: every doubling of the points squares the error, until rounding."""
    errors = []
    for count in (16, 32, 64):
        x = np.arange(count) / count
        found = solve_burgers(np.sin(2 * np.pi * x)[None], VISCOSITY, 2, 1024)[0, -1]
        errors.append(np.abs(found - cole_hopf(x, 1.0)).max())
    assert errors[1] < 10 * errors[0] ** 2
    assert errors[2] < 1e-8


def test_mean_is_kept_and_mirrored_data_have_mirrored_solutions() -> None:
    x = np.arange(256) / 256
    data = 0.3 + np.sin(2 * np.pi * x) + 0.4 * np.cos(4 * np.pi * x)
    mirrored = -np.roll(data[::-1], 1)
    found = solve_burgers(np.stack([data, mirrored]), VISCOSITY, 3, 512)
    assert np.abs(found[0].mean(-1) - 0.3).max() < 1e-13
    assert np.abs(found[1] + np.roll(found[0, :, ::-1], 1, -1)).max() < 1e-12


def test_unresolved_solutions_are_refused() -> None:
    x = np.arange(64) / 64
    with pytest.raises(ValueError, match="64 points do not resolve it"):
        reference(np.sin(2 * np.pi * x)[None], 0.005, 32)
    with pytest.raises(ValueError, match="expected a multiple of 48"):
        reference(np.sin(2 * np.pi * x)[None], VISCOSITY, 48)
    with pytest.raises(ValueError, match="multiples of 32"):
        solve_burgers(np.zeros((1, 64)), VISCOSITY, 33, 100)
