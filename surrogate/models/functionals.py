"""Functionals of predicted fields, by the same integrand as the finite-element solver evaluates.

An integrand is ``f(ops, q)`` of the quantities of :mod:`geometries.fields.quantities`; ``ops`` is torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Functional
from shapewright.geometries.fields.quantities import FieldSpace, nodal_quantities
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.precision import full_precision


@full_precision
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
