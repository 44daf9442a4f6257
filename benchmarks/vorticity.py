"""Two-dimensional Navier-Stokes flow on the unit torus by its vorticity, pseudo-spectral.

dw/dt + u . grad w = nu Laplace w + g, -Laplace psi = w, u = (d psi/dy, -d psi/dx). Initial fields and the force are
those of Z. Li et al., *Fourier Neural Operator for Parametric Partial Differential Equations* (ICLR 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_WAVES = 16  # of an initial field, along each axis
TIME, STEPS = 10.0, 150


def samples(count: int, resolution: int, seed: int, viscosity: float) -> tuple[Tensor, Tensor]:
    """Vorticities (count, n, n) at time 0 and at ``TIME``; solved with twice the resolution."""
    flow = Flow(2 * resolution, viscosity)
    force = flow.force()
    before, after = [], []
    for chunk in initial(count, 2 * resolution, seed).split(64):
        before.append(chunk[:, ::2, ::2])
        after.append(flow.evolve(chunk, TIME, STEPS, force)[:, ::2, ::2])
    return torch.cat(before).float(), torch.cat(after).float()


def initial(count: int, resolution: int, seed: int) -> Tensor:
    """Gaussian fields of covariance 343 (-Laplace + 49)^-2.5, mean zero, (count, n, n) in float64."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.arange(-_WAVES, _WAVES + 1, dtype=torch.float64)
    square = 4 * math.pi**2 * (wave[:, None] ** 2 + wave**2)
    deviation = 7**1.5 * (square + 49) ** -1.25
    deviation[_WAVES, _WAVES] = 0
    shape = (count, *deviation.shape)
    normal = torch.complex(*(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)))
    spectrum = torch.zeros(count, resolution, resolution, dtype=torch.complex128)
    index = wave.long() % resolution
    spectrum[:, index[:, None], index] = deviation * normal
    return torch.fft.ifft2(spectrum, norm="forward").real


@dataclass(frozen=True)
class Flow:
    """The equation at a resolution (even) and viscosity; two thirds of the wavenumbers are kept."""

    resolution: int
    viscosity: float

    def points(self) -> tuple[Tensor, Tensor]:
        """Coordinates x and y (n, n) of the grid, x along its first axis."""
        axis = torch.arange(self.resolution, dtype=torch.float64) / self.resolution
        x, y = torch.meshgrid(axis, axis, indexing="ij")
        return x, y

    def force(self) -> Tensor:
        """0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) on the grid."""
        x, y = self.points()
        return 0.1 * (torch.sin(2 * math.pi * (x + y)) + torch.cos(2 * math.pi * (x + y)))

    def wavenumbers(self) -> tuple[Tensor, Tensor]:
        """2 pi times the frequencies of a real transform, (n, 1) and (1, n/2 + 1)."""
        n = self.resolution
        along_x = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)[:, None]
        along_y = torch.fft.rfftfreq(n, 1 / n, dtype=torch.float64)[None]
        return 2 * math.pi * along_x, 2 * math.pi * along_y

    def stream_function(self, vorticity: Tensor) -> Tensor:
        """Of mean zero, (B, n, n) to the same."""
        return torch.fft.irfft2(self._stream(torch.fft.rfft2(vorticity)), s=vorticity.shape[-2:])

    def _stream(self, spectrum: Tensor) -> Tensor:
        kx, ky = self.wavenumbers()
        square = kx**2 + ky**2
        return torch.where(square > 0, spectrum / square.where(square > 0, 1), 0)

    def evolve(self, vorticity: Tensor, time: float, steps: int, force: Tensor | float = 0.0) -> Tensor:
        """(B, n, n) after ``time``, by the Runge-Kutta scheme of order four with an integrating factor for viscosity.

        A.-K. Kassam and L. N. Trefethen, *Fourth-order time-stepping for stiff PDEs* (SIAM J. Sci. Comput. 26, 2005).
        """
        n, dt = self.resolution, time / steps
        kx, ky = self.wavenumbers()
        kept = (kx.abs() / (2 * math.pi) < n / 3) & (ky.abs() / (2 * math.pi) < n / 3)
        half = torch.exp(-self.viscosity * (kx**2 + ky**2) * dt / 2)
        source = torch.fft.rfft2(torch.as_tensor(force, dtype=torch.float64).expand(n, n)) * kept

        def grid(spectrum: Tensor) -> Tensor:
            return torch.fft.irfft2(spectrum, s=(n, n))

        def rate(w: Tensor) -> Tensor:
            psi = self._stream(w)
            advection = grid(1j * ky * psi) * grid(1j * kx * w) - grid(1j * kx * psi) * grid(1j * ky * w)
            return source - kept * torch.fft.rfft2(advection)

        w = torch.fft.rfft2(vorticity) * kept
        for _ in range(steps):
            a = dt * rate(w)
            b = dt * rate(half * (w + a / 2))
            c = dt * rate(half * w + b / 2)
            d = dt * rate(half**2 * w + half * c)
            w = half**2 * (w + a / 6) + half * (b + c) / 3 + d / 6
        return grid(w)
