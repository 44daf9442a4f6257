"""Promise: a weights file is used as it was written, or one error names the file and what is wrong in it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import open_surrogate
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.surrogate.models.weights_file import CARD_KEY, SurrogateFileError
from tests.studies.study_cases import setup_of, write_tiny
from tests.studies.test_fixed import untrained


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Tensors and card of a file that opens."""
    path = untrained(setup_of(), tmp_path_factory.mktemp("weights") / "sound.safetensors")
    open_surrogate(setup_of(), path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[CARD_KEY])  # noqa: SIM118


folder_is_shared = [HealthCheck.function_scoped_fixture]  # each example overwrites the file of the one before
often = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=folder_is_shared)
seldom = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=folder_is_shared)


def message_of(path: Path) -> str | None:
    """What is said against a file; None if it opens."""
    try:
        open_surrogate(setup_of(), path)
    except SurrogateFileError as error:
        return str(error)
    return None


def refused(folder: Path, tensors: dict[str, torch.Tensor], card: object) -> str:
    """What is said of such a file; it must be refused, in one line or one for each difference, with its name."""
    path = folder / "changed.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {CARD_KEY: json.dumps(card)})
    message = message_of(path)
    assert message is not None
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()[0]) < 600
    return message


def _with_entry(value: float):
    def change(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor.flatten()[:-1], tensor.new_tensor([value])]).reshape(tensor.shape)

    return change


FLOATS = {
    "not a number": _with_entry(math.nan),
    "infinite": _with_entry(-math.inf),
    "complex": lambda t: t.to(torch.complex64),
}
ANY = {
    "one axis more": lambda t: t[None],
    "empty": lambda t: t.new_zeros((0, *t.shape[1:])) if t.ndim else t.new_zeros(0),
    "twice": lambda t: torch.cat([t, t]) if t.ndim else torch.stack([t, t]),
    "true or false": lambda t: t > 0,
    "bytes": lambda t: torch.zeros(t.shape, dtype=torch.uint8),
}
INDICES = {
    "beyond": lambda t: t + 10**6,
    "negative": lambda t: t - 10**6,
    "real": lambda t: t.double(),
    "all one": torch.zeros_like,
}


@often
@given(st.data())
def test_an_array_that_was_changed(tmp_path, sound, data):
    tensors, card = sound
    name = data.draw(st.sampled_from(sorted(tensors)))
    changes = ANY | (FLOATS if tensors[name].is_floating_point() else INDICES)
    changes.pop("all one", None) if name.endswith("facet_tags") else None  # there is one region
    change = data.draw(st.sampled_from(sorted(changes)))
    changed = tensors | {name: changes[change](tensors[name])}
    message = refused(tmp_path, changed, card)
    assert any(part in message for part in (name.removeprefix("mesh."), "grid", "weights", "mesh")), (name, change)


@seldom
@given(st.data())
def test_an_array_that_is_missing_or_too_many(tmp_path, sound, data):
    tensors, card = sound
    name = data.draw(st.sampled_from(sorted(tensors)))
    assert refused(tmp_path, {k: t for k, t in tensors.items() if k != name}, card)
    assert "none of 'extra\\n'" in refused(tmp_path, tensors | {"extra\n": torch.zeros(2)}, card)


JUNK = [None, "x", -1, [], {}, True, [1], {"a": None}, math.nan, 10**400, [[0, 1]], "\ud800"]


