"""Weights files: safetensors with the network's arrays, its reference mesh and latent grid, and its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.models.evolution import EvolutionOperator
from shapewright.surrogate.models.model_card import Card, ModelCard, OperatorCard
from shapewright.surrogate.models.problem_operator import ProblemOperator
from shapewright.surrogate.models.weights_checks import grid_flaw, mesh_flaw, mesh_of, shown, weights_flaw

Operator = ProblemOperator | EvolutionOperator
"""Networks whose weights are those of a problem, not of one shape's mesh."""

CARD_KEY = "model_card"
MESH_PREFIX = "mesh."
GRID_KEY = "grid.origin_and_spacing"
MESH_ARRAYS = ("nodes", "cells", "facets", "facet_tags")


class SurrogateFileError(ValueError):
    """A weights file that cannot be read, or that belongs to another study."""


def write_weights(path: Path, weights: Mapping[str, Tensor], card: Card) -> None:
    """Write the weights with their card inside, and the card as ``<name>.card.json`` beside them."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with written_whole(path) as part:
        part.write_bytes(save(tensors, metadata={CARD_KEY: card.as_json()}))
    with written_whole(card_path(path)) as part:
        part.write_text(card.as_json() + "\n", encoding="utf-8")


def save_operator(path: Path, network: Operator, card: OperatorCard) -> None:
    """Write weights and scales in half precision, and origin and spacing of the latent grid, with the card."""
    write_weights(path, half_precision(network) | {GRID_KEY: _frame(network.operator.grid)}, card)


def half_precision(network: nn.Module) -> dict[str, Tensor]:
    """State to save, with parameters in half precision, to which they are rounded in place first.

    Files are half as large, and the held-out errors of the shipped surrogates change in their third digit at most.
    Rounded in place, the network has the errors of the file.
    """
    with torch.no_grad():
        halved = {name: parameter.half() for name, parameter in network.named_parameters()}
        for name, parameter in network.named_parameters():
            parameter.copy_(halved[name])
    return network.state_dict() | halved


def card_path(weights: Path) -> Path:
    """Where the readable card of a weights file lies."""
    return weights.with_name(weights.name.removesuffix(".safetensors") + ".card.json")


def reference_tensors(mesh: Mesh, grid: LatentGrid) -> dict[str, Tensor]:
    """Reference mesh, and origin and spacing of the latent grid, as tensors to save with the weights.

    Weights belong to the nodes of one mesh and one grid, and another version of the mesher would make another mesh.
    """
    arrays = (mesh.nodes, mesh.cells, mesh.facets, mesh.facet_tags)
    tensors = {MESH_PREFIX + name: torch.from_numpy(array) for name, array in zip(MESH_ARRAYS, arrays, strict=True)}
    return tensors | {GRID_KEY: _frame(grid)}


def _frame(grid: LatentGrid) -> Tensor:
    """(2, d) origin and spacing."""
    return torch.tensor([grid.origin, grid.spacing], dtype=torch.float64)


def load_surrogate(path: Path, expected: Mapping[str, Any]) -> tuple[dict[str, Tensor], ModelCard]:
    """Read weights that were trained for ``expected`` (compared with the card's ``trained_for``).

    Raises:
        SurrogateFileError: no such file, not a weights file, no card or one that cannot be read, or trained for
            something else: names every difference; or an invalid array.
    """
    tensors, content = read_weights(path)
    card = read_card(path, content, ModelCard)
    refuse_differences(path, card.trained_for, _as_far_as_fixed(expected, card.trained_for))
    own = {name: t for name, t in tensors.items() if name != GRID_KEY and not name.startswith(MESH_PREFIX)}
    _refuse_flaw(path, weights_flaw(own))
    return own, card


def _as_far_as_fixed(expected: Mapping[str, Any], trained_for: Mapping[str, Any]) -> dict[str, Any]:
    """What is expected, without fixed parameters that were free in the training: the weights are valid there too."""
    learnt = trained_for.get("fixed", {})
    learnt = learnt if isinstance(learnt, dict) else {}
    fixed = {name: value for name, value in expected.get("fixed", {}).items() if name in learnt}
    others = {name: part for name, part in expected.items() if name != "fixed"}
    return others | ({"fixed": fixed} if fixed else {})


def load_operator(path: Path, network: Operator, expected: Mapping[str, Any]) -> OperatorCard:
    """Read weights that were trained for ``expected`` into a network made for the same study.

    Raises:
        SurrogateFileError: no such file, not a weights file, trained for something else, or for another latent grid;
            or an invalid array.
    """
    tensors, content = read_weights(path)
    card = read_card(path, content, OperatorCard)
    refuse_differences(path, card.trained_for, expected)
    grid = network.operator.grid
    frame = tensors.pop(GRID_KEY, None)
    if frame is None:
        raise SurrogateFileError(f"{path}: has no latent grid; train the operator again")
    _refuse_flaw(path, grid_flaw(frame, grid.dimension) or weights_flaw(tensors))
    own = _frame(grid)
    if ((frame.double() - own).abs() > 1e-9 * own[1] * max(grid.shape)).any():
        raise SurrogateFileError(f"{path}: belongs to the latent grid at {frame.tolist()}, not to this study's")
    load_weights(path, network, tensors)
    return card


def load_grid(path: Path, shape: Sequence[int], radius: int) -> LatentGrid:
    """The latent grid that the weights belong to.

    Raises:
        SurrogateFileError: see :func:`load_surrogate`; or there is no grid in the file.
    """
    tensors, _ = read_weights(path)
    if GRID_KEY not in tensors:
        raise SurrogateFileError(f"{path}: has no latent grid; train the surrogate again")
    _refuse_flaw(path, grid_flaw(tensors[GRID_KEY], len(shape)))
    origin, spacing = (tuple(row) for row in tensors[GRID_KEY].tolist())
    return LatentGrid(origin, spacing, tuple(shape), radius)


def load_mesh(path: Path, tag_names: tuple[str, ...]) -> tuple[Mesh, ModelCard]:
    """The reference mesh that the weights belong to.

    Raises:
        SurrogateFileError: see :func:`load_surrogate`; or there is no mesh in the file.
    """
    tensors, content = read_weights(path)
    mesh = _mesh_arrays(path, tensors)
    _refuse_flaw(path, mesh_flaw(mesh, len(tag_names)))
    return mesh_of(mesh, tag_names), read_card(path, content, ModelCard)


def _mesh_arrays(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(MESH_PREFIX + name not in tensors for name in MESH_ARRAYS):
        raise SurrogateFileError(f"{path}: has no reference mesh; train the surrogate again")
    return {name: tensors[MESH_PREFIX + name] for name in MESH_ARRAYS}


def load_weights(path: Path, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put the weights of a file into a network.

    Raises:
        SurrogateFileError: they are not those of such a network: names the first that differs.
    """
    own = network.state_dict()
    for name in (*own, *weights):
        if name not in weights or name not in own:
            has = "not those of" if name not in weights else "weights that are none of"
            raise _unfit(path, f"{has} {shown(name)}")
        if own[name].shape != weights[name].shape:
            found, expected = tuple(weights[name].shape), tuple(own[name].shape)
            raise _unfit(path, f"those of {shown(name)} of shape {found}, expected {expected}")
    network.load_state_dict(dict(weights))


def _unfit(path: Path, what: str) -> SurrogateFileError:
    return SurrogateFileError(
        f"{path}: its weights do not fit this study's network: the file has {what}; `shapewright train` makes a new one"
    )


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a weights file, and its card as plain data.

    Raises:
        SurrogateFileError: no such file, not a weights file, or no card in it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        moved = path.parent / "weights" / path.name  # where those that ship lie since they left the studies' folder
        hint = f"; write weights/{path.name}" if moved.is_file() else "; `shapewright train` makes one"
        raise SurrogateFileError(f"{path}: there is no such file{hint}") from None
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
        raise SurrogateFileError(f"{path}: not a safetensors file ({_one_line(error)})") from error
    if CARD_KEY not in metadata:
        raise SurrogateFileError(f"{path}: has no model card, so it was not written by shapewright")
    try:
        content = json.loads(metadata[CARD_KEY])
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise _unreadable(path, f"it is {shown(content)}; expected entries with names")
    return weights, content


def read_card[AnyCard: Card](path: Path, content: Mapping[str, Any], kind: type[AnyCard]) -> AnyCard:
    """The card of a file as one of that kind.

    Raises:
        SurrogateFileError: it is none: names the file and the entry.
    """
    try:
        return kind.of(content)
    except ValueError as error:
        raise _unreadable(path, error, f" as that of {kind.OWNER}") from error


def refuse_differences(path: Path, trained_for: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """SurrogateFileError that names every difference between what the weights were trained for and what is wanted."""
    # through JSON, so that tuples and lists, ints and floats compare as they are stored
    differences = _differences(trained_for, json.loads(json.dumps(expected)))
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise SurrogateFileError(f"{path}: trained for another study:\n{lines}")


def _refuse_flaw(path: Path, flaw: str | None) -> None:
    """SurrogateFileError that names the file and what is wrong in it, if anything is."""
    if flaw:
        raise SurrogateFileError(f"{path}: {flaw}; `shapewright train` makes a new file")


def _unreadable(path: Path, error: Exception | str, kind: str = "") -> SurrogateFileError:
    return SurrogateFileError(
        f"{path}: its model card cannot be read{kind} ({_one_line(error)}); `shapewright train` makes a new file"
    )


def _one_line(error: Exception | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _differences(trained: Any, wanted: Any, key: str = "") -> list[str]:
    if isinstance(trained, dict) and isinstance(wanted, dict):
        lines = []
        for name in sorted({*trained, *wanted}):
            inner = f"{key}.{name}" if key else name
            lines += _differences(trained.get(name), wanted.get(name), inner)
        return lines
    return [] if trained == wanted else [f"{key}: trained for {shown(trained)}, this study has {shown(wanted)}"]
