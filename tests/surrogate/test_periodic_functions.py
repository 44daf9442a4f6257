"""Promise: initial data have the stated covariance and exact derivatives, and are the same for the same seed."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.surrogate.models.periodic_functions import GaussianRandomField


def test_covariance_is_that_of_the_squared_exponential_less_its_mean() -> None:
    """Against the formula, by the mean over the circle; then drawn functions against it within sampling error."""
    length, deviation = 1.3, 0.7
    field = GaussianRandomField(length, deviation, waves=24)
    x = torch.arange(64, dtype=torch.float64) / 64
    formula = torch.exp(-2 * torch.sin(math.pi * x) ** 2 / length**2)
    formula = formula - formula.mean()
    covariance = deviation**2 * formula / formula[0]
    wave = 2 * math.pi * torch.arange(1, 25).double()
    assert (field.deviations**2 @ torch.cos(wave[:, None] * x) - covariance).abs().max() < 1e-12
    values = field.draw(20_000, seed=0).values(x)
    sampled = values.T @ values / len(values)
    assert (sampled[0] - covariance).abs().max() < 6 * deviation**2 / math.sqrt(len(values))


@given(st.floats(0.3, 5), st.integers(0, 2**31))
def test_derivatives_are_those_of_the_values(length: float, seed: int) -> None:
    drawn = GaussianRandomField(length, 1.0).draw(2, seed)
    x = torch.linspace(-0.3, 1.1, 7, dtype=torch.float64)
    _, slope, bend = drawn.derivatives(x)
    step = 1e-4
    (before, *_), (value, *_), (after, *_) = (drawn.derivatives(x + shift) for shift in (-step, 0, step))
    assert torch.allclose((after - before) / (2 * step), slope, atol=2e-3)
    assert torch.allclose((after - 2 * value + before) / step**2, bend, atol=0.2)
    assert torch.allclose(drawn.values(x + 1), value, atol=1e-11)


def test_seeds_decide() -> None:
    field = GaussianRandomField(2.0, 1.0)
    first, again, other = field.draw(3, 5), field.draw(3, 5), field.draw(3, 6)
    assert torch.equal(first.sines, again.sines)
    assert not torch.equal(first.sines, other.sines)
    assert len(first.subset(slice(1, 3))) == 2
