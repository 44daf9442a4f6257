"""Adam's moments carried from one Tucker subspace into the next.

The first moment is an average of gradients, so its coordinates change as a gradient's do: by R = U_new^H U_old
along each mode. The second moment is not linear in the gradient. It is split into the square of the mean, which is
rotated exactly, and the variance, whose entries are taken as uncorrelated: the variance of sum_j R_ij g_j then is
sum_j |R_ij|^2 var_j. Only the diagonal is kept by Adam, so more cannot be known. What the old subspace does not
cover of a new direction, a share 1 - sum_j |R_ij|^2, has no past: the squared core of the present gradient
stands in for it, as in Adam's first step. T. Robert et al., *LDAdam* (ICLR 2025), splits the matrix case likewise.
On noisy gradients of a drifting rank-3 tensor the step first / sqrt(second) is then wrong by 0.2 to 0.4 of its length,
with second moments kept as they are by 0.5 to 3, with all of them taken as uncorrelated by 0.5 to 1.5.

Cost: two products of small (r_new, r_old) matrices a mode with the core, and as many real ones, at a refresh only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shapewright.surrogate.optim.tucker import Factors, mode_product


def rotate_moments(
    first: Tensor,
    second: Tensor,
    old: Factors,
    new: Factors,
    core: Tensor,
    beta1: float,
    beta2: float,
    step: float,
) -> tuple[Tensor, Tensor]:
    """Moments in the coordinates of the new subspace.

    Args:
        first, second: running averages without bias correction after ``step`` steps; the second is real.
        old, new: factors before and after, which may differ in rank.
        core: of the present gradient, in the new subspace; it has not entered the moments yet.
    """
    rotations = [_overlap(after, before) for after, before in zip(new, old, strict=True)]
    largest = torch.finfo(second.dtype).max
    first_weight, second_weight = 1 - beta1**step, 1 - beta2**step
    mean = _wide(first) / first_weight
    # one that overflowed is as good as the largest number, and has differences
    variance = (_wide(second).clamp_max(largest * second_weight) / second_weight - mean.abs().square()).clamp_min(0)
    covered = torch.ones_like(variance)
    for mode, rotation in enumerate(rotations):
        if rotation is not None:
            shares = rotation.abs().square()[None]
            mean = mode_product(mean[None], rotation[None], mode)[0]
            variance = mode_product(variance[None], shares, mode)[0]
            covered = mode_product(covered[None], shares, mode)[0]
    unknown = (1 - covered).clamp_min(0) * _wide(core).abs().square()
    moved = second_weight * (mean.abs().square() + variance + unknown)
    return (first_weight * mean).to(first.dtype), moved.clamp_max(largest).to(second.dtype)


def _overlap(new: Tensor | None, old: Tensor | None) -> Tensor | None:
    if new is None:
        return None if old is None else _wide(old)
    return _wide(new).mH if old is None else _wide(new).mH @ _wide(old)


def _wide(tensor: Tensor) -> Tensor:
    """In double precision, in which squares of large gradients do not overflow."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
