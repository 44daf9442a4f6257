"""Weights come back unchanged with their card, and only for the study that they were trained for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from shapewright.surrogate.models.model_card import Accuracy, ModelCard
from shapewright.surrogate.models.weights_file import (
    CARD_KEY,
    SurrogateFileError,
    card_path,
    half_precision,
    load_mesh,
    load_surrogate,
    read_weights,
    reference_tensors,
    write_weights,
)
from tests.surrogate.design_cases import random_designs, shape_map, small_surrogate

STUDY = {
    "geometry": {"family": "lid", "options": {"count": 3}, "mesh_size": 0.3},
    "parameters": ["h1", "h2", "h3"],
    "surrogate": {"width": 8, "modes": (3, 3), "mollifier": "octic"},
}
CARD = ModelCard(
    trained_for=STUDY,
    training={"steps": 10, "learning_rate": 2e-3},
    data_hash="0123456789abcdef",
    designs=40,
    held_out=Accuracy({"u": 0.01, "p": 0.02}, 0.003, 0.04, 0.9991, 12),
    hardware={"device": "cpu"},
    seconds=1.5,
    box={"h1": [0.7, 1.3]},
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lid.safetensors"
    surrogate = small_surrogate()
    reference = reference_tensors(shape_map().mesh, surrogate.operator.grid)
    write_weights(path, surrogate.state_dict() | reference, CARD)
    return path


def test_round_trip(file):
    weights, card = load_surrogate(file, STUDY)
    expected = small_surrogate().state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert card == replace(CARD, trained_for=json.loads(json.dumps(STUDY)))
    assert sorted(path.name for path in file.parent.iterdir()) == ["lid.card.json", "lid.safetensors"]
    assert json.loads(card_path(file).read_text()) == json.loads(CARD.as_json())


def test_a_loaded_surrogate_predicts_the_same(file):
    theta, other = random_designs(2, seed=4), small_surrogate(seed=7)
    other.load_state_dict(load_surrogate(file, STUDY)[0])
    assert torch.equal(other.evaluate(theta)[1], small_surrogate().evaluate(theta)[1])


def test_half_precision_is_what_is_judged(tmp_path):
    """Files are half as large, only parameters are rounded, and the network in hand equals the one that is read."""
    surrogate, theta = small_surrogate().double(), random_designs(2, seed=4).double()
    exact = {name: tensor.clone() for name, tensor in surrogate.state_dict().items()}
    write_weights(tmp_path / "whole.safetensors", small_surrogate().state_dict(), CARD)
    write_weights(tmp_path / "half.safetensors", half_precision(surrogate), CARD)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (tmp_path / "whole.safetensors").stat().st_size
    read = small_surrogate(seed=7).double()
    read.load_state_dict(load_surrogate(tmp_path / "half.safetensors", STUDY)[0])
    assert torch.equal(read.evaluate(theta)[1], surrogate.evaluate(theta)[1])
    for name, tensor in read.state_dict().items():
        torch.testing.assert_close(tensor, exact[name], rtol=2.0**-11, atol=2.0**-25)
    assert all(torch.equal(buffer, exact[name]) for name, buffer in read.named_buffers() if name in exact)


def test_the_mesh_comes_back(file):
    mesh, ours = load_mesh(file, shape_map().mesh.tag_names)[0], shape_map().mesh
    assert all(
        (getattr(mesh, name) == getattr(ours, name)).all() for name in ("nodes", "cells", "facets", "facet_tags")
    )
    assert mesh.tag_names == ours.tag_names


def test_weights_without_a_mesh(tmp_path):
    path = tmp_path / "old.safetensors"
    write_weights(path, small_surrogate().state_dict(), CARD)
    with pytest.raises(SurrogateFileError, match="has no reference mesh; train the surrogate again"):
        load_mesh(path, ("wall",))


def test_another_study_is_refused_with_every_difference(file):
    other = {
        "geometry": {"family": "lid", "options": {"count": 4}, "mesh_size": 0.2},
        "parameters": ["h1", "h2"],
        "surrogate": {"width": 8, "modes": (3, 3), "mollifier": "octic", "radius": 3},
    }
    with pytest.raises(SurrogateFileError) as error:
        load_surrogate(file, other)
    head, *lines = str(error.value).splitlines()
    assert head == f"{file}: trained for another study:"
    assert [line.strip() for line in lines] == [
        "geometry.mesh_size: trained for 0.3, this study has 0.2",
        "geometry.options.count: trained for 3, this study has 4",
        "parameters: trained for ['h1', 'h2', 'h3'], this study has ['h1', 'h2']",
        "surrogate.radius: trained for None, this study has 3",
    ]


def test_no_such_file(tmp_path):
    with pytest.raises(
        SurrogateFileError, match=r"none.safetensors: there is no such file; `shapewright train` makes one"
    ):
        load_surrogate(tmp_path / "none.safetensors", STUDY)


def test_weights_that_moved_are_named(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "bar.safetensors").write_bytes(b"")
    with pytest.raises(SurrogateFileError, match=r"no such file; write weights/bar.safetensors"):
        read_weights(tmp_path / "bar.safetensors")


def test_a_folder(tmp_path):
    with pytest.raises(SurrogateFileError, match="not a safetensors file"):
        load_surrogate(tmp_path, STUDY)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.9, 0.9999])
def test_a_truncated_file(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SurrogateFileError, match="not a safetensors file"):
        load_surrogate(file, STUDY)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "text.safetensors"
    path.write_text("solid nonsense\n" * 50)
    with pytest.raises(SurrogateFileError, match="not a safetensors file"):
        load_surrogate(path, STUDY)


def test_weights_of_another_program_have_no_card(tmp_path):
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, path, metadata)
        with pytest.raises(SurrogateFileError, match="has no model card, so it was not written by shapewright"):
            load_surrogate(path, STUDY)


@pytest.mark.parametrize(
    "card",
    [
        "{half of",
        "[1, 2]",
        json.dumps({"trained_for": {}}),
        json.dumps(json.loads(CARD.as_json()) | {"of_a_later_version": 1}),
    ],
)
def test_a_card_that_cannot_be_read(tmp_path, card):
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {CARD_KEY: card})
    with pytest.raises(
        SurrogateFileError, match=r"its model card cannot be read .* `shapewright train` makes a new file"
    ):
        load_surrogate(path, STUDY)


def test_a_write_that_fails_leaves_the_old_file(file, monkeypatch):
    from pathlib import Path

    write = Path.write_bytes

    def full(path, content):
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_weights(file, small_surrogate(seed=1).state_dict(), replace(CARD, designs=41))
    weights, card = load_surrogate(file, STUDY)
    assert card.designs == json.loads(card_path(file).read_text())["designs"] == 40
    assert torch.equal(weights["operator.lift.weight"], small_surrogate().state_dict()["operator.lift.weight"])
