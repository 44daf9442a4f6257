"""Prescribed values at the boundary nodes, and how they change when the nodes move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Dirichlet, Function, Pin, ProblemError
from shapewright.solvers.fem.discretization import Discretization

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class BoundaryValues:
    """The constrained dofs of a discretization.

    Attributes:
        dofs: (D,) constrained dofs, each once.
        nodes: (D,) mesh nodes they sit at.
        functions: the distinct value functions, with the rows of ``dofs`` that each of them sets.
    """

    dofs: Index
    nodes: Index
    functions: tuple[tuple[Dirichlet, Index], ...]

    def evaluate(self, nodes: Array, parameters: Mapping[str, float]) -> tuple[Array, Array]:
        """(D,) values at node positions (N, d) and (D, d) their gradients, for values of the parameters.

        Raises ProblemError where a value is not finite.
        """
        values, gradients = np.zeros(len(self.dofs)), np.zeros((len(self.dofs), nodes.shape[1]))
        for condition, rows in self.functions:
            values[rows], gradients[rows] = _value_and_gradient(
                condition.value, nodes[self.nodes[rows]], parameters
            )
            if not (np.isfinite(values[rows]).all() and np.isfinite(gradients[rows]).all()):
                where = f"'{condition.component}' on '{condition.tag}'"
                raise ProblemError(f"the boundary value of {where} or its gradient is not finite")
        return values, gradients


def boundary_values(
    conditions: tuple[Dirichlet, ...], pins: tuple[Pin, ...], discretization: Discretization
) -> BoundaryValues:
    """Collect the constrained dofs; a dof that two conditions share belongs to the later one, to pins last."""
    located = [(c, *discretization.boundary_dofs(c.component, c.tag)) for c in conditions]
    located += [_pinned(pin, discretization) for pin in pins]
    owner = np.full(discretization.dofs, -1)
    node_of = np.zeros(discretization.dofs, dtype=np.int64)
    for k, (_, dofs, nodes) in enumerate(located):
        owner[dofs], node_of[dofs] = k, nodes
    dofs = np.flatnonzero(owner >= 0)
    functions = tuple((condition, np.flatnonzero(owner[dofs] == k)) for k, (condition, *_) in enumerate(located))
    return BoundaryValues(dofs, node_of[dofs], functions)


def _pinned(pin: Pin, discretization: Discretization) -> tuple[Dirichlet, Index, Index]:
    """The one dof and node of a pin, with the value zero."""
    dofs, nodes = discretization.boundary_dofs(pin.component, pin.tag)
    first = np.lexsort(discretization.tagged.nodes[nodes].T[::-1])[:1]
    return Dirichlet(pin.component, pin.tag, lambda ops, q: 0.0), dofs[first], nodes[first]


def _value_and_gradient(
    function: Function, points: Array, parameters: Mapping[str, float]
) -> tuple[Array, Array]:
    at = [torch.tensor(column, requires_grad=True) for column in points.T]
    with torch.enable_grad():
        value = function(torch, dict(zip(names.coordinates(len(at)), at, strict=True)) | dict(parameters))
    if not isinstance(value, torch.Tensor):
        return np.full(len(points), float(value)), np.zeros_like(points)
    if not value.requires_grad:
        return np.broadcast_to(value.detach().numpy(), len(points)), np.zeros_like(points)
    slopes = torch.autograd.grad(value.sum(), at, allow_unused=True)
    columns = [np.zeros(len(points)) if slope is None else slope.numpy() for slope in slopes]
    return value.detach().numpy(), np.stack(columns, -1)
