"""Forces through a boundary region by the weak form: no derivative is taken on the boundary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Function
from shapewright.geometries.fields.vectors import Quantities, Vector, dot, values


def reaction(
    flux: Callable[[Any, Quantities], Mapping[str, Vector]],
    source: Callable[[Any, Quantities], Mapping[str, Any]],
    component: str,
) -> Function:
    """Integrand of int flux . grad phi - source phi = int_tag flux . n for a functional with ``lifting`` tag.

    The lifting phi is 1 on the region and 0 at all other nodes, corners being part of the region. The value
    is the residual of the discrete equations that the boundary values replace, which converges at twice the order of
    the flux integrated along the boundary. V. John, G. Matthies, Int. J. Numer. Meth. Fluids 37 (2001) 885.
    Prescribed fluxes on the region or at its ends are part of it.

    Args:
        flux, source: of the physics.
        component: whose equation is summed.
    """

    def integrand(ops: Any, q: Quantities) -> Any:
        through = flux(ops, q)[component]
        produced = source(ops, q).get(component, 0.0) + q[names.source(component)]
        slope = values(q, names.derivatives(names.LIFTING, len(through)))
        return dot(through, slope) - produced * q[names.LIFTING]

    return integrand
