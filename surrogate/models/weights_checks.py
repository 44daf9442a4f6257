"""What can be wrong inside a weights file that opens as one: arrays, reference mesh, latent grid, card; in words."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh

MESH_SHAPES = {"nodes": (2, torch.float64), "cells": (6, torch.int64), "facets": (3, torch.int64)}
"""Array of a mesh -> its columns and type; beside them ``facet_tags``, one whole number a facet."""

_SHORT = reprlib.Repr()
_SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 20, 20, 8
_SHORT.maxstring, _SHORT.maxother = 80, 80

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def weights_flaw(weights: Mapping[str, Tensor]) -> str | None:
    """Of the network's own arrays: one that holds no real numbers, or some that are not finite."""
    if not weights:
        return "it holds no weights"
    for name, tensor in weights.items():
        if tensor.dtype not in FLOATING:
            return f"weights {shown(name)} are {tensor.dtype}; allowed are real numbers of 16 to 64 bits"
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            nan = "NaN" if tensor.isnan().any() else "infinite"
            return f"weights {shown(name)} are {nan} in {bad} of {tensor.numel()} entries: the training broke down"
    return None


def mesh_flaw(mesh: Mapping[str, Tensor], tags: int | None = None) -> str | None:
    """Of the arrays of a reference mesh: shapes, types, indices, orientation, folds, a boundary that is not its own."""
    for name, (columns, dtype) in MESH_SHAPES.items():
        array = mesh[name]
        if array.ndim != 2 or array.shape[1] != columns or not len(array) or array.dtype != dtype:
            return f"{name} of its mesh {_is(array)}; expected (n, {columns}) {dtype}"
    facet_tags = mesh["facet_tags"]
    if tuple(facet_tags.shape) != (len(mesh["facets"]),) or facet_tags.dtype != torch.int64:
        return f"facet_tags of its mesh {_is(facet_tags)}; expected ({len(mesh['facets'])},) torch.int64"
    if not torch.isfinite(mesh["nodes"]).all():
        return "nodes of its mesh are not finite"
    count = len(mesh["nodes"])
    for name in ("cells", "facets"):
        if int(mesh[name].min()) < 0 or int(mesh[name].max()) >= count:
            return f"{name} of its mesh name nodes beyond the {count} that there are"
    if int(facet_tags.min()) < 0 or (tags is not None and int(facet_tags.max()) >= tags):
        return f"facet_tags of its mesh name other boundary regions than the {tags} of the family"
    return _shape_flaw(mesh_of(mesh, ()))


def mesh_of(arrays: Mapping[str, Tensor], tag_names: tuple[str, ...]) -> Mesh:
    """The mesh of the arrays of a weights file."""
    nodes, cells, facets, facet_tags = (arrays[name].numpy() for name in ("nodes", "cells", "facets", "facet_tags"))
    return Mesh(nodes, cells, facets, facet_tags, tag_names)


def _shape_flaw(mesh: Mesh) -> str | None:
    if len(np.unique(mesh.cells)) != len(mesh.nodes):
        return "nodes of its mesh belong to no cell"
    least = bernstein_jacobians(mesh, torch.from_numpy(mesh.nodes)).amin(-1)
    if not bool((least > 0).all()):
        mirrored = bool((least < 0).all())
        what = "is mirrored" if mirrored else f"is folded in {int((least <= 0).sum())} of {len(least)} cells"
        return f"its mesh {what}"
    sides: dict[tuple[int, int], int] = {}
    for cell in mesh.cells.tolist():
        for middle, (i, j) in enumerate(mesh.cell.edges, start=3):
            if (cell[i], cell[j]) in sides:
                return "cells of its mesh overlap"
            sides[cell[i], cell[j]] = cell[middle]
    outer = {(a, b, middle) for (a, b), middle in sides.items() if (b, a) not in sides}
    if any(sides.get((b, a), middle) != middle for (a, b), middle in sides.items()):
        return "cells of its mesh do not share the middles of their sides"
    facets = [tuple(facet) for facet in mesh.facets.tolist()]
    if len(set(facets)) != len(facets) or set(facets) != outer:
        return "facets of its mesh are not the boundary of its cells"
    return None


def grid_flaw(frame: Tensor, dimension: int) -> str | None:
    """Of origin and spacing of the latent grid."""
    if tuple(frame.shape) != (2, dimension) or frame.dtype not in FLOATING:
        return f"its latent grid {_is(frame)}; expected (2, {dimension}), origin and spacing"
    if not torch.isfinite(frame).all() or not (frame[1] > 0).all():
        return f"its latent grid has origin and spacing {frame.tolist()}; expected finite ones, the spacing positive"
    return None


def box_flaw(box: Any) -> str | None:
    """Of the bounds of the training designs."""
    if not isinstance(box, dict):
        return f"box is {shown(box)}; expected parameter -> [lower, upper]"
    for name, bounds in box.items():
        sound = isinstance(bounds, list) and len(bounds) == 2 and all(map(is_finite, bounds)) and bounds[0] < bounds[1]
        if not sound:
            return f"box of {shown(name)} is {shown(bounds)}; expected [lower, upper], finite and lower < upper"
    return None


def kind_flaw(content: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """Of the entries of a card: one that is missing, one too many, or one of the wrong kind."""
    for name, kind in kinds.items():
        if name not in content:
            return f"{name} is missing"
        value = content[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            return f"{name} is {shown(value)}; expected {names}"
    unknown = sorted(set(content) - set(kinds))
    return f"{shown(unknown[0])} is none of its entries" if unknown else None


def numbers_flaw(name: str, values: Mapping[str, Any]) -> str | None:
    """Of a mapping whose values are to be numbers."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} of {shown(key)} is {shown(value)}; expected a number"
    return None


def is_finite(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 10**300


def shown(value: Any) -> str:
    """A value on one line, cut short."""
    return _SHORT.repr(value)


def _is(array: Tensor) -> str:
    return f"is {tuple(array.shape)} {array.dtype}"
