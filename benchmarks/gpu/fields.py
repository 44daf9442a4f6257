"""Fields of many designs in few bytes: their leading principal components, in half precision.

Solutions and material derivatives of designs with few parameters lie near a space of low dimension. Changes from the
reference fields and tangents, each divided by its root mean square over the set, component by component, are
projected onto one basis of that space (N. Halko, P.-G. Martinsson, J. Tropp, *Finding structure with randomness*, SIAM
Review 53 (2011) 217). What it costs is measured, not assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapewright.surrogate.training.dataset import Dataset

Arrays = dict[str, np.ndarray]


def compressed(data: Dataset, reference: Tensor, rank: int, prefix: str) -> tuple[Arrays, dict[str, float]]:
    """Arrays of a data set under names that begin with ``prefix``, and the relative errors of what they give back.

    Args:
        data: S designs with T tangents each.
        reference: (N, c) fields of the reference design.
        rank: largest number of components.
        prefix: of the names.

    Returns:
        arrays for :func:`restored`; ``change`` and ``tangent``, the largest relative error (root mean square over
        designs and nodes) of a field component.
    """
    change, tangents = data.solution - reference.float(), data.tangents
    scales = change.square().mean((0, 1)).sqrt(), tangents.square().mean((0, 1, 2)).sqrt()
    parts = [(change / scales[0]).flatten(1), (tangents / scales[1]).flatten(2).flatten(0, 1)]
    rows = torch.cat(parts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        basis = torch.svd_lowrank(rows, min(rank, *rows.shape), niter=2)[2]
    size = math.sqrt(rows.shape[1])  # basis vectors of entries about 1, which half precision holds well
    arrays = {
        "basis": (basis * size).half().numpy(),
        "coefficients": (rows @ basis / size).half().numpy(),
        "change_scale": scales[0].numpy(),
        "tangent_scale": scales[1].numpy(),
        **_exact(data),
    }
    named = {prefix + name: array for name, array in arrays.items()}
    back = restored(named, reference, prefix)
    return named, {
        "change": _error(back.solution - data.solution, scales[0]),
        "tangent": _error(back.tangents - tangents, scales[1]),
    }


def restored(arrays: Mapping[str, Any], reference: Tensor, prefix: str) -> Dataset:
    """The data set that :func:`compressed` was given, up to the errors that it stated."""
    part = {name: torch.from_numpy(arrays[prefix + name]) for name in (
        "basis", "coefficients", "change_scale", "tangent_scale", "theta", "values", "gradients", "directions"
    )}  # fmt: skip
    rows = (part["coefficients"].float() @ part["basis"].float().T).unflatten(1, reference.shape)
    designs, count = part["directions"].shape[:2]
    return Dataset(
        theta=part["theta"],
        solution=reference.float() + rows[:designs] * part["change_scale"],
        values=part["values"],
        gradients=part["gradients"],
        directions=part["directions"],
        tangents=rows[designs:].unflatten(0, (designs, count)) * part["tangent_scale"],
    )


def half_changes(data: Dataset, reference: Tensor, prefix: str) -> tuple[Arrays, float]:
    """Designs that judge, without tangents: changes in half precision, none left out; and their relative error."""
    change = data.solution - reference.float()
    scale = change.square().mean((0, 1)).sqrt()
    arrays = {"change": (change / scale).half().numpy(), "change_scale": scale.numpy(), **_exact(data)}
    named = {prefix + name: array for name, array in arrays.items()}
    return named, _error(from_half_changes(named, reference, prefix).solution - data.solution, scale)


def from_half_changes(arrays: Mapping[str, Any], reference: Tensor, prefix: str) -> Dataset:
    """What :func:`half_changes` was given, without its tangents."""
    part = {name: torch.from_numpy(arrays[prefix + name]) for name in (
        "change", "change_scale", "theta", "values", "gradients", "directions"
    )}  # fmt: skip
    solution = reference.float() + part["change"].float() * part["change_scale"]
    return Dataset(
        theta=part["theta"],
        solution=solution,
        values=part["values"],
        gradients=part["gradients"],
        directions=part["directions"][:, :0],
        tangents=solution.new_zeros(len(solution), 0, *solution.shape[1:]),
    )


def _exact(data: Dataset) -> Arrays:
    return {name: getattr(data, name).numpy() for name in ("theta", "values", "gradients", "directions")}


def _error(difference: Tensor, scale: Tensor) -> float:
    squares = difference.square().flatten(0, -2).mean(0)
    return float((squares.sqrt() / scale).max())
