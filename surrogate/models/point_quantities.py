"""The quantities that a formula may ask for, at points where fields and their derivatives are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from shapewright.geometries.fields.problem import Dirichlet, Function, Physics
from shapewright.geometries.fields.quantities import Component, FieldSpace, Quantities, positions
from shapewright.surrogate.mgno.derivatives import FieldDerivatives


@dataclass(frozen=True)
class ProblemData:
    """A problem as the surrogate sees it.

    Attributes:
        equations: the physics.
        coefficients: all of them.
        sources: component -> function, added to the source of the physics.
        dirichlet: prescribed values.
        primary: number of leading components, those of the first field, by which solutions are compared.
    """

    equations: Physics
    coefficients: Mapping[str, Function]
    sources: Mapping[str, Function]
    dirichlet: Sequence[Dirichlet]
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
