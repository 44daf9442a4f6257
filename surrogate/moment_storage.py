"""Optimizer moments in fewer bytes: bfloat16, or eight bits that are the upper ones of a floating-point number.

Rounding is dithered: up with the probability that makes the mean right. To the nearest, an average that changes by
0.1 % a step would never leave its level. The dither is an additive recurrence in entry and step rather than a
random number, so that a resumed run and every process of a distributed one round alike and no state is kept.

Errors of one rounding of x, with s the largest magnitude in the block of 128 entries that share one scale:
- bfloat16: below 2^-7 \\|x\\|;
- eight bits (five of exponent, three of mantissa), non-negative: below x / 8, and values below 1.125 2^-32 s are raised
  to that level, never to zero, since a square root of them divides;
- eight bits, signed (four of exponent, three of mantissa): below \\|x\\| / 8 + 1.25 2^-16 s. That floor is about the
  square root of the other's: a first moment can be lost only where the second moment's root has about reached its own.

Complex values are stored as pairs of real ones. A block's share of its scale is 4 bytes in 128.
"""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("full", "bfloat16", "8bit")
BLOCK = 128
_TOP = {True: 127, False: 255}  # the largest code, signed or not
_CUT = 20  # bits of a single precision mantissa that are cut off; three stay
_ONE = 0x3F800000 >> _CUT  # what is left of 1.0
_GOLDEN = 2654435769  # 2^32 divided by the golden ratio
_SILVER = 1779033703


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
    real = torch.view_as_real(values) if values.is_complex() else values
    flat = real.flatten(1).float().contiguous()
    dither = _dither(flat.shape[1], step, signed, flat.device)
    if kind == "bfloat16":
        bits = (flat.view(torch.int32) + (dither >> 4)) & -65536
        return bits.view(torch.float32).to(torch.bfloat16).reshape(real.shape), None
    blocks = _blocks(flat)
    magnitude = blocks.abs()
    scale = magnitude.amax(-1)
    ratio = magnitude.div_(scale.clamp_min(torch.finfo(torch.float32).tiny)[..., None])
    noise = _blocks(dither[None])
    top = _TOP[signed]
    codes = (ratio.view(torch.int32) + noise).bitwise_right_shift_(_CUT).sub_(_ONE - top)
    if signed:
        lowest = _level(torch.ones_like(codes[0, 0, 0]), top)  # the level below it is zero
        below = ((2**_CUT / lowest) * ratio).clamp_max_(2**_CUT).int().add_(noise).bitwise_right_shift_(_CUT)
        codes = torch.where(ratio < lowest, below, codes).to(torch.int8).mul_(blocks.sign().to(torch.int8))
    else:
        codes = codes.clamp_min_(0).to(torch.uint8)
    return codes.flatten(1)[:, : flat.shape[1]].reshape(real.shape).contiguous(), scale


def decode(codes: Tensor, scales: Tensor | None, like: torch.dtype) -> Tensor:
    """The values behind codes, in the real or complex type ``like``."""
    if codes.dtype == like:
        return codes
    if scales is None:
        real = codes.to(like.to_real())
    else:
        signed = codes.dtype == torch.int8
        blocks = _blocks(codes.flatten(1))
        values = _level(blocks.int().abs(), _TOP[signed]).mul_(scales[..., None])
        if signed:
            values.mul_(blocks.sign())  # that of code 0 is 0
        real = values.flatten(1)[:, : codes[0].numel()].reshape(codes.shape).to(like.to_real())
    return torch.view_as_complex(real) if like.is_complex else real


def _level(code: Tensor, top: int) -> Tensor:
    return (code + (_ONE - top)).bitwise_left_shift_(_CUT).view(torch.float32)


def _blocks(flat: Tensor) -> Tensor:
    """(batch, n) to (batch, blocks, BLOCK), filled up with zeros."""
    return torch.nn.functional.pad(flat, (0, -flat.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))


def _dither(count: int, step: int, signed: bool, device: torch.device) -> Tensor:
    """Integers below 2^20, spread evenly over entries at a step and over steps at an entry."""
    shift = _wrapped(step * _SILVER + signed * (_GOLDEN >> 3))
    whole = torch.arange(count, dtype=torch.int32, device=device).mul_(_wrapped(_GOLDEN)).add_(shift)  # modulo 2^32
    return whole.bitwise_right_shift_(32 - _CUT).bitwise_and_(2**_CUT - 1)


def _wrapped(value: int) -> int:
    """The 32-bit integer of the same bits."""
    return (value + 2**31) % 2**32 - 2**31
