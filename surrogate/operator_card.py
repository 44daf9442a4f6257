"""Trained operators as safetensors with a card: what they were trained for, and how well they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from surrogate.model_card import (
    GRID_KEY,
    SurrogateFileError,
    half_precision,
    read_weights,
    refuse_differences,
    save_surrogate,
)
from surrogate.problem_operator import ProblemOperator


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
    place = torch.tensor([grid.origin, grid.spacing], dtype=torch.float64)
    save_surrogate(path, half_precision(network) | {GRID_KEY: place}, card)


def load_operator(path: Path, network: ProblemOperator, expected: Mapping[str, Any]) -> OperatorCard:
    """Read weights that were trained for ``expected`` into a network made for the same study.

    Raises:
        SurrogateFileError: no such file, not a weights file, trained for something else, or for another latent grid.
    """
    tensors, content = read_weights(path)
    try:
        card = OperatorCard(**content)
    except TypeError as error:
        raise SurrogateFileError(f"{path}: its card is not that of an operator ({error})") from error
    refuse_differences(path, card.trained_for, expected)
    grid = network.operator.grid
    place = tensors.pop(GRID_KEY, torch.zeros(2, grid.dimension))
    if not torch.allclose(place, torch.tensor([grid.origin, grid.spacing], dtype=place.dtype), rtol=1e-9, atol=1e-12):
        raise SurrogateFileError(f"{path}: belongs to the latent grid at {place.tolist()}, not to this study's")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise SurrogateFileError(f"{path}: its weights do not fit this study's network: {error}") from error
    return card
