"""Steady incompressible flow."""

from __future__ import annotations

from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.interval import NOT_NEGATIVE
from shapewright.geometries.fields.problem import Coefficient, Functional, Physics
from shapewright.geometries.fields.vectors import Quantities, dot, values
from shapewright.solvers.physics.poisson import size
from shapewright.solvers.physics.reaction import reaction
from shapewright.solvers.physics.stokes import VISCOSITY, Flow

FORCES = ("drag", "lift", "side_force")
"""Names of the force of the fluid on a boundary region along the coordinates."""


def navier_stokes(dimension: int = 2) -> Physics:
    """Steady flow with inertia."""
    flow = Flow(dimension)

    def source(ops: Any, q: Quantities) -> dict[str, Any]:
        """-density (velocity . grad) velocity; for the pressure's equation, the divergence of the velocity."""
        velocity = values(q, flow.velocity)
        convection = {c: -q["density"] * dot(velocity, flow.grad(q, c)) for c in flow.velocity}
        return convection | {"p": flow.divergence(ops, q)}

    def force(name: str, component: str, along: str) -> Functional:
        pulled = reaction(flow.flux, source, component)
        return Functional(
            name,
            lambda ops, q: -pulled(ops, q),
            flow.force_unit,
            f"force of the fluid on what lies behind a boundary region along {along}{flow.depth}, by the weak form",
            region_as="lifting",
        )

    directions = zip(FORCES[:dimension], flow.velocity, names.coordinates(dimension), strict=True)
    return flow.physics(
        name="navier_stokes",
        description=(
            "steady flow: div(viscosity grad velocity - p I) = density (velocity . grad) velocity, div velocity = 0;"
            " outlet free"
        ),
        coefficients=(VISCOSITY, Coefficient("density", 1.0, "Pa s^2/length^2", "mass per volume", NOT_NEGATIVE)),
        source=source,
        functionals=(
            *flow.functionals,
            *(force(*direction) for direction in directions),
            size(dimension, "fluid domain"),
        ),
    )
