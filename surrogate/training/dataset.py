"""Solutions with their derivatives, as arrays: for training and for measuring errors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.files import written_whole


@dataclass(frozen=True)
class Dataset:
    """S solved designs on one reference mesh of N nodes: P parameters, c components, J functionals, T tangents.

    Attributes:
        theta: (S, P) float64 designs.
        solution: (S, N, c) float32 nodal fields.
        values: (S, J) float64 functionals.
        gradients: (S, J, P) float64 adjoint design gradients.
        directions: (S, T, P) float64 design directions.
        tangents: (S, T, N, c) float32 material derivatives of the fields along them.
    """

    theta: Tensor
    solution: Tensor
    values: Tensor
    gradients: Tensor
    directions: Tensor
    tangents: Tensor

    def __len__(self) -> int:
        return len(self.theta)

    def subset(self, index: Tensor | slice) -> Dataset:
        """The designs ``index``."""
        return Dataset(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> Dataset:
        """On another device."""
        return Dataset(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def hash(self) -> str:
        """SHA-256 of the data, 16 digits."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, field.name).cpu().numpy()).tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write a compressed ``.npz``, whole or not at all."""
        with written_whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)})


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of an ``.npz`` file; None where there is none, or not a whole one."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception:  # numpy, zipfile and zlib report a broken file in many ways
        return None


def read_dataset(path: Path) -> Dataset | None:
    """What :meth:`Dataset.save` wrote, of finite numbers; None where there is none, or not a whole one."""
    arrays = read_arrays(path)
    if arrays is None or arrays.keys() != {field.name for field in fields(Dataset)}:
        return None
    numbers = all(array.dtype.kind == "f" and bool(np.isfinite(array).all()) for array in arrays.values())
    return Dataset(**{name: torch.from_numpy(array) for name, array in arrays.items()}) if numbers else None


def load_dataset(path: Path) -> Dataset:
    """Read what :meth:`Dataset.save` wrote."""
    with np.load(path) as arrays:
        return Dataset(**{field.name: torch.from_numpy(arrays[field.name]) for field in fields(Dataset)})
