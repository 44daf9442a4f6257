"""The quantities that a formula may ask for, at points where fields and their derivatives are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from shapewright.geometries.fields.problem import Function
from shapewright.geometries.fields.quantities import Component, FieldSpace, Quantities, positions
from shapewright.surrogate.mgno.query_derivatives import FieldDerivatives


class Equations(Protocol):
    """div(flux) + source = 0, component by component; the same object that the finite-element solver takes."""

    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def dimension(self) -> int: ...
    @property
    def flux(self) -> Callable[[Any, Mapping[str, Any]], Mapping[str, tuple[Any, ...]]]: ...
    @property
    def source(self) -> Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]: ...
    @property
    def energy(self) -> Function | None: ...
    @property
    def admissible(self) -> Function | None: ...


class Condition(Protocol):
    """``component`` = ``value(ops, q)`` on the boundary region ``tag``."""

    @property
    def component(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def value(self) -> Function: ...


@dataclass(frozen=True)
class ProblemData:
    """A problem as the surrogate sees it.

    Attributes:
        equations: of the physics.
        coefficients: all of them.
        sources: component -> function, added to the source of the physics.
        dirichlet: prescribed values.
        primary: number of leading components, those of the first field, by which solutions are compared.
    """

    equations: Equations
    coefficients: Mapping[str, Function]
    sources: Mapping[str, Function]
    dirichlet: Sequence[Condition]
    primary: int

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the field components."""
        return self.equations.components


def quantities(
    data: ProblemData, points: Tensor, fields: FieldDerivatives, parameters: Mapping[str, Tensor]
) -> Quantities:
    """Quantities where the fields and their derivatives are known.

    Args:
        data: the problem.
        points: (B, Q, d).
        fields: (B, Q, c) and derivatives.
        parameters: name -> (B,).
    """
    by_point = {name: values[:, None] for name, values in parameters.items()}
    space = FieldSpace(data.components, data.coefficients, data.sources, by_point)
    known = {
        name: Component(partial(_component, fields.values, index), partial(_slopes, fields.gradients, index))
        for index, name in enumerate(data.components)
    }
    return Quantities(torch, space, points.unbind(-1), known)


def _component(values: Tensor, index: int) -> Tensor:
    return values[..., index]


def _slopes(gradients: Tensor, index: int) -> tuple[Tensor, ...]:
    return gradients[..., index, :].unbind(-1)


def at_points(function: Function, points: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """(B, Q) values of a function of the coordinates and parameters at points (B, Q, d)."""
    q = positions(points) | {name: values[:, None] for name, values in parameters.items()}
    value = function(torch, q)
    return torch.as_tensor(value, dtype=points.dtype, device=points.device).expand(points.shape[:-1])
