"""The quantities that a formula may ask for, at points where fields and their derivatives are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from shapewright.surrogate.mgno.query_derivatives import FieldDerivatives

Function = Callable[[Any, Mapping[str, Any]], Any]


class Named(Protocol):
    """A named thing."""

    @property
    def name(self) -> str: ...


class Equations(Protocol):
    """div(flux) + source = 0, component by component; the same object that the finite-element solver takes."""

    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def flux(self) -> Callable[[Any, Mapping[str, Any]], Mapping[str, tuple[Any, Any]]]: ...
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
        coefficients: all of them, in an order in which each depends on earlier ones only.
        sources: component -> function, added to the source of the physics.
        dirichlet: prescribed values.
        judged: number of leading components, those of the first field, by which solutions are compared.
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
) -> dict[str, Any]:
    """Coordinates, components, first derivatives, numbers of the instance, coefficients and sources by name.

    Args:
        data: the problem.
        points: (B, Q, 2).
        fields: (B, Q, c) and derivatives.
        numbers: name -> (B,).
    """
    q: dict[str, Any] = {"x": points[..., 0], "y": points[..., 1]}
    q |= {name: values[:, None] for name, values in parameters.items()}
    for index, name in enumerate(data.components):
        q[name] = fields.values[..., index]
        q[f"{name}_x"], q[f"{name}_y"] = fields.gradients[..., index, :].unbind(-1)
    for name, function in data.coefficients.items():
        q[name] = function(torch, q)
    for name in data.components:
        q[f"source_{name}"] = data.sources[name](torch, q) if name in data.sources else 0.0
    return q


def at_points(function: Function, points: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """(B, Q) values of a function of place and numbers at points (B, Q, 2)."""
    q = {"x": points[..., 0], "y": points[..., 1]} | {name: values[:, None] for name, values in parameters.items()}
    value = function(torch, q)
    return torch.as_tensor(value, dtype=points.dtype, device=points.device).expand(points.shape[:-1])
