"""From the residual of Burgers' equation on a regular grid to the error that it stands for, to first order.

An error e of u obeys e_t + (u e)_x - viscosity e_xx = r, where r is the residual, up to the square of e and with
e = 0 at t = 0. Squares of r itself are a bad measure of e: they weigh waves by up to their frequency to the fourth
power. Solving for e is preconditioning: the solve is linear in r and invertible, so it vanishes only where r does, and
what derivatives r is made of decides alone which u is reached; the solve's own coarseness changes only how fast. It
is upwind in space and implicit Euler in time, stable for every u. T. De Ryck et al., *An operator preconditioning
perspective on training in physics-informed machine learning* (ICLR 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor


def residual_to_error(residual: Tensor, field: Tensor, times: Tensor, viscosity: float) -> Tensor:
    """(B, X, T) errors, differentiable in the residual.

    Args:
        residual: (B, X, T) at x = i / X + any shift.
        field: (B, X, T) u there; it is taken as given.
        times: (T,) equidistant, the first from 0 to less than a step; the first step of the solve begins at t = 0.
        viscosity: of the equation.
    """
    steps = torch.diff(times, prepend=times.new_zeros(1))
    identity = torch.eye(field.shape[1]).to(field)
    implicit = identity + steps[:, None, None] * _transport(field.detach().mT, viscosity)
    inverse = torch.linalg.inv(implicit)
    error, found = torch.zeros_like(residual[..., 0]), []
    for index, step in enumerate(steps.unbind()):
        error = (inverse[:, index] @ (error + step * residual[..., index])[..., None])[..., 0]
        found.append(error)
    return torch.stack(found, -1)


def _transport(field: Tensor, viscosity: float) -> Tensor:
    """(B, T, X, X) matrices of e -> (u e)_x - viscosity e_xx for u (B, T, X): conservative, upwind, periodic."""
    count = field.shape[-1]
    identity = torch.eye(count).to(field)
    right, left = identity.roll(1, 1), identity.roll(-1, 1)  # e_{i+1} and e_{i-1} in row i
    speed = 0.5 * (field + field.roll(-1, -1))  # between i and i + 1
    forward, backward = speed.clamp(min=0), speed.clamp(max=0)
    diffusion = viscosity * count**2
    own = count * (forward - backward.roll(1, -1)) + 2 * diffusion
    before = -count * forward.roll(1, -1) - diffusion
    after = count * backward - diffusion
    return own[..., None] * identity + before[..., None] * left + after[..., None] * right
