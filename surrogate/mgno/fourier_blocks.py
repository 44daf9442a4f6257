"""Fourier neural operator blocks on a regular grid, in any dimension.

Z. Li et al., *Fourier Neural Operator for Parametric Partial Differential Equations* (ICLR 2021).
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.geometries.mesh.precision import full_precision


class SpectralConvolution(nn.Module):
    """Dense complex multiplication of the lowest Fourier modes.

    The weight is one real tensor (corners, *modes, in, out, 2), real and imaginary part last: modes come first so
    that a batch of matrix products needs no copies. A corner is a choice of sign for every frequency but the
    last, which the real transform keeps non-negative.
    """

    def __init__(self, channels: int, modes: tuple[int, ...]) -> None:
        super().__init__()
        self.modes = modes
        corners = 2 ** (len(modes) - 1)
        self.weight = nn.Parameter(torch.randn(corners, *modes, channels, channels, 2) / channels)

    @full_precision
    def forward(self, grid: Tensor) -> Tensor:
        """(B, c, *grid) to the same."""
        axes = tuple(range(2, grid.dim()))
        spectrum = torch.fft.rfftn(grid, dim=axes, norm="forward")
        windows = self._windows()
        kept = torch.stack([spectrum[window] for window in windows]).movedim((1, 2), (-2, -1)).contiguous()
        mixed = (kept @ torch.view_as_complex(self.weight)).movedim((-2, -1), (1, 2))
        result = torch.zeros_like(spectrum)
        for window, part in zip(windows, mixed, strict=True):
            result[window] = part
        return torch.fft.irfftn(result, s=grid.shape[2:], dim=axes, norm="forward")

    def _windows(self) -> list[tuple[slice, ...]]:
        whole, last = slice(None), slice(0, self.modes[-1])
        windows = []
        for signs in product((1, -1), repeat=len(self.modes) - 1):
            inner = [slice(0, m) if sign > 0 else slice(-m, None) for sign, m in zip(signs, self.modes, strict=False)]
            windows.append((whole, whole, *inner, last))
        return windows


class FourierBlock(nn.Module):
    """Residual block: spectral convolution beside a pointwise linear map, then a pointwise perceptron."""

    def __init__(self, channels: int, modes: tuple[int, ...]) -> None:
        super().__init__()
        self.spectral = SpectralConvolution(channels, modes)
        self.local = nn.Linear(channels, channels)
        self.mix = nn.Linear(channels, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, *grid, c) to the same."""
        spectral = self.spectral(grid.movedim(-1, 1)).movedim(1, -1)
        # the sum takes the layout of its first term, and what follows wants channels last
        return grid + self.mix(functional.gelu(self.local(grid) + spectral))


def check_modes(modes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse more modes than the grid resolves.

    Raises:
        ValueError: names the axis and the largest number allowed.
    """
    if len(modes) != len(shape):
        raise ValueError(f"modes are given for {len(modes)} axes; the latent grid has {len(shape)}")
    for axis, (count, nodes) in enumerate(zip(modes, shape, strict=True)):
        if not 1 <= count <= nodes // 2:
            raise ValueError(f"modes along axis {axis} are {count}; a grid of {nodes} nodes allows 1 to {nodes // 2}")
