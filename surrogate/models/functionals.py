"""Functionals of predicted fields, by the same integrand as the finite-element solver evaluates.

An integrand is ``f(ops, q)`` of the quantities of :mod:`geometries.fields.quantities`; ``ops`` is torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Function
from shapewright.geometries.fields.quantities import FieldSpace, nodal_quantities
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh


class Functional(Protocol):
    """The same object that the finite-element solver takes.

    Attributes:
        name: of the functional.
        integrand: ``f(ops, q)``.
        on: boundary region that is integrated over; None for the whole domain.
        outer: ``f(ops, integral)``, the functional as a function of the integral; None for the integral itself.
        lifting: boundary region at whose nodes the quadratic function ``lifting`` is 1, and 0 at all others; or None.
    """

    @property
    def name(self) -> str: ...
    @property
    def integrand(self) -> Function: ...
    @property
    def on(self) -> str | None: ...
    @property
    def outer(self) -> Function | None: ...
    @property
    def lifting(self) -> str | None: ...


def integrate(functional: Functional, space: FieldSpace, mesh: Mesh, nodes: Tensor, fields: Tensor) -> Tensor:
    """(B,) values of a functional for nodes (B, N, d) and nodal fields (B, N, c).

    One with an outer function is evaluated in double precision, whose range powers and exponentials need, and by a
    rule of four points a side, as the finite-element solver evaluates it.

    Raises:
        KeyError: the integrand asks for an unknown quantity, or there is no such region.
    """
    if functional.outer is None:
        return _integral(functional, space, mesh, nodes, fields, 3)
    integral = _integral(functional, space, mesh, nodes.double(), fields.double(), 4)
    return functional.outer(torch, integral).to(fields)


def _integral(
    functional: Functional, space: FieldSpace, mesh: Mesh, nodes: Tensor, fields: Tensor, side: int
) -> Tensor:
    on = functional.on
    quadrature = cell_points(mesh, nodes, side) if on is None else facet_points(mesh, nodes, on, side)
    nodal = dict(zip(space.components, fields.unbind(-1), strict=True))
    if functional.lifting is not None:
        region = constant(mesh.facets_on(functional.lifting), nodes, torch.int64)
        nodal[names.LIFTING] = nodes.new_zeros(nodes.shape[-2]).index_fill(0, region.flatten(), 1.0)
    density = functional.integrand(torch, nodal_quantities(space, quadrature, nodal))
    return (density * quadrature.weights).flatten(1).sum(-1)


def integrate_all(
    functionals: Sequence[Functional], space: FieldSpace, mesh: Mesh, nodes: Tensor, fields: Tensor
) -> Tensor:
    """(B, J) values of several functionals."""
    return torch.stack([integrate(functional, space, mesh, nodes, fields) for functional in functionals], -1)
