"""Creeping flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapewright.geometries.fields.interval import POSITIVE
from shapewright.geometries.fields.problem import Coefficient, Derived, Field, Functional, Physics

Quantities = Mapping[str, Any]


def viscous_flux(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    """viscosity grad velocity - p I; no traction is prescribed at an outlet that is left free."""
    nu, p = q["viscosity"], q["p"]
    return {"u": (nu * q["u_x"] - p, nu * q["u_y"]), "v": (nu * q["v_x"], nu * q["v_y"] - p)}


def traction(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    """The stress viscosity (grad velocity + its transpose) - p I.

    It has the divergence of ``viscous_flux`` for a constant viscosity and div velocity = 0; on a wall it is the force.
    """
    nu, p = q["viscosity"], q["p"]
    shear = nu * (q["u_y"] + q["v_x"])
    return {"u": (2 * nu * q["u_x"] - p, shear), "v": (shear, 2 * nu * q["v_y"] - p)}


def _drag(ops: Any, q: Quantities) -> Any:
    """x-component of the traction of the fluid on what lies behind the boundary, -(flux_u . n)."""
    return q["p"] * q["nx"] - q["viscosity"] * (q["u_x"] * q["nx"] + q["u_y"] * q["ny"])


FLOW_FIELDS = (
    Field("velocity", ("u", "v"), 2, "length/s", "velocity of the fluid"),
    Field("pressure", ("p",), 1, "Pa", "pressure relative to a free outlet"),
)
FLOW_FUNCTIONALS = (
    Functional(
        "dissipation",
        lambda ops, q: q["viscosity"] * (q["u_x"] ** 2 + q["u_y"] ** 2 + q["v_x"] ** 2 + q["v_y"] ** 2),
        "Pa length^2/s",
        "power dissipated per unit depth, int viscosity |grad velocity|^2",
    ),
    Functional(
        "pumping_power",
        lambda ops, q: -q["p"] * (q["u"] * q["nx"] + q["v"] * q["ny"]),
        "Pa length^2/s",
        "power of the pressure through the inlet per unit depth",
        on="inlet",
    ),
    Functional("inlet_pressure", lambda ops, q: q["p"], "Pa length", "int p over the inlet", on="inlet"),
)
FLOW_DERIVED = (Derived("vorticity", lambda ops, q: q["v_x"] - q["u_y"], "1/s", "vorticity"),)
FLOW_THROUGH = {"p": lambda ops, q: q["u"] * q["nx"] + q["v"] * q["ny"]}
FLOW_AREA = Functional("area", lambda ops, q: 1.0, "length^2", "area of the fluid domain")

STOKES = Physics(
    name="stokes",
    description="creeping flow: div(viscosity grad velocity - p I) = 0, div velocity = 0; outlet free",
    fields=FLOW_FIELDS,
    coefficients=(Coefficient("viscosity", 1.0, "Pa s", "dynamic viscosity", POSITIVE),),
    flux=viscous_flux,
    source=lambda ops, q: {"p": q["u_x"] + q["v_y"]},
    functionals=(
        *FLOW_FUNCTIONALS,
        Functional("drag", _drag, "Pa length", "force of the fluid on the body along x per unit depth", on="body"),
        FLOW_AREA,
    ),
    through=FLOW_THROUGH,
    traction=traction,
    derived=FLOW_DERIVED,
)
