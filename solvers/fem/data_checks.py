"""The data of a problem at points of its mesh: coefficients outside their admissible values, and what is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.fields import names
from shapewright.geometries.fields.admissible import Excess, excess
from shapewright.geometries.fields.interval import ANY_NUMBER
from shapewright.geometries.fields.problem import Function, Problem
from shapewright.geometries.fields.quantities import positions
from shapewright.geometries.fields.sampled import sample_quantities
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints, cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.errors import SolveError

Array = NDArray[np.float64]


def excesses(problem: Problem, mesh: Mesh, nodes: Array, parameters: Mapping[str, float]) -> Iterator[Excess]:
    """Coefficients that are not admissible somewhere at the quadrature points of the cells.

    Those that depend on the fields are left out: see :func:`check_coefficients`.
    """
    here: dict[str, Any] = {}
    for coefficient in problem.physics.coefficients:
        given = problem.coefficients.get(coefficient.name)
        if given is None:
            continue
        try:
            value = _value(given, parameters)
        except KeyError:  # no constant
            if not here:
                points = cell_points(mesh, torch.from_numpy(nodes)).points
                here = positions(points) | dict(parameters)
            try:
                value = _value(given, here)
            except KeyError:  # it depends on the fields
                continue
        found = excess(coefficient.name, coefficient.allowed, value, here)
        if found is not None:
            yield found


def check_coefficients(
    problem: Problem,
    mesh: Mesh,
    nodes: Array,
    components: Mapping[str, Array],
    parameters: Mapping[str, float],
) -> None:
    """Refuse a solution at which a coefficient that depends on the fields is not admissible; components (N,) each."""
    by_fields = [c for c in problem.physics.coefficients if _depends_on_fields(problem, c.name, parameters)]
    if not by_fields:
        return
    q = sample_quantities(problem, cell_points(mesh, torch.from_numpy(nodes)), components, parameters)
    for coefficient in by_fields:
        found = excess(coefficient.name, coefficient.allowed, q[coefficient.name], q)
        if found is not None:
            raise SolveError(refusal(found))


def refusal(found: Excess) -> str:
    """Message about a coefficient."""
    return f"the coefficient '{found.name}' is {found.found}; allowed is {found.allowed}"


def not_finite(
    problem: Problem,
    mesh: Mesh,
    nodes: Array,
    components: Mapping[str, Array],
    parameters: Mapping[str, float],
) -> str:
    """Which coefficients, sources and boundary fluxes are not finite where; empty if none is found to be."""
    inside = cell_points(mesh, torch.from_numpy(nodes))
    q = sample_quantities(problem, inside, components, parameters)
    found = [_blame(f"the coefficient '{name}'", q[name], inside) for name in problem.coefficients]
    found += [_blame(f"the source of '{c}'", q[names.source(c)], inside) for c in problem.sources]
    for natural in problem.natural:
        points = facet_points(mesh, torch.from_numpy(nodes), natural.tag)
        value = natural.value(torch, sample_quantities(problem, points, components, parameters))
        found.append(_blame(f"the boundary flux of '{natural.component}' on '{natural.tag}'", value, points))
    return "; ".join(filter(None, found))


def _value(function: Function, q: Mapping[str, Any]) -> Any:
    """Of a formula; not a number where plain numbers overflow or leave its domain."""
    try:
        return function(torch, q)
    except (ArithmeticError, ValueError):
        return float("nan")


def _blame(what: str, value: Any, points: CellPoints | FacetPoints) -> str:
    found = excess(what, ANY_NUMBER, value, positions(points.points))
    return "" if found is None else f"{what} is {found.found}"


def _depends_on_fields(problem: Problem, name: str, parameters: Mapping[str, float]) -> bool:
    given = problem.coefficients.get(name)
    if given is None:
        return False
    origin = torch.zeros(problem.physics.dimension, dtype=torch.float64)
    try:
        _value(given, positions(origin) | dict(parameters))
    except KeyError:
        return True
    return False
