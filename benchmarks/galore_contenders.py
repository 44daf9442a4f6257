"""The optimizers that the Tensor-GaLore benchmark compares, each with the settings that are tried for it.

AdamW is the complex Adam with a real second moment, 12 bytes a complex parameter; dense AdamW in eight bits, too, is
:class:`tensor_galore.TensorGaLore` at full rank, where a test holds it equal to AdamW. GaLore on the
unfolding along one mode is the Tucker subspace in which only that mode is truncated; here its moments are rotated at
refreshes, which the published one does not do. The public Tensor-GaLore is neuraloperator's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.fourier_network import FourierNetwork
from benchmarks.galore_outliers import OutlierTensorGaLore
from shapewright.surrogate.optim.tensor_galore import TensorGaLore

UPDATE_GAP, WEIGHT_DECAY = 200, 1e-4
DENSE_RATES = (8e-3, 1.1e-2, 1.6e-2, 2.2e-2)
PROJECTED = ((1.1e-2, 1.0), (1.6e-2, 0.5), (1.6e-2, 1.0), (2.2e-2, 1.0))
"""Learning rates, and scales with them. On Navier-Stokes AdamW diverged at 3.2e-2 with one seed in four."""
ENERGY = 0.99999
"""Share of a gradient's squared norm that ranks by energy keep, for about a quarter of the bytes.

After 60 steps it took 25 % of them on Navier-Stokes and 11 % on Darcy flow; with 1 - 3e-6 it were 58 and 22 %. Nearly
all of the norm lies in one to three directions a mode.
"""
RANKS, PUBLIC_RANKS = (0.5, 0.25, 0.1, 0.05), (0.25, 0.1)
MODES = ("frequency along x", "frequency along y", "channels in", "channels out")
DECISIVE = (
    "AdamW",
    "AdamW, 8 bits",
    "AdamW, half the width",
    "ours, rank 0.25",
    "ours, rank 0.1",
    "ours, 8 bits, rank 0.5",
    "ours, 8 bits, rank 0.25",
    "ours, channels in alone, rank 0.25",
    "ours, channels in alone, 8 bits, rank 0.25",
    "neuraloperator's Tensor-GaLore, rank 0.25",
    "GaLore on channels in, rank 0.25",
)
"""Labels of the rows that a decision hangs on."""
INSTALL = "neuraloperator is not installed; `pip install -e '.[benchmark]' -c constraints.txt` installs it"


@dataclass(frozen=True)
class Setting:
    """Learning rate; and scale, in units of sqrt(full size / core size), where there is a subspace."""

    rate: float
    scale: float = 1.0


Build = Callable[[FourierNetwork, Setting], torch.optim.Optimizer]


@dataclass(frozen=True)
class Contender:
    """An optimizer of the comparison.

    Attributes:
        name, rank: of its row; a rank of None is the full one.
        build: optimizer of a network.
        settings: what is tried on the validation set.
        width_share: of the network's width, for a smaller network with as many bytes of optimizer.
        ours: whether the optimizer is this repository's, whose results go with its code.
    """

    name: str
    rank: float | None
    build: Build
    settings: tuple[Setting, ...]
    width_share: float = 1.0
    ours: bool = True

    @property
    def label(self) -> str:
        """Name and rank."""
        return self.name if self.rank is None else f"{self.name}, rank {self.rank:g}"


def contenders() -> tuple[Contender, ...]:
    """All rows of the table, AdamW first."""
    dense = tuple(map(Setting, DENSE_RATES))
    projected = tuple(Setting(*setting) for setting in PROJECTED)

    def low_rank(name: str, build: Callable[..., Build], ranks: Sequence[float], **options: object) -> list[Contender]:
        return [Contender(name, rank, build(rank, **options), projected) for rank in ranks]

    found = [
        Contender("AdamW", None, _ours(1.0), dense),
        Contender("AdamW, 8 bits", None, _ours(1.0, moments="8bit"), dense),
        Contender("AdamW, half the width", None, _ours(1.0), dense, width_share=0.5),
        *low_rank("ours", _ours, RANKS),
        *low_rank("ours, 8 bits", _ours, RANKS, moments="8bit"),
        *low_rank("ours, nothing along the discarded part", _ours, [0.25], residual_weight=0.0),
        Contender("ours, outliers apart", 0.25, _outliers, projected),
        Contender("ours, ranks by energy", ENERGY, _ours(0.25, rank=ENERGY, rank_rule="energy"), projected),
        *low_rank("ours, channels in alone", _unfolding, [0.25], mode=2),
        *low_rank("ours, channels in alone, 8 bits", _unfolding, [0.25], mode=2, moments="8bit"),
    ]
    for rank in PUBLIC_RANKS:
        found.append(Contender("neuraloperator's Tensor-GaLore", rank, _public(rank), projected, ours=False))
    for mode, name in enumerate(MODES):
        found += low_rank(f"GaLore on {name}", _unfolding, [0.25], mode=mode, residual_weight=0.0)
    return tuple(found)


def torchs_adamw() -> Contender:
    """torch's own, 16 bytes a complex parameter, for its memory and its time."""
    return Contender("AdamW of torch", None, _torch, (Setting(DENSE_RATES[1]),), ours=False)


def _ours(share: float, /, **options: object) -> Build:
    """With the step scaled for a share of the entries, which is the rank too unless ``options`` name another."""

    def build(network: FourierNetwork, setting: Setting) -> TensorGaLore:
        projected = {"params": network.spectral_weights(), "rank": share, "scale": setting.scale / math.sqrt(share)}
        groups = [projected | options, {"params": network.other_parameters(), "rank": 1.0}]
        return TensorGaLore(groups, lr=setting.rate, weight_decay=WEIGHT_DECAY, update_gap=UPDATE_GAP)

    return build


def _unfolding(rank: float, mode: int, **options: object) -> Build:
    """A share ``rank`` of one mode's directions is kept, and all of the others'."""
    return _ours(rank, rank=tuple(rank if mode == k else 1.0 for k in range(4)), **options)


def _outliers(network: FourierNetwork, setting: Setting) -> TensorGaLore:
    """A fifth of the moments' bytes for single entries, of 16 bytes each, where a core takes 12."""
    projected = {"params": network.spectral_weights(), "rank": 0.2, "scale": setting.scale / math.sqrt(0.2)}
    groups = [projected, {"params": network.other_parameters(), "rank": 1.0}]
    return OutlierTensorGaLore(
        groups, outliers=0.0375, lr=setting.rate, weight_decay=WEIGHT_DECAY, update_gap=UPDATE_GAP
    )


def _torch(network: FourierNetwork, setting: Setting) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=setting.rate, weight_decay=WEIGHT_DECAY)


def _public(rank: float) -> Build:
    def build(network: FourierNetwork, setting: Setting) -> torch.optim.Optimizer:
        return load()(
            network.other_parameters(),
            lr=setting.rate,
            weight_decay=WEIGHT_DECAY,
            galore_params=network.spectral_weights(),
            galore_rank=rank,
            galore_update_proj_gap=UPDATE_GAP,
            galore_scale=setting.scale / math.sqrt(rank),
        )

    return build


def load() -> type[torch.optim.Optimizer]:
    """neuraloperator's AdamW with its Tensor-GaLore.

    Raises:
        ModuleNotFoundError: says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorly
            from neuralop.training.adamw import AdamW
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL) from error
    tensorly.set_backend("pytorch")
    return AdamW
