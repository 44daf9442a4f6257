"""Creeping flow, and what all incompressible flows share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.interval import POSITIVE
from shapewright.geometries.fields.problem import (
    Coefficient,
    Derived,
    Field,
    Function,
    Functional,
    Physics,
    power_of_length,
)
from shapewright.geometries.fields.vectors import Quantities, Space, Vector, dot, squared_norm, values
from shapewright.solvers.physics.poisson import size

VISCOSITY = Coefficient("viscosity", 1.0, "Pa s", "dynamic viscosity", POSITIVE)


@dataclass(frozen=True)
class Flow(Space):
    """Formulas of a viscous incompressible flow with velocity and pressure."""

    @property
    def velocity(self) -> tuple[str, ...]:
        """Names of the components of the velocity."""
        return names.vector(self.dimension)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Velocity and pressure in Taylor and Hood's elements."""
        return (
            Field("velocity", self.velocity, 2, "length/s", "velocity of the fluid"),
            Field("pressure", ("p",), 1, "Pa", "pressure relative to a free outlet"),
        )

    def flux(self, ops: Any, q: Quantities) -> dict[str, Vector]:
        """viscosity grad velocity - p I; no traction is prescribed at an outlet that is left free."""
        nu, p, slopes = q["viscosity"], q["p"], self.jacobian(q, self.velocity)
        return {
            c: tuple(nu * slope - p if i == j else nu * slope for j, slope in enumerate(slopes[i]))
            for i, c in enumerate(self.velocity)
        }

    def traction(self, ops: Any, q: Quantities) -> dict[str, Vector]:
        """The stress viscosity (grad velocity + its transpose) - p I.

        It has the divergence of ``flux`` for a constant viscosity and div velocity = 0; on a wall it is the force.
        """
        nu, p, slopes = q["viscosity"], q["p"], self.jacobian(q, self.velocity)
        return {
            c: tuple(2 * nu * slopes[i][i] - p if i == j else nu * (slopes[i][j] + slopes[j][i]) for j in self.axes)
            for i, c in enumerate(self.velocity)
        }

    def through(self, ops: Any, q: Quantities) -> Any:
        """velocity . n."""
        return dot(values(q, self.velocity), self.normal(q))

    def drag(self, ops: Any, q: Quantities) -> Any:
        """First component of the traction of the fluid on what lies behind the boundary, -(flux . n)."""
        n, along = self.normal(q), self.velocity[0]
        return q["p"] * n[0] - q["viscosity"] * dot(self.grad(q, along), n)

    @property
    def depth(self) -> str:
        """What the description of a force or power in the plane adds."""
        return " per unit depth" if self.dimension == 2 else ""

    @property
    def functionals(self) -> tuple[Functional, ...]:
        """Dissipation, and power and pressure at a boundary region such as the inlet."""
        power = power_of_length(self.dimension, "Pa") + "/s"
        return (
            Functional(
                "dissipation",
                lambda ops, q: q["viscosity"] * squared_norm(self.jacobian(q, self.velocity)),
                power,
                f"power dissipated{self.depth}, int viscosity |grad velocity|^2",
            ),
            Functional(
                "pumping_power",
                lambda ops, q: -q["p"] * self.through(ops, q),
                power,
                f"power of the pressure into the domain through a boundary region{self.depth}",
                region_as="on",
            ),
            Functional(
                "inlet_pressure",
                lambda ops, q: q["p"],
                self.force_unit,
                "int p over a boundary region",
                region_as="on",
            ),
        )

    @property
    def force_unit(self) -> str:
        """Of a force, in the plane per unit depth."""
        return power_of_length(self.dimension - 1, "Pa")

    @property
    def derived(self) -> tuple[Derived, ...]:
        """The vorticity: a scalar in the plane, a vector in space."""

        def turning(i: int, j: int) -> Function:
            """d velocity_j / d x_i - d velocity_i / d x_j."""
            return lambda ops, q: self.grad(q, self.velocity[j])[i] - self.grad(q, self.velocity[i])[j]

        if self.dimension == 2:
            return (Derived("vorticity", turning(0, 1), "1/s", "vorticity"),)
        along = zip(names.derivatives("vorticity", 3), ((1, 2), (2, 0), (0, 1)), names.coordinates(3), strict=True)
        return tuple(Derived(name, turning(*ij), "1/s", f"vorticity about {x}") for name, ij, x in along)

    def physics(self, **given: Any) -> Physics:
        """A physics with this flow's fields, flux, traction and derived quantities, and what is given."""
        return Physics(
            fields=self.fields,
            flux=self.flux,
            through={"p": self.through},
            traction=self.traction,
            derived=self.derived,
            dimension=self.dimension,
            **given,
        )

    def divergence(self, ops: Any, q: Quantities) -> Any:
        """div velocity."""
        return self.div(q, self.velocity)


def stokes(dimension: int = 2) -> Physics:
    """Creeping flow."""
    flow = Flow(dimension)
    return flow.physics(
        name="stokes",
        description="creeping flow: div(viscosity grad velocity - p I) = 0, div velocity = 0; outlet free",
        coefficients=(VISCOSITY,),
        source=lambda ops, q: {"p": flow.divergence(ops, q)},
        functionals=(
            *flow.functionals,
            Functional(
                "drag",
                flow.drag,
                flow.force_unit,
                f"force of the fluid on what lies behind a boundary region along x{flow.depth}",
                region_as="on",
            ),
            size(dimension, "fluid domain"),
        ),
    )
