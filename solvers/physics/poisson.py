"""Poisson's equation with a given conductivity, and with one that depends on the solution."""

from __future__ import annotations

from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.interval import NOT_NEGATIVE, POSITIVE
from shapewright.geometries.fields.problem import Coefficient, Field, Functional, Physics, power_of_length
from shapewright.geometries.fields.vectors import Quantities, Space, Vector, scaled, squared


def poisson(dimension: int = 2) -> Physics:
    """Steady conduction; in the plane also torsion of a bar and a membrane."""
    space = Space(dimension)

    def flux(ops: Any, q: Quantities) -> dict[str, Vector]:
        return {"u": scaled(q["conductivity"], space.grad(q, "u"))}

    def dissipation(ops: Any, q: Quantities) -> Any:
        return q["conductivity"] * squared(space.grad(q, "u"))

    def energy(ops: Any, q: Quantities) -> Any:
        return dissipation(ops, q) / 2 - q["source_u"] * q["u"]

    torsion = Functional(
        "torsional_constant",
        lambda ops, q: 2 * q["u"],
        "length^4",
        "Saint-Venant's torsional constant 2 int u, for source 2 and u = 0 on the wall",
    )
    unit = power_of_length(2 + dimension)
    return Physics(
        name="poisson",
        description="div(conductivity grad u) + source = 0: torsion of a bar, steady heat conduction, a membrane",
        fields=(Field("u", ("u",), 2, "length^2", "Prandtl's stress function; the temperature in conduction"),),
        coefficients=(
            Coefficient("conductivity", 1.0, "1", "isotropic conductivity k in the flux k grad u", POSITIVE),
        ),
        flux=flux,
        source=lambda ops, q: {},
        functionals=(
            *((torsion,) if dimension == 2 else ()),
            Functional("integral", lambda ops, q: q["u"], unit, "int u"),
            Functional(
                "compliance",
                dissipation,
                unit,
                "int conductivity |grad u|^2, the work of the source where u = 0 on the boundary",
            ),
            size(dimension),
        ),
        energy=energy,
        dimension=dimension,
    )


def nonlinear_poisson(dimension: int = 2) -> Physics:
    """Steady conduction by a conductivity that grows with the temperature."""
    space = Space(dimension)

    def conductivity(q: Quantities) -> Any:
        return 1 + q["nonlinearity"] * q["u"] ** 2

    def flux(ops: Any, q: Quantities) -> dict[str, Vector]:
        return {"u": scaled(conductivity(q), space.grad(q, "u"))}

    def dissipation(ops: Any, q: Quantities) -> Any:
        return conductivity(q) * squared(space.grad(q, "u"))

    def energy(ops: Any, q: Quantities) -> Any:
        """1/2 |grad A|^2 - source A with Kirchhoff's A(u) = u + nonlinearity u^3 / 3, whose gradient is the flux.

        Its first variation along w is the weak form tested with A'(u) w. The nonlinearity must be constant and the
        source independent of u. H. S. Carslaw, J. C. Jaeger, *Conduction of Heat in Solids*, 2nd ed., section 1.6.
        """
        potential = q["u"] + q["nonlinearity"] * q["u"] ** 3 / 3
        return conductivity(q) ** 2 * squared(space.grad(q, "u")) / 2 - q["source_u"] * potential

    return Physics(
        name="nonlinear_poisson",
        description="div((1 + nonlinearity u^2) grad u) + source = 0: conduction that grows with the temperature",
        fields=(Field("u", ("u",), 2, "1", "temperature"),),
        coefficients=(Coefficient("nonlinearity", 0.1, "1", "factor of u^2 in the conductivity", NOT_NEGATIVE),),
        flux=flux,
        source=lambda ops, q: {},
        functionals=(
            Functional("integral", lambda ops, q: q["u"], power_of_length(dimension), "int u"),
            Functional(
                "heat_dissipation",
                dissipation,
                power_of_length(dimension - 2),
                "int (1 + nonlinearity u^2) |grad u|^2",
            ),
            size(dimension),
        ),
        energy=energy,
        dimension=dimension,
    )


def size(dimension: int, of: str = "domain") -> Functional:
    """The area of a planar domain, the volume of a solid."""
    name = names.measure(dimension)
    return Functional(name, lambda ops, q: 1.0, power_of_length(dimension), f"{name} of the {of}")
