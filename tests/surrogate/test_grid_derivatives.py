"""Promise: differences are of second order up to the ends of t, Fourier derivatives exact for what a grid resolves."""

import math
from itertools import pairwise

import pytest
import torch

from shapewright.surrogate.models.grid_derivatives import central_differences, fourier_derivatives


def sampled(points: int, function, shift: float = 0.0) -> tuple[torch.Tensor, float]:
    x = (torch.arange(points, dtype=torch.float64) + shift) / points
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    return function(x[:, None], t)[None], float(t[1])


def wave(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.exp(-t) * torch.sin(2 * math.pi * x - t)


def slopes(x: torch.Tensor, t: torch.Tensor) -> dict[str, torch.Tensor]:
    phase, decay = 2 * math.pi * x - t, torch.exp(-t)
    return {
        "t": -decay * (torch.sin(phase) + torch.cos(phase)),
        "x": 2 * math.pi * decay * torch.cos(phase),
        "xx": -4 * math.pi**2 * decay * torch.sin(phase),
    }


@pytest.mark.parametrize("name", ["t", "x", "xx"])
def test_differences_are_of_second_order_everywhere(name: str) -> None:
    errors = []
    for points in (32, 64, 128):
        value, step = sampled(points, wave)
        exact = sampled(points, lambda x, t: slopes(x, t)[name])[0]
        errors.append((getattr(central_differences(value, step), name) - exact).abs().max())
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(order - 2) < 0.1 for order in orders), orders


@pytest.mark.parametrize("points", [15, 16])
def test_fourier_derivatives_are_exact_for_resolved_waves(points: int) -> None:
    value, step = sampled(points, wave, shift=0.3)
    found = fourier_derivatives(value, step)
    for name in ("x", "xx"):
        exact = sampled(points, lambda x, t, name=name: slopes(x, t)[name], shift=0.3)[0]
        assert (getattr(found, name) - exact).abs().max() < 1e-11
    assert torch.equal(found.t, central_differences(value, step).t)


def test_both_can_be_differentiated() -> None:
    value = torch.randn(1, 6, 4, dtype=torch.float64, requires_grad=True)

    def parts(value):
        found = [differentiate(value, 0.2) for differentiate in (central_differences, fourier_derivatives)]
        return torch.stack([part for u in found for part in (u.t, u.x, u.xx)])

    assert torch.autograd.gradcheck(parts, value)


def test_too_few_times_are_refused() -> None:
    with pytest.raises(ValueError, match="2 times are given; second-order differences need 3 or more"):
        central_differences(torch.zeros(1, 8, 2), 1.0)
