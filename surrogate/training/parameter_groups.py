"""Parameter groups of a network for :class:`tensor_galore.TensorGaLore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from shapewright.surrogate.mgno.fourier_blocks import SpectralConvolution
from shapewright.surrogate.optim.subspace import Rank

MODES = ("frequencies", "channels_in", "channels_out")
"""Names of a spectral weight's modes; the corners of its spectrum, its first mode, are always whole."""


def parameter_groups(network: nn.Module, rank: Rank | Mapping[str, float]) -> list[dict[str, Any]]:
    """Groups of spectral weights, which are complex tensors stored as pairs, and of all other parameters.

    Args:
        network: with any number of :class:`fourier_blocks.SpectralConvolution`, in any dimension.
        rank: as TensorGaLore takes it, for all groups; or the share of each of :data:`MODES`, 1.0 where it is not
            named, for spectral weights, and then other parameters are whole.

    Raises:
        ValueError: a mode is named that there is not.
    """
    spectral = [m.weight for m in network.modules() if isinstance(m, SpectralConvolution) and m.weight.requires_grad]
    known = set(map(id, spectral))
    other = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    groups: list[dict[str, Any]]
    if not isinstance(rank, Mapping):
        groups = [{"params": spectral, "complex_pairs": True, "rank": rank}, {"params": other, "rank": rank}]
    else:
        by_order: dict[int, list[Tensor]] = {}
        for weight in spectral:
            by_order.setdefault(weight.dim() - 1, []).append(weight)
        groups = [
            {"params": weights, "complex_pairs": True, "rank": _shares(order, rank)}
            for order, weights in by_order.items()
        ]
        groups.append({"params": other, "rank": 1.0})
    return [group for group in groups if group["params"]]


def _shares(order: int, named: Mapping[str, float]) -> tuple[float, ...]:
    """Share of each mode of a weight (corners, *frequencies, channels in, channels out)."""
    unknown = set(named) - set(MODES)
    if unknown:
        raise ValueError(f"rank names {', '.join(sorted(unknown))}; allowed are {', '.join(MODES)}")
    frequencies, channels_in, channels_out = (float(named.get(mode, 1.0)) for mode in MODES)
    return (1.0, *[frequencies] * (order - 3), channels_in, channels_out)
