"""Parameter groups of a network for :class:`surrogate.tensor_galore.TensorGaLore`."""

from __future__ import annotations

from typing import Any

from torch import nn

from surrogate.fno import SpectralConvolution


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Two groups: spectral weights, which are complex tensors stored as pairs, and all other parameters."""
    spectral = [m.weight for m in network.modules() if isinstance(m, SpectralConvolution) and m.weight.requires_grad]
    known = set(map(id, spectral))
    other = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    groups = [{"params": spectral, "complex_pairs": True}, {"params": other}]
    return [group for group in groups if group["params"]]
