"""Steady incompressible flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapewright.geometries.fields.interval import NOT_NEGATIVE, POSITIVE
from shapewright.geometries.fields.problem import Coefficient, Function, Functional, Physics
from shapewright.solvers.physics.reaction import reaction
from shapewright.solvers.physics.stokes import (
    FLOW_AREA,
    FLOW_DERIVED,
    FLOW_FIELDS,
    FLOW_FUNCTIONALS,
    FLOW_THROUGH,
    traction,
    viscous_flux,
)

Quantities = Mapping[str, Any]


def _convection(ops: Any, q: Quantities) -> dict[str, Any]:
    """-density (velocity . grad) velocity; for the pressure's equation, the divergence of the velocity."""
    density, u, v = q["density"], q["u"], q["v"]
    return {
        "u": -density * (u * q["u_x"] + v * q["u_y"]),
        "v": -density * (u * q["v_x"] + v * q["v_y"]),
        "p": q["u_x"] + q["v_y"],
    }


def _force_on_body(component: str) -> Function:
    force = reaction(viscous_flux, _convection, component)
    return lambda ops, q: -force(ops, q)


NAVIER_STOKES = Physics(
    name="navier_stokes",
    description=(
        "steady flow: div(viscosity grad velocity - p I) = density (velocity . grad) velocity, div velocity = 0;"
        " outlet free"
    ),
    fields=FLOW_FIELDS,
    coefficients=(
        Coefficient("viscosity", 1.0, "Pa s", "dynamic viscosity", POSITIVE),
        Coefficient("density", 1.0, "Pa s^2/length^2", "mass per volume", NOT_NEGATIVE),
    ),
    flux=viscous_flux,
    source=_convection,
    functionals=(
        *FLOW_FUNCTIONALS,
        Functional(
            "drag",
            _force_on_body("u"),
            "Pa length",
            "force of the fluid on the body along x per unit depth, by the weak form",
            lifting="body",
        ),
        Functional(
            "lift",
            _force_on_body("v"),
            "Pa length",
            "force of the fluid on the body along y per unit depth, by the weak form",
            lifting="body",
        ),
        FLOW_AREA,
    ),
    through=FLOW_THROUGH,
    traction=traction,
    derived=FLOW_DERIVED,
)
