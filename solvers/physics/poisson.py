"""Poisson's equation with a given conductivity, and with one that depends on the solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapewright.geometries.fields.interval import NOT_NEGATIVE, POSITIVE
from shapewright.geometries.fields.problem import Coefficient, Field, Functional, Physics

Quantities = Mapping[str, Any]


def _conduction(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    k = q["conductivity"]
    return {"u": (k * q["u_x"], k * q["u_y"])}


def _conduction_energy(ops: Any, q: Quantities) -> Any:
    return q["conductivity"] * (q["u_x"] ** 2 + q["u_y"] ** 2) / 2 - q["source_u"] * q["u"]


def _nonlinear_conductivity(q: Quantities) -> Any:
    return 1 + q["nonlinearity"] * q["u"] ** 2


def _nonlinear_conduction(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    k = _nonlinear_conductivity(q)
    return {"u": (k * q["u_x"], k * q["u_y"])}


def _kirchhoff_energy(ops: Any, q: Quantities) -> Any:
    """1/2 |grad A|^2 - source A with Kirchhoff's A(u) = u + nonlinearity u^3 / 3, whose gradient is the flux.

    Its first variation along w is the weak form tested with A'(u) w. The nonlinearity must be constant and the
    source independent of u. H. S. Carslaw, J. C. Jaeger, *Conduction of Heat in Solids*, 2nd ed., section 1.6.
    """
    k, u = _nonlinear_conductivity(q), q["u"]
    potential = u + q["nonlinearity"] * u**3 / 3
    return k**2 * (q["u_x"] ** 2 + q["u_y"] ** 2) / 2 - q["source_u"] * potential


_AREA = Functional("area", lambda ops, q: 1.0, "length^2", "area of the domain")

POISSON = Physics(
    name="poisson",
    description="div(conductivity grad u) + source = 0: torsion of a bar, steady heat conduction, a membrane",
    fields=(Field("u", ("u",), 2, "length^2", "Prandtl's stress function; the temperature in conduction"),),
    coefficients=(Coefficient("conductivity", 1.0, "1", "isotropic conductivity k in the flux k grad u", POSITIVE),),
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
        _AREA,
    ),
    energy=_conduction_energy,
)

NONLINEAR_POISSON = Physics(
    name="nonlinear_poisson",
    description="div((1 + nonlinearity u^2) grad u) + source = 0: conduction that grows with the temperature",
    fields=(Field("u", ("u",), 2, "1", "temperature"),),
    coefficients=(Coefficient("nonlinearity", 0.1, "1", "factor of u^2 in the conductivity", NOT_NEGATIVE),),
    flux=_nonlinear_conduction,
    source=lambda ops, q: {},
    functionals=(
        Functional("integral", lambda ops, q: q["u"], "length^2", "int u"),
        Functional(
            "heat_dissipation",
            lambda ops, q: _nonlinear_conductivity(q) * (q["u_x"] ** 2 + q["u_y"] ** 2),
            "1",
            "int (1 + nonlinearity u^2) |grad u|^2",
        ),
        _AREA,
    ),
    energy=_kirchhoff_energy,
)
