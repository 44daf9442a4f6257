"""Smooth random functions on the periodic unit interval, exact with their derivatives: initial data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import ive
from torch import Tensor


@dataclass(frozen=True)
class PeriodicFunctions:
    """B Fourier sums f(x) = sum over k = 1..K of c_k cos(2 pi k x) + s_k sin(2 pi k x).

    Attributes:
        cosines, sines: (B, K) c_k and s_k.
    """

    cosines: Tensor
    sines: Tensor

    def __len__(self) -> int:
        return len(self.cosines)

    def subset(self, index: slice) -> PeriodicFunctions:
        """The functions ``index``."""
        return PeriodicFunctions(self.cosines[index], self.sines[index])

    def to(self, like: Tensor) -> PeriodicFunctions:
        """In the dtype and on the device of ``like``."""
        return PeriodicFunctions(self.cosines.to(like), self.sines.to(like))

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N) values, first and second derivatives at the points x (N,)."""
        wave = 2 * math.pi * torch.arange(1, self.cosines.shape[1] + 1).to(x)
        cosine, sine = torch.cos(wave[:, None] * x), torch.sin(wave[:, None] * x)
        values = self.cosines @ cosine + self.sines @ sine
        slopes = (wave * self.sines) @ cosine - (wave * self.cosines) @ sine
        bends = (-(wave**2) * self.cosines) @ cosine - (wave**2 * self.sines) @ sine
        return values, slopes, bends

    def values(self, x: Tensor) -> Tensor:
        """(B, N) values at the points x (N,)."""
        return self.derivatives(x)[0]


@dataclass(frozen=True)
class GaussianRandomField:
    """Stationary Gaussian random functions of mean zero on the periodic unit interval.

    The covariance of values at distance d is that of exp(-2 sin^2(pi d) / length^2), the squared exponential of the
    distance on a circle, less its constant part and scaled to ``deviation``^2 at d = 0: every function has integral
    zero. Its Fourier coefficients are modified Bessel functions I_k(1 / length^2). D. MacKay, *Introduction to Gaussian
    Processes* (1998), periodic covariance.

    Attributes:
        length: of correlation, in radii of the circle.
        deviation: standard deviation at every point.
        waves: the highest wave number K that is kept.
    """

    length: float
    deviation: float
    waves: int = 8

    @property
    def deviations(self) -> Tensor:
        """(K,) standard deviation of each coefficient, in float64."""
        variance = torch.from_numpy(ive(torch.arange(1, self.waves + 1).double().numpy(), 1 / self.length**2))
        return self.deviation * torch.sqrt(variance / variance.sum())

    def draw(self, count: int, seed: int) -> PeriodicFunctions:
        """``count`` independent functions in float64; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(2, count, self.waves, generator=generator, dtype=torch.float64) * self.deviations
        return PeriodicFunctions(normal[0], normal[1])
