"""Large deformation of a nearly incompressible solid, in the undeformed configuration."""

from __future__ import annotations

from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.interval import POSITIVE, Interval
from shapewright.geometries.fields.problem import Coefficient, Field, Functional, Physics, power_of_length
from shapewright.geometries.fields.vectors import (
    Quantities,
    Space,
    Tensor2,
    Vector,
    cofactor,
    determinant,
    dot,
    squared_norm,
)
from shapewright.solvers.physics.elasticity import stress_quantities
from shapewright.solvers.physics.poisson import size
from shapewright.solvers.physics.reaction import reaction


class _Solid(Space):
    """Formulas of a neo-Hookean solid: psi = mu/2 (I_C J^(-2/d) - d) + kappa/2 (J - 1)^2 in d dimensions.

    J. Bonet, R. D. Wood, *Nonlinear Continuum Mechanics for Finite Element Analysis*, 2nd ed., section 6.5.
    """

    @property
    def displacement(self) -> tuple[str, ...]:
        """Names of its components."""
        return names.vector(self.dimension)

    def moduli(self, q: Quantities) -> tuple[Any, Any]:
        """Shear modulus mu and bulk modulus kappa."""
        e, nu = q["youngs_modulus"], q["poisson_ratio"]
        return e / (2 * (1 + nu)), e / (3 * (1 - 2 * nu))

    def deformation(self, q: Quantities) -> Tensor2:
        """Deformation gradient F = I + grad displacement."""
        gradient = self.jacobian(q, self.displacement)
        return tuple(tuple(1 + x if i == j else x for j, x in enumerate(row)) for i, row in enumerate(gradient))

    def volume_ratio(self, ops: Any, q: Quantities) -> Any:
        """J = det F."""
        return determinant(self.deformation(q))

    def shear_volume(self, j: Any) -> Any:
        """J^(2/d), by which the stretches without change of volume divide I_C = tr(F^T F)."""
        return j if self.dimension == 2 else j ** (2 / self.dimension)

    def strain_energy(self, ops: Any, q: Quantities) -> Any:
        """psi."""
        (mu, kappa), f, j = self.moduli(q), self.deformation(q), self.volume_ratio(ops, q)
        return mu / 2 * (squared_norm(f) / self.shear_volume(j) - self.dimension) + kappa / 2 * (j - 1) ** 2

    def first_piola_kirchhoff(self, ops: Any, q: Quantities) -> dict[str, Vector]:
        """P = d psi / d F = mu J^(-2/d) (F - I_C/(d J) cof F) + kappa (J - 1) cof F, with cof F = J F^-T = dJ/dF."""
        (mu, kappa), f, j = self.moduli(q), self.deformation(q), self.volume_ratio(ops, q)
        shear = mu / self.shear_volume(j)
        volumetric = kappa * (j - 1) - shear * squared_norm(f) / (self.dimension * j)
        return {
            c: tuple(shear * x + volumetric * y for x, y in zip(row, other, strict=True))
            for c, row, other in zip(self.displacement, f, cofactor(f), strict=True)
        }

    def cauchy_stress(self, ops: Any, q: Quantities) -> Tensor2:
        """P F^T / J, the force per deformed area."""
        p, f, j = self.first_piola_kirchhoff(ops, q).values(), self.deformation(q), self.volume_ratio(ops, q)
        return tuple(tuple(dot(row, other) / j for other in f) for row in p)

    def pressure_across(self, ops: Any, q: Quantities) -> Any:
        """kappa (J - 1): the deviator of the plane law has no part across the plane."""
        return self.moduli(q)[1] * (self.volume_ratio(ops, q) - 1)

    def potential(self, ops: Any, q: Quantities) -> Any:
        """psi less the work of the sources."""
        density = self.strain_energy(ops, q)
        for component in self.displacement:
            density = density - q[names.source(component)] * q[component]
        return density


def _no_source(ops: Any, q: Quantities) -> dict[str, Any]:
    return {}


def hyperelasticity(dimension: int = 2) -> Physics:
    """A neo-Hookean solid; in the plane one with the plane strain energy."""
    solid = _Solid(dimension)
    planar = dimension == 2
    depth = ", per unit depth" if planar else ""
    energy = "(I_C/J - 2)" if planar else "(I_C J^(-2/3) - 3)"
    return Physics(
        name="hyperelasticity",
        description=(
            f"div P + force = 0 in the undeformed body: {'plane ' if planar else ''}neo-Hookean solid with strain"
            f" energy mu/2 {energy} + kappa/2 (J - 1)^2; a natural condition is a force per undeformed area"
        ),
        fields=(Field("displacement", solid.displacement, 2, "length", "displacement from the undeformed position"),),
        coefficients=(
            Coefficient(
                "youngs_modulus", 1.0, "Pa", "E, of mu = E / (2 (1 + nu)) and kappa = E / (3 (1 - 2 nu))", POSITIVE
            ),
            Coefficient("poisson_ratio", 0.49, "1", "nu, below 1/2", Interval(-1.0, 0.5)),
        ),
        flux=solid.first_piola_kirchhoff,
        source=_no_source,
        functionals=(
            Functional(
                "strain_energy",
                solid.strain_energy,
                power_of_length(dimension, "Pa"),
                f"stored energy{' per unit depth' if planar else ''}",
            ),
            Functional(
                "top_force",
                reaction(solid.first_piola_kirchhoff, _no_source, solid.displacement[1]),
                power_of_length(dimension - 1, "Pa"),
                f"force along y with which a boundary region is held{depth}",
                region_as="lifting",
            ),
            size(dimension, "undeformed body"),
        ),
        energy=solid.potential,
        admissible=solid.volume_ratio,
        traction=solid.first_piola_kirchhoff,
        derived=stress_quantities(dimension, solid.cauchy_stress, solid.pressure_across),
        dimension=dimension,
    )
