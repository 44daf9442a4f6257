"""A Fourier neural operator on the unit square with dense complex weights of order four."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shapewright.surrogate.mgno.fourier_blocks import FourierBlock


class DenseSpectralConvolution(nn.Module):
    """Complex multiplication of the lowest Fourier modes by a weight (2 m, m, in, out).

    That of :class:`fourier_blocks.SpectralConvolution` with a complex parameter of order four, which is what the
    optimizers of the benchmark, the public one included, take.
    """

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        weight = torch.randn(2 * modes, modes, channels, channels, dtype=torch.complex64)
        self.weight = nn.Parameter(weight / channels)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, c, n, n) to the same."""
        spectrum = torch.fft.rfft2(grid, norm="forward")
        m = self.modes
        kept = torch.cat([spectrum[..., :m, :m], spectrum[..., -m:, :m]], dim=-2)
        mixed = (kept.permute(2, 3, 0, 1) @ self.weight).permute(2, 3, 0, 1)
        result = torch.zeros_like(spectrum)
        result[..., :m, :m], result[..., -m:, :m] = mixed[..., :m, :], mixed[..., m:, :]
        return torch.fft.irfft2(result, s=grid.shape[-2:], norm="forward")


class FourierNetwork(nn.Module):
    """Fields (B, n, n) to fields of the same shape."""

    def __init__(self, width: int, modes: int, layers: int) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(FourierBlock(width, (modes, modes)) for _ in range(layers))
        for block in self.blocks:
            block.spectral = DenseSpectralConvolution(width, modes)
        self.read = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, field: Tensor) -> Tensor:
        """The field with its coordinates goes in."""
        n = field.shape[-1]
        axis = (torch.arange(n, dtype=field.dtype, device=field.device) + 0.5) / n
        x, y = (each.expand_as(field) for each in torch.meshgrid(axis, axis, indexing="ij"))
        grid = self.lift(torch.stack((field, x, y), dim=-1))
        for block in self.blocks:
            grid = block(grid)
        return self.read(grid)[..., 0]

    def spectral_weights(self) -> list[nn.Parameter]:
        """The complex weights of order four."""
        return [block.spectral.weight for block in self.blocks]

    def other_parameters(self) -> list[nn.Parameter]:
        """All but those."""
        spectral = set(map(id, self.spectral_weights()))
        return [parameter for parameter in self.parameters() if id(parameter) not in spectral]


def relative_error(found: Tensor, truth: Tensor) -> Tensor:
    """Mean over the batch of the L2 norm of the difference by that of the truth."""
    return ((found - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).mean()
