"""Optimizer moments in fewer bytes: bfloat16, or eight bits with a logarithmic code.

Rounding is dithered: up with the probability that makes the mean right. To the nearest, an average that changes by
0.1 % a step would never leave its level. The dither is an additive recurrence in entry and step rather than a
random number, so that a resumed run and every process of a distributed one round alike and no state is kept.

Errors of one rounding of x, with s the largest magnitude in the block of 128 entries that share one scale:
- bfloat16: below 2^-7 \\|x\\|;
- eight bits, non-negative: below (2^(1/8) - 1) x, and values below 2^-31.875 s are raised to that level, never
  to zero, since a square root of them divides;
- eight bits, signed: below (2^(1/8) - 1) \\|x\\| + 2^-15.75 s. That floor is the square root of the other's: a first
  moment can be lost only where the second moment's root has about reached its own floor.

Complex values are stored as pairs of real ones. A block's share of its scale is 4 bytes in 128.
"""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("full", "bfloat16", "8bit")
BLOCK = 128
_STEPS_PER_OCTAVE = 8
_TOP = {True: 127, False: 255}  # the largest code, signed or not
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
    flat = real.flatten(1).float()
    dither = _dither(flat.shape[1], step, signed, flat.device)
    if kind == "bfloat16":
        noise = (dither * 65536).to(torch.int32)
        bits = (flat.contiguous().view(torch.int32) + noise) & -65536
        return bits.view(torch.float32).to(torch.bfloat16).reshape(real.shape), None
    blocks = _blocks(flat)
    scale = blocks.abs().amax(-1)
    ratio = blocks.abs() / scale.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    top = _TOP[signed]
    low = (torch.log2(ratio) * _STEPS_PER_OCTAVE + top).floor_().clamp_(0, top - 1)
    below, above = _level(low, top), _level(low + 1, top)
    if signed:
        below = below.where(low > 0, 0)
    chance = (ratio - below) / (above - below)
    codes = low + (_blocks(dither[None]) < chance)
    codes = (codes * blocks.sign()).to(torch.int8) if signed else codes.to(torch.uint8)
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
        magnitude = _level(blocks.abs().float(), _TOP[signed]) * scales[..., None]
        values = magnitude * blocks.sign() if signed else magnitude  # the sign of code 0 is 0
        real = values.flatten(1)[:, : codes[0].numel()].reshape(codes.shape).to(like.to_real())
    return torch.view_as_complex(real) if like.is_complex else real


def _level(code: Tensor, top: int) -> Tensor:
    return torch.exp2((code - top) / _STEPS_PER_OCTAVE)


def _blocks(flat: Tensor) -> Tensor:
    """(batch, n) to (batch, blocks, BLOCK), filled up with zeros."""
    return torch.nn.functional.pad(flat, (0, -flat.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))


def _dither(count: int, step: int, signed: bool, device: torch.device) -> Tensor:
    """Numbers in [0, 1), spread evenly over entries at a step and over steps at an entry."""
    shift = (step * _SILVER + signed * (_GOLDEN >> 3)) % 2**32
    whole = (torch.arange(count, device=device) * _GOLDEN + shift) & 0xFFFFFFFF
    return (whole >> 8).float() / 2**24
