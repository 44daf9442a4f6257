"""Moments in fewer bytes: the stated error bounds for any values, and that averages still move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.surrogate.optim.moments import BLOCK, decode, encode

LEVEL = 1 / 8
SLACK = 1 + 1e-5  # rounding of the bound itself in single precision
seeds, steps = st.integers(0, 2**31), st.integers(1, 10**7)


def wide(seed, count=300, octaves=40.0):
    """Values of both signs over many orders of magnitude, some of them zero."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.exp2(-octaves * torch.rand(2, count, generator=generator))
    return size * torch.randint(-1, 2, size.shape, generator=generator)


def block_maxima(values):
    padded = torch.nn.functional.pad(values.abs(), (0, -values.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    return padded.amax(-1).repeat_interleave(BLOCK, 1)[:, : values.shape[1]]


@given(seeds, steps)
def test_bfloat16_bound(seed, step):
    values = wide(seed)
    back = decode(*encode(values, "bfloat16", step, signed=True), torch.float32)
    assert bool(((back - values).abs() <= 2**-7 * values.abs()).all())


@given(seeds, steps)
def test_eight_bit_signed_bound(seed, step):
    values = wide(seed)
    back = decode(*encode(values, "8bit", step, signed=True), torch.float32)
    bound = LEVEL * values.abs() + 1.25 * 2**-16 * block_maxima(values)
    assert bool(((back - values).abs() <= SLACK * bound).all())
    assert bool((back * values >= 0).all())


@given(seeds, steps)
def test_eight_bit_non_negative_bound_and_floor(seed, step):
    values = wide(seed).abs()
    back = decode(*encode(values, "8bit", step, signed=False), torch.float32)
    floor = 1.125 * 2**-32 * block_maxima(values)
    assert bool(((back - values).abs() <= SLACK * torch.maximum(LEVEL * values, floor)).all())
    assert bool((back >= floor / SLACK).all())


@given(seeds, steps, st.sampled_from(["bfloat16", "8bit"]))
def test_complex_is_its_pairs(seed, step, kind):
    pairs = wide(seed, count=64).reshape(2, 8, 4, 2)
    codes, scales = encode(torch.view_as_complex(pairs), kind, step, signed=True)
    assert codes.shape == pairs.shape
    back = decode(codes, scales, torch.complex64)
    expected = decode(*encode(pairs, kind, step, signed=True), torch.float32)
    assert torch.equal(torch.view_as_real(back), expected)


@pytest.mark.parametrize("kind", ["full", "bfloat16", "8bit"])
@pytest.mark.parametrize("signed", [True, False])
def test_zero_stays_zero_and_the_largest_value_exact(kind, signed):
    values = torch.zeros(1, 2 * BLOCK)
    values[0, 3] = 2.0
    back = decode(*encode(values, kind, 1, signed), torch.float32)
    assert float(back[0, 3]) == 2.0
    assert float(back[0, BLOCK:].abs().max()) == 0.0


@pytest.mark.parametrize("kind", ["bfloat16", "8bit"])
@pytest.mark.parametrize("signed", [True, False])
def test_rounding_is_unbiased_over_steps(kind, signed):
    values = wide(5, octaves=10).abs()
    mean = sum(decode(*encode(values, kind, step, signed), torch.float32).double() for step in range(2000)) / 2000
    # below the signed floor there is no bound relative to the value, only to the floor
    torch.testing.assert_close(mean.float(), values, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["bfloat16", "8bit"])
def test_a_slow_average_follows_what_is_too_small_for_one_level(kind):
    """0.1 % a step is below half a level of either code; rounded to the nearest, the average would stay at 1."""
    generator = torch.Generator().manual_seed(0)
    start = 0.5 + torch.rand(1, 1000, generator=generator)
    exact, stored = start.clone(), encode(start, kind, 0, signed=False)
    for step in range(1, 1500):
        exact = 0.999 * exact + 0.001 * 0.1
        stored = encode(0.999 * decode(*stored, torch.float32) + 0.001 * 0.1, kind, step, signed=False)
    ratio = decode(*stored, torch.float32) / exact
    assert abs(float(ratio.mean()) - 1) < 0.01
    assert float(ratio.std()) < (0.12 if kind == "8bit" else 0.03)


def test_full_keeps_double_precision():
    values = wide(1).double()
    codes, scales = encode(values, "full", 3, signed=True)
    assert scales is None
    assert torch.equal(decode(codes, scales, torch.float64), values)
