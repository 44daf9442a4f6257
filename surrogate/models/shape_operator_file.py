"""Files of operators for all shapes: weights in half precision with their card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from shapewright.surrogate.mgno.latent_grid import grid_around
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.flow_operator import FlowOperator, FlowPhysics
from shapewright.surrogate.models.galerkin import LinearPhysics
from shapewright.surrogate.models.model_card import Card, Kinds
from shapewright.surrogate.models.shape_operator import EXTENT, ShapeOperator, ShapeOperatorConfig
from shapewright.surrogate.models.weights_file import (
    SurrogateFileError,
    half_precision,
    load_weights,
    read_card,
    read_weights,
    write_weights,
)


@dataclass(frozen=True)
class ShapeOperatorCard(Card):
    """Of an operator for all shapes of a physics.

    Attributes:
        trained_for: ``operator``, its name, and ``sizes`` of the network.
        training: configuration of the training and of the problems that were drawn.
        population: ``trained``: kinds of domains, ``meshes``: how many, ``unseen``: kinds kept for tests.
        limits: descriptor -> [low, high] over the population, see :mod:`models.shape_descriptors`.
        parameters: parameter of the physics -> [low, high] over the population.
        held_out: name of a set of problems that training never saw -> mean and worst relative error in the energy
            norm against finite elements on the same mesh, and how many problems.
        hardware: machine and library versions.
        seconds: wall time of the training.
        solves: finite-element solutions that were learnt from.
    """

    trained_for: dict[str, Any]
    training: dict[str, Any]
    population: dict[str, Any]
    limits: dict[str, list[float]]
    parameters: dict[str, list[float]]
    held_out: dict[str, dict[str, float]]
    hardware: dict[str, str]
    seconds: float
    solves: int = 0

    OWNER: ClassVar[str] = "an operator for all shapes"
    KINDS: ClassVar[Kinds] = {
        "trained_for": dict,
        "training": dict,
        "population": dict,
        "limits": dict,
        "parameters": dict,
        "held_out": dict,
        "hardware": dict,
        "seconds": (int, float),
        "solves": int,
    }

    @property
    def operator(self) -> str:
        """Its name."""
        return str(self.trained_for["operator"])


def make_operator(physics: LinearPhysics, config: ShapeOperatorConfig) -> ShapeOperator:
    """An untrained operator."""
    corner, nodes = (EXTENT, EXTENT), (config.nodes, config.nodes)
    grid = grid_around((-EXTENT, -EXTENT), corner, nodes, 2)
    if isinstance(physics, FlowPhysics):
        return FlowOperator(physics, grid, config)
    return ShapeOperator(physics, grid, config)


def sizes_of(config: ShapeOperatorConfig) -> dict[str, Any]:
    """The sizes as a card stores them."""
    return json.loads(json.dumps(asdict(config)))


def save_shape_operator(path: Path, network: ShapeOperator, card: ShapeOperatorCard) -> None:
    """Write weights, rounded in place to half precision, with the card."""
    write_weights(path, half_precision(network), card)


def load_shape_operator(
    path: Path, physics: Mapping[str, LinearPhysics]
) -> tuple[ShapeOperator, ShapeOperatorCard]:
    """The network of a file, and its card; ``physics`` by the operators' names.

    Raises:
        SurrogateFileError: no such file, not that of an operator for all shapes, or weights that do not fit its card.
    """
    weights, content = read_weights(path)
    card = read_card(path, content, ShapeOperatorCard)
    if card.operator not in physics:
        raise SurrogateFileError(f"{path}: operator is '{card.operator}'; known are {', '.join(physics)}")
    sizes = dict(card.trained_for["sizes"])
    operator = sizes.pop("operator")
    config = ShapeOperatorConfig(OperatorConfig(**operator | {"modes": tuple(operator["modes"])}), **sizes)
    network = make_operator(physics[card.operator], config)
    load_weights(path, network, {name: tensor.float() for name, tensor in weights.items()})
    return network.eval(), card
