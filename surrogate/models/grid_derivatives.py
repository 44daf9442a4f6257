"""Derivatives of a field that is known on a regular space-time grid only, periodic in space.

The classical ways, to compare exact derivatives with: second-order differences, and Fourier differentiation in space.
B. Fornberg, *Generation of Finite Difference Formulas on Arbitrarily Spaced Grids* (1988); L. Trefethen, *Spectral
Methods in MATLAB* (2000), chapter 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SpaceTimeDerivatives:
    """u, u_t, u_x and u_xx of B fields on a grid, (B, X, T) each."""

    value: Tensor
    t: Tensor
    x: Tensor
    xx: Tensor


def central_differences(value: Tensor, time_step: float) -> SpaceTimeDerivatives:
    """Second-order central differences of ``value`` (B, X, T); one-sided of second order at both ends of t.

    Args:
        value: at x = i / X + any shift, over one period of length 1, and equidistant times.
        time_step: between the times.
    """
    step = 1 / value.shape[1]
    after, before = value.roll(-1, 1), value.roll(1, 1)
    return SpaceTimeDerivatives(
        value,
        t=_time_differences(value, time_step),
        x=(after - before) / (2 * step),
        xx=(after - 2 * value + before) / step**2,
    )


def fourier_derivatives(value: Tensor, time_step: float) -> SpaceTimeDerivatives:
    """As :func:`central_differences`, but the derivatives in x are those of the trigonometric interpolant."""
    count = value.shape[1]
    wave = 2 * math.pi * torch.arange(count // 2 + 1, device=value.device).to(value.dtype)[:, None]
    spectrum = torch.fft.rfft(value, dim=1)
    odd = wave.clone()
    if count % 2 == 0:
        odd[-1] = 0  # the interpolant's highest wave is a cosine, whose slope vanishes at the nodes
    return SpaceTimeDerivatives(
        value,
        t=_time_differences(value, time_step),
        x=torch.fft.irfft(1j * odd * spectrum, count, dim=1),
        xx=torch.fft.irfft(-(wave**2) * spectrum, count, dim=1),
    )


def _time_differences(value: Tensor, step: float) -> Tensor:
    if value.shape[-1] < 3:
        raise ValueError(f"{value.shape[-1]} times are given; second-order differences need 3 or more")
    first = -3 * value[..., :1] + 4 * value[..., 1:2] - value[..., 2:3]
    last = 3 * value[..., -1:] - 4 * value[..., -2:-1] + value[..., -3:-2]
    return torch.cat([first, value[..., 2:] - value[..., :-2], last], -1) / (2 * step)