def paths(value, at=()):
    """Every entry of nested mappings."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))


def put(value, at, new):
    """The mapping with another entry; without it where ``new`` is ``...``."""
    if not at:
        return new
    copy = dict(value)
    if new is ... and len(at) == 1:
        del copy[at[0]]
    else:
        copy[at[0]] = put(value[at[0]], at[1:], new)
    return copy


@often
@given(st.data())
def test_a_card_that_was_changed(tmp_path, sound, data):
    """What describes the training freely may hold anything; all else is refused, and never anything but an error."""
    tensors, card = sound
    at = data.draw(st.sampled_from([p for p in paths(card) if p]))
    new = data.draw(st.sampled_from([..., *JUNK]))
    changed = put(card, at, new)
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path, {CARD_KEY: json.dumps(changed)})
    message = message_of(path)
    if message is not None:
        assert message.startswith(f"{path}: ")
        assert len(message) < 2000
    else:
        harmless = at[0] in ("training", "hardware", "correlation") or at[:2] == ("held_out", "field") or at[0] == "box"
        number = isinstance(new, int | float) and not isinstance(new, bool)
        old = card
        for key in at:
            old = old[key]
        assert (new == old or (new is ... and old is None)) or harmless or number or isinstance(new, str), (at, new)


def fold(t: torch.Tensor) -> torch.Tensor:
    """One node of a cell far on the other side."""
    changed = t.clone()
    changed[-1] = -3 * changed[-1] - 1
    return changed


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("mesh.nodes", fold, "its mesh is folded in"),
        ("mesh.nodes", lambda t: t * torch.tensor([-1.0, 1.0]), "its mesh is mirrored"),
        ("mesh.cells", lambda t: t[:-1], "not the boundary of its cells|belong to no cell"),
        ("mesh.cells", lambda t: torch.cat([t, t[:1]]), "cells of its mesh overlap"),
        ("mesh.facets", lambda t: t[:, [1, 0, 2]], "facets of its mesh are not the boundary"),
        ("mesh.facet_tags", lambda t: t + 1, "other boundary regions than the 1 of the family"),
        ("mesh.nodes", lambda t: 1.01 * t, "its reference mesh is not one of this study's geometry"),
        ("grid.origin_and_spacing", lambda t: -t, "origin and spacing .*the spacing positive"),
        ("grid.origin_and_spacing", lambda t: t[:, :1], r"expected \(2, 2\), origin and spacing"),
        ("scale", _with_entry(math.nan), "weights 'scale' are NaN in 1 of 1 entries: the training broke down"),
        ("operator.lift.weight", torch.zeros_like, None),
    ],
)
def test_what_is_said_of_a_mesh_a_grid_and_weights(tmp_path, sound, name, change, said):
    tensors, card = sound
    changed = tensors | {name: change(tensors[name])}
    if said is None:  # what is only wrong as a number is for the certificate to find
        save_file(changed, tmp_path / "a.safetensors", {CARD_KEY: json.dumps(card)})
        open_surrogate(setup_of(), tmp_path / "a.safetensors")
        return
    assert re.search(said, refused(tmp_path, changed, card))


def test_weights_that_are_missing_name_study_and_key(tmp_path):
    path = write_tiny(tmp_path, ("surrogate: {", "surrogate: {weights: none.safetensors, "))
    setup = build_setup(load_study(path))
    expected = rf"tiny.yaml:\d+: surrogate.weights: {tmp_path}/none.safetensors: there is no such file; .*train"
    with pytest.raises(SurrogateFileError, match=expected):
        open_surrogate(setup, tmp_path / "none.safetensors")


def test_a_mesh_off_its_curves_names_study_key_and_file(tmp_path, sound):
    """The study takes the mesh that came with the weights, so this is told before anything is solved on it."""
    tensors, card = sound
    nodes = 1.01 * tensors["mesh.nodes"]
    save_file(tensors | {"mesh.nodes": nodes}, tmp_path / "w.safetensors", {CARD_KEY: json.dumps(card)})
    path = write_tiny(tmp_path, ("surrogate: {", "surrogate: {weights: w.safetensors, "))
    said = r"tiny.yaml:\d+: surrogate.weights: .*w.safetensors: its reference mesh: a node .* 'wall' is .* away"
    with pytest.raises(StudyError, match=said):
        build_setup(load_study(path))
    for content in (b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", bytes(range(256)) * 4):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(SurrogateFileError, match=r"surrogate.weights: .*w.safetensors: (not a|has no model card)"):
            open_surrogate(build_setup(load_study(path)), tmp_path / "w.safetensors")
