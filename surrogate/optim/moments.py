"""Adam's moments in few bytes, and their change of coordinates from one Tucker subspace to the next.

**Storage** is full precision, bfloat16, or eight bits that are the upper ones of a floating-point number. Errors of one
rounding of x, with s the largest magnitude in the block of 128 entries that share one scale:
- bfloat16: below 2^-7 \\|x\\|;
- eight bits (five of exponent, three of mantissa), non-negative: below x / 8, and values below 1.125 2^-32 s are raised
  to that level, never to zero, since a square root of them is a divisor;
- eight bits, signed (four of exponent, three of mantissa): below \\|x\\| / 8 + 1.25 2^-16 s. That floor is about the
  square root of the other's: a mean is lost only where the root of the mean square is about at its own floor.

Complex values are stored as pairs of real ones. A block's share of its scale is 4 bytes in 128.

**Rounding** is dithered: up with the probability that makes the mean right. Rounded to the nearest, an average that
changes by 0.1 % a step would never leave its level. The offsets are an additive recurrence in entry and step instead of
random numbers, so that a resumed run and every process of a distributed one round alike and no state is kept.

**Rotation.** The mean is an average of gradients, so its coordinates change as a gradient's do: by R = U_new^H U_old
along each mode. The mean square is not linear in the gradient. It is split into the square of the mean, which is
rotated exactly, and the variance, whose entries are taken as uncorrelated: the variance of sum_j R_ij g_j then is
sum_j |R_ij|^2 var_j. Adam keeps only the diagonal, so more cannot be known. The part of a new direction that the old
subspace does not cover, a share 1 - sum_j |R_ij|^2, has no past: the squared core of the present gradient
replaces it, as in Adam's first step. T. Robert et al., *LDAdam* (ICLR 2025), splits the matrix case likewise.
On noisy gradients of a drifting rank-3 tensor the step mean / sqrt(mean square) then has a relative error of 0.2 to
0.4; with mean squares kept as they are 0.5 to 3, with all of them taken as uncorrelated 0.5 to 1.5. Cost, at a refresh
only: two products of small (r_new, r_old) matrices a mode with the core, and as many real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shapewright.surrogate.optim.subspace import Factors, as_real, mode_product

KINDS = ("full", "bfloat16", "8bit")
BLOCK = 128
"""Entries that share one scale."""
BITS = 20
"""Bits of a rounding offset, and of a single precision mantissa that eight bits cut off; three bits stay."""
_CUT_OFF = {torch.bfloat16: 16, torch.float16: 13}  # bits of a single precision mantissa that the type lacks
_GOLDEN = 2654435769  # 2^32 divided by the golden ratio
_SILVER = 1779033703
_TOP = {True: 127, False: 255}  # the largest code, signed or not
_ONE = 0x3F800000 >> BITS  # what is left of 1.0
_LOWEST = 1.25 * 2.0**-16  # the level of the signed code 1; below it is zero


def encode(values: Tensor, kind: str, step: int, signed: bool) -> tuple[Tensor, Tensor | None]:
    """Codes and scales (the latter of eight bits only) of a batch (batch, *shape) of tensors.

    Args:
        values: not negative unless ``signed``.
        step: of the optimizer, which changes the rounding offsets.

    Returns:
        codes (batch, *shape), with a last dimension 2 added for complex values in fewer bytes; and scales
        (batch, blocks) or None.
    """
    if kind == "full":
        return values, None
    real = as_real(values)
    flat = _rows(real).float().contiguous()
    if kind == "bfloat16":
        return round_dithered(flat, torch.bfloat16, step, signed).reshape(real.shape), None
    blocks = _blocks(flat)
    magnitude = blocks.abs()
    largest = torch.finfo(torch.float32)
    scale = magnitude.amax(-1).clamp_max_(largest.max)  # a mean square that overflowed takes the top code
    ratio = magnitude.div_(scale.clamp_min(largest.tiny)[..., None])
    offsets, top = rounding_offsets(flat.shape[1], step, signed, flat.device), _TOP[signed]
    if signed:
        # 0 or 1 below the lowest level, 1 from there on
        below = (ratio * (2**BITS / _LOWEST)).clamp_max_(2**BITS).int().add_(offsets).bitwise_right_shift_(BITS)
        codes = ratio.clamp_min_(_LOWEST).view(torch.int32).add_(offsets).bitwise_right_shift_(BITS)
        codes = codes.add_(below).sub_(_ONE - top + 1).to(torch.int8).mul_(blocks.sign().to(torch.int8))
    else:
        codes = ratio.view(torch.int32).add_(offsets).bitwise_right_shift_(BITS).sub_(_ONE - top).clamp_min_(0)
        codes = codes.to(torch.uint8)
    return _unblocked(codes, flat.shape[1]).reshape(real.shape).contiguous(), scale


def decode(codes: Tensor, scales: Tensor | None, like: torch.dtype) -> Tensor:
    """The values behind codes, in the real or complex type ``like``."""
    if codes.dtype == like:
        return codes
    if scales is None:
        real = codes.to(like.to_real())
    else:
        signed = codes.dtype == torch.int8
        rows = _rows(codes)
        blocks = _blocks(rows).int()
        magnitude = blocks.abs() if signed else blocks
        values = _level(magnitude, _TOP[signed]).mul_(scales[..., None])
        if signed:
            values.mul_(blocks.sign_())  # that of code 0 is 0
        real = _unblocked(values, rows.shape[1]).reshape(codes.shape).to(like.to_real())
    return torch.view_as_complex(real) if like.is_complex else real


def _level(code: Tensor, top: int) -> Tensor:
    return (code + (_ONE - top)).bitwise_left_shift_(BITS).view(torch.float32)


def _rows(batch: Tensor) -> Tensor:
    """(batch, *shape) to (batch, n), also of scalars and empty shapes."""
    return batch.reshape(len(batch), math.prod(batch.shape[1:]))


def _blocks(rows: Tensor) -> Tensor:
    """(batch, n) to (batch, blocks, BLOCK), padded with zeros."""
    batch, count = rows.shape
    return torch.nn.functional.pad(rows, (0, -count % BLOCK)).reshape(batch, -(-count // BLOCK), BLOCK)


def _unblocked(blocks: Tensor, count: int) -> Tensor:
    return blocks.flatten(1)[:, :count]


def rounding_offsets(count: int, step: int, signed: bool, device: torch.device) -> Tensor:
    """(blocks, BLOCK) integers below 2^BITS for ``count`` entries, evenly distributed over entries and over steps."""
    shift = _wrapped(step * _SILVER + signed * (_GOLDEN >> 3))
    blocks = torch.arange(-(-count // BLOCK), dtype=torch.int32, device=device).mul_(_wrapped(BLOCK * _GOLDEN))
    within = torch.arange(BLOCK, dtype=torch.int32, device=device).mul_(_wrapped(_GOLDEN))
    whole = blocks.add_(shift)[:, None] + within  # modulo 2^32
    return whole.bitwise_right_shift_(32 - BITS).bitwise_and_(2**BITS - 1)


def round_dithered(values: Tensor, dtype: torch.dtype, step: int, signed: bool) -> Tensor:
    """Single precision (batch, n) in bfloat16 or float16, with the same offsets for every member of the batch.

    Below 2^-14, where float16 loses digits, and beyond its range, torch's own rounding remains.
    """
    cut = _CUT_OFF[dtype]
    offsets = rounding_offsets(values.shape[1], step, signed, values.device).flatten()[: values.shape[1]]
    bits = offsets.bitwise_right_shift_(BITS - cut) + values.view(torch.int32)
    return bits.bitwise_and_(-(2**cut)).view(torch.float32).to(dtype)


def _wrapped(value: int) -> int:
    """The 32-bit integer of the same bits."""
    return (value + 2**31) % 2**32 - 2**31


@dataclass(frozen=True)
class Moments:
    """Adam's running averages, without bias correction.

    Attributes:
        mean: of gradients, real or complex.
        mean_square: of their squared magnitudes, real.
    """

    mean: Tensor
    mean_square: Tensor


def rotate_moments(
    moments: Moments, old: Factors, new: Factors, core: Tensor, weights: tuple[float, float]
) -> Moments:
    """Moments in the coordinates of the new subspace.

    Args:
        old, new: factors before and after, which may differ in rank.
        core: of the present gradient, in the new subspace; it has not entered the moments yet.
        weights: 1 - beta^step for both averages, by which bias correction divides them.
    """
    rotations = [_overlap(after, before) for after, before in zip(new, old, strict=True)]
    largest = torch.finfo(moments.mean_square.dtype).max
    mean_weight, square_weight = weights
    mean, square = _wide(moments.mean) / mean_weight, _wide(moments.mean_square)
    # infinity is replaced by the largest number, of which differences can be taken
    variance = (square.clamp_max(largest * square_weight) / square_weight - mean.abs().square()).clamp_min(0)
    covered = torch.ones_like(variance)
    for mode, rotation in enumerate(rotations):
        if rotation is not None:
            shares = rotation.abs().square()[None]
            mean = mode_product(mean[None], rotation[None], mode)[0]
            variance = mode_product(variance[None], shares, mode)[0]
            covered = mode_product(covered[None], shares, mode)[0]
    uncovered = (1 - covered).clamp_min(0) * _wide(core).abs().square()
    rotated = square_weight * (mean.abs().square() + variance + uncovered)
    return Moments(
        (mean_weight * mean).to(moments.mean.dtype), rotated.clamp_max(largest).to(moments.mean_square.dtype)
    )


def _overlap(new: Tensor | None, old: Tensor | None) -> Tensor | None:
    if new is None:
        return None if old is None else _wide(old)
    return _wide(new).mH if old is None else _wide(new).mH @ _wide(old)


def _wide(tensor: Tensor) -> Tensor:
    """In double precision, where squares of large gradients do not overflow."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
