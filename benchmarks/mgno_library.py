"""What the mGNO benchmark takes from neuraloperator, which is optional."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import torch
from torch import Tensor

SIDES = ("ours", "neuraloperator", "neuraloperator_fused")
INSTALL = "neuraloperator is not installed; `pip install -e '.[benchmark]' -c constraints.txt` installs it"


def load(fused: bool = False) -> SimpleNamespace:
    """Its layers; with ``fused`` sums over neighbourhoods are one scatter instead of a Python loop over points.

    The library hands those sums to torch-scatter where that is installed, which it does not require: the loop is what
    an installation gives, and ``fused`` stands for it with such an extension.

    Raises:
        ModuleNotFoundError: says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from neuralop.layers import integral_transform
            from neuralop.layers.fno_block import FNOBlocks
            from neuralop.layers.gno_block import GNOBlock
            from neuralop.layers.gno_weighting_functions import octic_cutoff
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL) from error
    if fused:
        integral_transform.segment_csr = segment_sum
    return SimpleNamespace(FNOBlocks=FNOBlocks, GNOBlock=GNOBlock, octic_cutoff=octic_cutoff)


def segment_sum(values: Tensor, splits: Tensor, reduction: str, use_scatter: bool = False) -> Tensor:
    """(1, n, c) sums of consecutive rows (1, E, c) between ``splits`` (1, n + 1)."""
    sizes = splits[0].diff()
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    return values.new_zeros(1, len(sizes), values.shape[-1]).index_add(1, owner, values)
