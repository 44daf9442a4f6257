"""The spectral convolution is multiplication in Fourier space, and nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.surrogate.mgno.fourier_blocks import FourierBlock, SpectralConvolution, check_modes

CASES = {1: ((9,), (3,)), 2: ((8, 7), (3, 2)), 3: ((6, 5, 8), (2, 1, 3))}
every = pytest.mark.parametrize("dimension", CASES)


def convolution(dimension: int, channels: int = 2) -> tuple[SpectralConvolution, torch.Tensor]:
    shape, modes = CASES[dimension]
    torch.manual_seed(dimension)
    return SpectralConvolution(channels, modes).double(), torch.randn(3, channels, *shape, dtype=torch.float64)


@every
def test_equals_a_sum_over_the_kept_waves(dimension):
    """sum_k Re(c W_k u_k exp(2 pi i k.x / n)); c = 2 where the conjugate wave is left out, 1 at last frequency 0."""
    spectral, grid = convolution(dimension)
    shape, modes = CASES[dimension]
    u, weight = grid.numpy(), spectral.weight.detach().numpy()
    matrices = weight[..., 0] + 1j * weight[..., 1]
    positions = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    expected = np.zeros_like(u)
    for corner, signs in enumerate(product((1, -1), repeat=dimension - 1)):
        for mode in product(*(range(m) for m in modes)):
            inner = [p if s > 0 else p - m for p, s, m in zip(mode, signs, modes, strict=False)]
            frequency = np.array([*inner, mode[-1]])
            wave = np.exp(2j * np.pi * (positions @ (frequency / np.array(shape))))
            amplitude = (u * wave.conj()).sum(axis=tuple(range(2, 2 + dimension))) / np.prod(shape)
            mixed = amplitude @ matrices[(corner, *mode)]
            factor = 2 if mode[-1] else 1
            expected += factor * (mixed.reshape(*mixed.shape, *[1] * dimension) * wave).real
    np.testing.assert_allclose(spectral(grid).detach().numpy(), expected, atol=1e-12)


@every
@given(shift=st.integers(-9, 9))
def test_commutes_with_translation(dimension, shift):
    spectral, grid = convolution(dimension)
    axes, steps = tuple(range(2, 2 + dimension)), tuple(shift + axis for axis in range(dimension))
    torch.testing.assert_close(spectral(grid.roll(steps, axes)), spectral(grid).roll(steps, axes), atol=1e-12, rtol=0)


@every
def test_high_frequencies_do_not_pass(dimension):
    spectral, grid = convolution(dimension)
    modes = CASES[dimension][1]
    spectrum = torch.fft.rfftn(spectral(grid), dim=tuple(range(2, 2 + dimension)))
    assert spectrum.abs().max() > 0.1
    assert spectrum[..., modes[-1] :].abs().max() < 1e-12


@every
def test_derivatives(dimension):
    spectral, grid = convolution(dimension)
    grid = grid[:1].clone().requires_grad_()

    def apply(u: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(spectral, {"weight": weight}, (u,))

    weight = spectral.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(apply, (grid, weight), fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(apply, (grid, weight), fast_mode=True)


def test_block_derivatives():
    torch.manual_seed(0)
    block = FourierBlock(2, (2, 2)).double()
    grid = torch.randn(1, 5, 6, 2, dtype=torch.float64, requires_grad=True)
    assert block(grid).shape == grid.shape
    assert torch.autograd.gradcheck(block, (grid,), check_forward_ad=True)


@pytest.mark.parametrize(
    ("modes", "shape", "message"),
    [
        ((4, 5), (8, 8), "modes along axis 1 are 5; a grid of 8 nodes allows 1 to 4"),
        ((0, 4), (8, 8), "modes along axis 0 are 0; a grid of 8 nodes allows 1 to 4"),
        ((4,), (8, 8), "modes are given for 1 axes; the latent grid has 2"),
    ],
)
def test_modes_that_the_grid_does_not_resolve_are_refused(modes, shape, message):
    with pytest.raises(ValueError, match=message):
        check_modes(modes, shape)
    check_modes((4, 4), (8, 8))
