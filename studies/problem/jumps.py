"""Formulas of a study that jump inside cells: quadrature there loses its order, and derivatives do not see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.fields.names import coordinates
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.studies.problem.functionals import own_integrals
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.expressions import Comparison, Expression, parse
from shapewright.studies.schema.physics import LoadCase, Physics

PAIRS = 512
"""Random pairs of points among which positions are sought where a comparison changes."""
BISECTIONS = 60
SMALLEST_JUMP = 1e-6
"""Change across a comparison, relative to the formula's size, that counts as a jump."""


class JumpWarning(UserWarning):
    """A formula jumps inside cells."""


def jumps(setup: Setup) -> list[str]:
    """A message for every formula of the study that jumps, or may jump, inside cells of the start design's mesh."""
    nodes = setup.shape_map.nodes(setup.initial)
    mesh = setup.shape_map.mesh.moved(nodes.numpy())
    found = []
    for key, expression, tags in _formulas(setup):
        for comparison in expression.comparisons:
            where = _where(mesh, expression, comparison, tags)
            if where:
                found.append(
                    f"{setup.study.location(key)}: {key}: '{expression.text}' jumps at {comparison.text}, {where}."
                    " Quadrature loses its order there, and shape derivatives do not see the jump move through the"
                    " cells. Let a boundary follow it, or smooth it, for example by tanh"
                )
    return found


def _formulas(setup: Setup) -> Iterator[tuple[str, Expression, tuple[str, ...] | None]]:
    """Key, formula and boundary regions (None: inside) of all that the study gives; it has been checked before."""
    model = setup.study.model.physics
    names = (*setup.problem.physics.quantities, *setup.problem.parameters)
    given: list[tuple[str, float | str | Callable[..., Any], tuple[str, ...] | None]]
    given = [(f"physics.coefficients.{name}", value, None) for name, value in model.coefficients.items()]
    sections: list[tuple[str, Physics | LoadCase]]
    sections = [("physics", model), *((f"physics.cases.{name}", case) for name, case in model.cases.items())]
    for section, entry in sections:
        source = entry.source if isinstance(entry.source, dict) else {"": entry.source}
        given += [(f"{section}.source.{component}".rstrip("."), value, None) for component, value in source.items()]
        for kind in ("dirichlet", "natural"):
            for index, condition in enumerate(getattr(entry, kind)):
                key = f"{section}.{kind}.{index}"
                given += [(f"{key}.{name}", value, condition.tags) for name, value in condition.values.items()]
    for key, integral in own_integrals(setup.study):
        given.append((f"{key}.integrand", integral.integrand, None if integral.on is None else (integral.on,)))
    for key, value, tags in given:
        if callable(value):  # what a Python function does is not known
            continue
        yield key, parse(value, names, key), tags


def _where(mesh: Mesh, formula: Expression, comparison: Comparison, tags: tuple[str, ...] | None) -> str:
    """In words, where the formula jumps inside cells or facets; an empty text where it does not."""
    chosen = mesh.cells if tags is None else np.concatenate([mesh.facets_on(tag) for tag in tags])
    points = torch.from_numpy(mesh.nodes)[torch.from_numpy(chosen)]
    what = "cells" if tags is None else f"facets on {', '.join(tags)}"
    if not _changes(formula, comparison, points.flatten(0, 1)):
        return ""
    axes = coordinates(mesh.dimension)
    if not comparison.names <= set(axes):
        return f"which may be inside {what} and moves with the solution"
    difference = torch.as_tensor(comparison(torch, dict(zip(axes, points.unbind(-1), strict=True))))
    slack = 1e-9 * difference.abs().max()
    cut = int(((difference.amin(-1) < -slack) & (difference.amax(-1) > slack)).sum())
    return f"inside {cut} {what}" if cut else ""


def _changes(formula: Expression, comparison: Comparison, points: Tensor) -> bool:
    """Whether the formula takes other values on one side of the comparison than on the other, close by.

    Random points among ``points`` (S, 2), with random values of all that is no coordinate, are drawn in pairs; between
    those on different sides the change is bracketed by bisection.
    """
    generator = torch.Generator().manual_seed(0)
    axes = coordinates(points.shape[-1])
    names = sorted(formula.names - set(axes))
    ends = []
    for _ in range(2):
        base = points[torch.randint(len(points), (PAIRS,), generator=generator)]
        size = 10 ** (4 * torch.rand(PAIRS, len(names), generator=generator, dtype=torch.float64) - 2)
        others = size * torch.randn(PAIRS, len(names), generator=generator, dtype=torch.float64)
        ends.append(torch.cat([base, others], -1))

    def at(values: Tensor) -> dict[str, Tensor]:
        return dict(zip((*axes, *names), values.unbind(-1), strict=True))

    def side(values: Tensor) -> Tensor:
        return torch.as_tensor(comparison(torch, at(values)), dtype=torch.float64).expand(len(values)) > 0

    apart = side(ends[0]) != side(ends[1])
    if not apart.any():
        return False
    below, above = (end[apart] for end in ends)
    first = side(below)
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        same = (side(middle) == first)[:, None]
        below, above = torch.where(same, middle, below), torch.where(same, above, middle)
    values = [torch.as_tensor(formula(torch, at(end)), dtype=torch.float64) for end in (below, above)]
    change, sizes = (values[1] - values[0]).abs(), torch.maximum(values[0].abs(), values[1].abs())
    known = torch.isfinite(change)
    return bool((change[known] > SMALLEST_JUMP * sizes[known]).any())
