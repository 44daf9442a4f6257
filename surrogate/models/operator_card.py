"""Trained operators as safetensors with a card: what they were trained for, and how well they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from shapewright.surrogate.models.model_card import (
    GRID_KEY,
    SurrogateFileError,
    half_precision,
    load_weights,
    read_weights,
    refuse_differences,
    refuse_flaw,
    save_surrogate,
)
from shapewright.surrogate.models.problem_operator import ProblemOperator
from shapewright.surrogate.models.weights_checks import grid_flaw, kind_flaw, numbers_flaw, weights_flaw

CARD_KINDS: dict[str, type | tuple[type, ...]] = {
    "trained_for": dict,
    "training": dict,
    "squared_relative_error": dict,
    "hardware": dict,
    "seconds": (int, float),
}


@dataclass(frozen=True)
class OperatorCard:
    """What travels with the weights.

    Attributes:
        trained_for: everything the network depends on, as plain data.
        training: configuration of the training.
        squared_relative_error: points of the input cloud -> mean over unseen instances.
        hardware: machine and library versions.
        seconds: wall time of the training.
    """

    trained_for: dict[str, Any]
    training: dict[str, Any]
    squared_relative_error: dict[str, float]
    hardware: dict[str, str]
    seconds: float

    def as_json(self) -> str:
        """Indented JSON."""
        return json.dumps(asdict(self), indent=2)


def save_operator(path: Path, network: ProblemOperator, card: OperatorCard) -> None:
    """Write weights, scales and place of the latent grid, with the card inside and beside."""
    grid = network.operator.grid
    frame = torch.tensor([grid.origin, grid.spacing], dtype=torch.float64)
    save_surrogate(path, half_precision(network) | {GRID_KEY: frame}, card)


def load_operator(path: Path, network: ProblemOperator, expected: Mapping[str, Any]) -> OperatorCard:
    """Read weights that were trained for ``expected`` into a network made for the same study.

    Raises:
        SurrogateFileError: no such file, not a weights file, trained for something else, or for another latent grid;
            or something in it is not what it should be.
    """
    tensors, content = read_weights(path)
    flaw = kind_flaw(content, CARD_KINDS) or numbers_flaw("error", content["squared_relative_error"])
    if flaw:
        raise SurrogateFileError(f"{path}: its card is not that of an operator ({flaw})")
    card = OperatorCard(**content)
    refuse_differences(path, card.trained_for, expected)
    grid = network.operator.grid
    frame = tensors.pop(GRID_KEY, None)
    if frame is None:
        raise SurrogateFileError(f"{path}: has no latent grid; train the operator again")
    refuse_flaw(path, grid_flaw(frame, grid.dimension) or weights_flaw(tensors))
    own = torch.tensor([grid.origin, grid.spacing], dtype=torch.float64)
    if ((frame.double() - own).abs() > 1e-9 * own[1] * max(grid.shape)).any():
        raise SurrogateFileError(f"{path}: belongs to the latent grid at {frame.tolist()}, not to this study's")
    load_weights(path, network, tensors)
    return card
