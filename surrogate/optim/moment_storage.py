"""Optimizer moments in fewer bytes: bfloat16, or eight bits that are the upper ones of a floating-point number.

Rounding is dithered, see :mod:`optim.moment_dither`: to the nearest, an average that changes by 0.1 % a step
would never leave its level.

Errors of one rounding of x, with s the largest magnitude in the block of 128 entries that share one scale:
- bfloat16: below 2^-7 \\|x\\|;
- eight bits (five of exponent, three of mantissa), non-negative: below x / 8, and values below 1.125 2^-32 s are raised
  to that level, never to zero, since a square root of them divides;
- eight bits, signed (four of exponent, three of mantissa): below \\|x\\| / 8 + 1.25 2^-16 s. That floor is about the
  square root of the other's: a first moment can be lost only where the second moment's root has about reached its own.

Complex values are stored as pairs of real ones. A block's share of its scale is 4 bytes in 128.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shapewright.surrogate.optim.moment_dither import BITS, BLOCK, dither, rounded
from shapewright.surrogate.optim.tucker import as_real

KINDS = ("full", "bfloat16", "8bit")
_TOP = {True: 127, False: 255}  # the largest code, signed or not
_CUT = BITS  # of a single precision mantissa, cut off; three stay
_ONE = 0x3F800000 >> _CUT  # what is left of 1.0
_LOWEST = 1.25 * 2.0**-16  # the level of the signed code 1; below it is zero


def encode(values: Tensor, kind: str, step: int, signed: bool) -> tuple[Tensor, Tensor | None]:
    """Codes and scales (the latter of eight bits only) of a batch (batch, *shape) of tensors.

    Args:
        values: not negative unless ``signed``.
        step: of the optimizer, which moves the dither on.

    Returns:
        codes (batch, *shape), with a last dimension 2 added for complex values in fewer bytes; and scales
        (batch, blocks) or None.
    """
    if kind == "full":
        return values, None
    real = as_real(values)
    flat = _rows(real).float().contiguous()
    if kind == "bfloat16":
        return rounded(flat, torch.bfloat16, step, signed).reshape(real.shape), None
    blocks = _blocks(flat)
    magnitude = blocks.abs()
    largest = torch.finfo(torch.float32)
    scale = magnitude.amax(-1).clamp_max_(largest.max)  # a second moment that overflowed takes the top code
    ratio = magnitude.div_(scale.clamp_min(largest.tiny)[..., None])
    noise, top = dither(flat.shape[1], step, signed, flat.device), _TOP[signed]
    if signed:
        # 0 or 1 below the lowest level, 1 from there on
        below = (ratio * (2**_CUT / _LOWEST)).clamp_max_(2**_CUT).int().add_(noise).bitwise_right_shift_(_CUT)
        codes = ratio.clamp_min_(_LOWEST).view(torch.int32).add_(noise).bitwise_right_shift_(_CUT)
        codes = codes.add_(below).sub_(_ONE - top + 1).to(torch.int8).mul_(blocks.sign().to(torch.int8))
    else:
        codes = ratio.view(torch.int32).add_(noise).bitwise_right_shift_(_CUT).sub_(_ONE - top).clamp_min_(0)
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
    return (code + (_ONE - top)).bitwise_left_shift_(_CUT).view(torch.float32)


def _rows(batch: Tensor) -> Tensor:
    """(batch, *shape) to (batch, n), scalars and empty shapes too."""
    return batch.reshape(len(batch), math.prod(batch.shape[1:]))


def _blocks(rows: Tensor) -> Tensor:
    """(batch, n) to (batch, blocks, BLOCK), filled up with zeros."""
    batch, count = rows.shape
    return torch.nn.functional.pad(rows, (0, -count % BLOCK)).reshape(batch, -(-count // BLOCK), BLOCK)


def _unblocked(blocks: Tensor, count: int) -> Tensor:
    return blocks.flatten(1)[:, :count]
