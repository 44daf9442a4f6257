"""Estimate of a network's memory in training before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

BYTES = 4.0
"""Of a number in training."""

COPIES = 4
"""Of every parameter: itself, its gradient and two moments of the optimizer."""

ACTIVATIONS_PER_LAYER = 8
"""Arrays of the size of the latent fields that a Fourier layer keeps for its derivative."""


def estimated_parameters(width: float, hidden: float, modes: Sequence[float], layers: float) -> float:
    """Real parameters of an mGNO, sizes as in :class:`operator.OperatorConfig`, within a few hundred."""
    spectral = 2.0 ** len(modes) * prod(map(float, modes)) * width**2
    kernels = float(hidden) * (3.0 * width + hidden + 20.0)
    return layers * (spectral + 2.0 * width**2) + kernels


def estimated_training_bytes(
    width: float,
    hidden: float,
    modes: Sequence[float],
    layers: float,
    grid: Sequence[float],
    radius: float,
    batch: float,
    points: float,
) -> float:
    """Memory of a training step on ``batch`` shapes of ``points`` points each: parameters, latent fields, edges."""
    nodes = prod(map(float, grid))
    edges = points * min((2.0 * radius + 2) ** len(grid), nodes)
    latent = batch * nodes * width * (1 + ACTIVATIONS_PER_LAYER * layers)
    return BYTES * (COPIES * estimated_parameters(width, hidden, modes, layers) + latent + 2 * batch * edges * hidden)
