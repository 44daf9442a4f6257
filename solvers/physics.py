"""The built-in physics, ``poisson`` and ``stokes``, and the registry ``PHYSICS`` of all of them.

The dataclasses they are made of are importable from here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solvers.problem import (
    Coefficient,
    Dirichlet,
    Field,
    Function,
    Functional,
    Natural,
    Physics,
    Problem,
)

__all__ = [
    "PHYSICS",
    "POISSON",
    "STOKES",
    "Coefficient",
    "Dirichlet",
    "Field",
    "Function",
    "Functional",
    "Natural",
    "Physics",
    "Problem",
]

Quantities = Mapping[str, Any]


def _conduction(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    k = q["conductivity"]
    return {"u": (k * q["u_x"], k * q["u_y"])}


def _stress(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    nu, p = q["viscosity"], q["p"]
    return {"u": (nu * q["u_x"] - p, nu * q["u_y"]), "v": (nu * q["v_x"], nu * q["v_y"] - p)}


def _drag(ops: Any, q: Quantities) -> Any:
    """x-component of the traction of the fluid on what lies behind the boundary, -(flux_u . n)."""
    return q["p"] * q["nx"] - q["viscosity"] * (q["u_x"] * q["nx"] + q["u_y"] * q["ny"])


POISSON = Physics(
    name="poisson",
    description="div(conductivity grad u) + source = 0: torsion of a bar, steady heat conduction, a membrane",
    fields=(Field("u", ("u",), 2, "length^2", "Prandtl's stress function; the temperature in conduction"),),
    coefficients=(Coefficient("conductivity", 1.0, "1", "isotropic conductivity k in the flux k grad u"),),
    flux=_conduction,
    source=lambda ops, q: {},
    functionals=(
        Functional(
            "torsional_constant",
            lambda ops, q: 2 * q["u"],
            "length^4",
            "Saint-Venant's torsional constant 2 int u, for source 2 and u = 0 on the wall",
        ),
        Functional("integral", lambda ops, q: q["u"], "length^4", "int u"),
        Functional(
            "compliance",
            lambda ops, q: q["conductivity"] * (q["u_x"] ** 2 + q["u_y"] ** 2),
            "length^4",
            "int conductivity |grad u|^2, the work of the source where u = 0 on the boundary",
        ),
        Functional("area", lambda ops, q: 1.0, "length^2", "area of the domain"),
    ),
)

STOKES = Physics(
    name="stokes",
    description="creeping flow: div(viscosity grad velocity - p I) = 0, div velocity = 0; outlet free",
    fields=(
        Field("velocity", ("u", "v"), 2, "length/s", "velocity of the fluid"),
        Field("pressure", ("p",), 1, "Pa", "pressure relative to a free outlet"),
    ),
    coefficients=(Coefficient("viscosity", 1.0, "Pa s", "dynamic viscosity"),),
    flux=_stress,
    source=lambda ops, q: {"p": q["u_x"] + q["v_y"]},
    functionals=(
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
        Functional("drag", _drag, "Pa length", "force of the fluid on the body along x per unit depth", on="body"),
        Functional("area", lambda ops, q: 1.0, "length^2", "area of the fluid domain"),
    ),
)

PHYSICS: dict[str, Physics] = {physics.name: physics for physics in (POISSON, STOKES)}
