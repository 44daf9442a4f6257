"""The one evaluator of the named quantities of a formula, for torch and for UFL.

Names are those of :mod:`fields.names`. Whatever has to be computed is computed when a formula first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Function, Problem, ProblemError
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints


class UnknownQuantity(ProblemError, KeyError):
    """A formula asks for a quantity that is not known where it is evaluated; the message lists those that are."""

    __str__ = ValueError.__str__


@dataclass(frozen=True)
class FieldSpace:
    """What formulas may ask for beside coordinates.

    Attributes:
        components: of the fields, in their order.
        coefficients: all of the physics.
        sources: component -> function; 0 for a component without one.
        parameters: of the problem, with their values.
    """

    components: tuple[str, ...]
    coefficients: Mapping[str, Function]
    sources: Mapping[str, Function] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """A scalar field at the points.

    Attributes:
        value: gives its values.
        gradient: gives its d first derivatives.
    """

    value: Callable[[], Any]
    gradient: Callable[[], Sequence[Any]]


class Quantities(Mapping[str, Any]):
    """Name -> value of every quantity at some points.

    Args:
        ops: elementary functions that the formulas of the space are given.
        space: coefficients, sources and parameters.
        coordinates: of the points.
        fields: by name; components of the space, and the lifting where there is one.
        normal: outward unit normal; empty inside the domain.
    """

    def __init__(
        self,
        ops: Any,
        space: FieldSpace,
        coordinates: Sequence[Any],
        fields: Mapping[str, Component],
        normal: Sequence[Any] = (),
    ) -> None:
        dimension = len(coordinates)
        self._ops, self._fields = ops, fields
        axes, across = names.coordinates(dimension), names.normal(len(normal))
        self._known = dict(zip((*axes, *across), (*coordinates, *normal), strict=True)) | dict(space.parameters)
        self._functions = dict(space.coefficients) | {
            names.source(component): space.sources.get(component, constant(0.0)) for component in space.components
        }
        self._owner = {slope: name for name in fields for slope in names.derivatives(name, dimension)}
        derived = [name for field in fields for name in (field, *names.derivatives(field, dimension))]
        self._names = dict.fromkeys([*axes, *derived, *space.parameters, *self._functions, *across])
        self._open: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._evaluate(name)
        return self._known[name]

    def _evaluate(self, name: str) -> None:
        if name in self._functions:
            self._known[name] = self._formula(name)
        elif name in self._fields:
            self._known[name] = self._fields[name].value()
        elif name in self._owner:
            field = self._owner[name]
            slopes = self._fields[field].gradient()
            self._known |= zip(names.derivatives(field, len(slopes)), slopes, strict=True)
        else:
            raise UnknownQuantity(f"unknown quantity '{name}'; known here are {', '.join(self._names)}")

    def _formula(self, name: str) -> Any:
        if name in self._open:
            raise ProblemError(f"the quantity '{name}' depends on itself: {' -> '.join([*self._open, name])}")
        self._open.append(name)
        try:
            return self._functions[name](self._ops, self)
        finally:
            self._open.pop()


def constant(value: float) -> Function:
    """The formula that is ``value`` everywhere."""
    return partial(_constant, value)


def _constant(value: float, ops: Any, q: Mapping[str, Any]) -> float:
    return value


def field_space(problem: Problem, parameters: Mapping[str, Any] | None = None) -> FieldSpace:
    """Of a problem, with its coefficients' and parameters' defaults where nothing is given."""
    coefficients = {c.name: problem.coefficients.get(c.name, constant(c.default)) for c in problem.physics.coefficients}
    given = problem.parameters if parameters is None else parameters
    return FieldSpace(problem.physics.components, coefficients, problem.sources, given)


def positions(points: Tensor) -> dict[str, Tensor]:
    """The coordinates of points (..., d) by name."""
    return dict(zip(names.coordinates(points.shape[-1]), points.unbind(-1), strict=True))


def nodal_quantities(
    space: FieldSpace, quadrature: CellPoints | FacetPoints, nodal: Mapping[str, Tensor]
) -> Quantities:
    """Quantities at quadrature points, from nodal values (..., N) of every field."""
    fields = {
        name: Component(partial(quadrature.interpolate, values), partial(_nodal_gradient, quadrature, values))
        for name, values in nodal.items()
    }
    normal = quadrature.normals.unbind(-1) if isinstance(quadrature, FacetPoints) else ()
    return Quantities(torch, space, quadrature.points.unbind(-1), fields, normal)


def _nodal_gradient(quadrature: CellPoints | FacetPoints, values: Tensor) -> tuple[Tensor, ...]:
    return quadrature.gradient(values).unbind(-1)
