"""Training data survive a file unchanged, and their hash tells any two apart."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from shapewright.surrogate.training.dataset import Dataset, load_dataset
from tests.surrogate.design_cases import exact_dataset

DATA = exact_dataset(5, seed=3)
every = pytest.mark.parametrize("name", [field.name for field in fields(Dataset)])


def test_round_trip(tmp_path):
    DATA.save(tmp_path / "data.npz")
    again = load_dataset(tmp_path / "data.npz")
    for field in fields(Dataset):
        ours, theirs = getattr(DATA, field.name), getattr(again, field.name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    assert again.hash == DATA.hash
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    DATA.save(tmp_path / "data.npz")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        DATA.subset(slice(0, 2)).save(tmp_path / "data.npz")
    assert load_dataset(tmp_path / "data.npz").hash == DATA.hash


@every
def test_hash_feels_every_number(name):
    changed = getattr(DATA, name).clone()
    changed.flatten()[-1] *= 1 + 1e-6
    assert replace(DATA, **{name: changed}).hash != DATA.hash


def test_hash_is_of_the_content():
    assert exact_dataset(5, seed=3).hash == DATA.hash
    assert len(DATA.hash) == 16
    assert DATA.subset(slice(0, 4)).hash != DATA.hash
    assert DATA.subset(torch.tensor([1, 0, 2, 3, 4])).hash != DATA.hash


def test_subset_takes_the_same_designs_of_every_array():
    part = DATA.subset(torch.tensor([3, 1]))
    assert len(part) == 2
    for field in fields(Dataset):
        assert torch.equal(getattr(part, field.name)[0], getattr(DATA, field.name)[3])


@pytest.mark.gpu
def test_a_dataset_on_a_gpu_is_hashed_and_saved_as_one_on_the_cpu(tmp_path):
    there = DATA.to("cuda")
    assert there.hash == DATA.hash
    there.save(tmp_path / "data.npz")
    assert load_dataset(tmp_path / "data.npz").hash == DATA.hash
