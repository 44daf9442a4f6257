"""Rounding up with the probability that makes the mean right, by a dither that is computed and not drawn.

To the nearest, a value that changes by less than half a level a step would never leave its level. The dither is an
additive recurrence in entry and step rather than a random number, so that a resumed run and every process of a
distributed one round alike and no state is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128
BITS = 20
_CUT_OFF = {torch.bfloat16: 16, torch.float16: 13}  # bits of a single precision mantissa that the type lacks
_GOLDEN = 2654435769  # 2^32 divided by the golden ratio
_SILVER = 1779033703


def dither(count: int, step: int, signed: bool, device: torch.device) -> Tensor:
    """(blocks, BLOCK) integers below 2^BITS for ``count`` entries, spread evenly over entries and over steps."""
    shift = _wrapped(step * _SILVER + signed * (_GOLDEN >> 3))
    blocks = torch.arange(-(-count // BLOCK), dtype=torch.int32, device=device).mul_(_wrapped(BLOCK * _GOLDEN))
    within = torch.arange(BLOCK, dtype=torch.int32, device=device).mul_(_wrapped(_GOLDEN))
    whole = blocks.add_(shift)[:, None] + within  # modulo 2^32
    return whole.bitwise_right_shift_(32 - BITS).bitwise_and_(2**BITS - 1)


def rounded(values: Tensor, dtype: torch.dtype, step: int, signed: bool) -> Tensor:
    """Single precision (batch, n) in bfloat16 or float16, with the same dither for every member of the batch.

    Below 2^-14, where float16 loses digits, and beyond its range, it is rounded as torch does.
    """
    cut = _CUT_OFF[dtype]
    noise = dither(values.shape[1], step, signed, values.device).flatten()[: values.shape[1]]
    bits = noise.bitwise_right_shift_(BITS - cut) + values.view(torch.int32)
    return bits.bitwise_and_(-(2**cut)).view(torch.float32).to(dtype)


def _wrapped(value: int) -> int:
    """The 32-bit integer of the same bits."""
    return (value + 2**31) % 2**32 - 2**31
