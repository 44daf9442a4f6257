"""Large deformation of a nearly incompressible plane solid, in the undeformed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapewright.geometries.fields.interval import POSITIVE, Interval
from shapewright.geometries.fields.problem import Coefficient, Field, Functional, Physics
from shapewright.solvers.physics.elasticity import stress_quantities
from shapewright.solvers.physics.reaction import reaction

Quantities = Mapping[str, Any]


def _moduli(q: Quantities) -> tuple[Any, Any]:
    """Shear modulus mu and bulk modulus kappa."""
    e, nu = q["youngs_modulus"], q["poisson_ratio"]
    return e / (2 * (1 + nu)), e / (3 * (1 - 2 * nu))


def _volume_ratio(ops: Any, q: Quantities) -> Any:
    """J = det F of the deformation gradient F = I + grad displacement."""
    return (1 + q["u_x"]) * (1 + q["v_y"]) - q["u_y"] * q["v_x"]


def _first_invariant(q: Quantities) -> Any:
    """I_C = tr(F^T F)."""
    return (1 + q["u_x"]) ** 2 + q["u_y"] ** 2 + q["v_x"] ** 2 + (1 + q["v_y"]) ** 2


def _strain_energy(ops: Any, q: Quantities) -> Any:
    """psi = mu/2 (I_C / J - 2) + kappa/2 (J - 1)^2: neo-Hookean with d = 2 in J^(-2/d) I_C - d.

    J. Bonet, R. D. Wood, *Nonlinear Continuum Mechanics for Finite Element Analysis*, 2nd ed., section 6.5.
    """
    mu, kappa = _moduli(q)
    j = _volume_ratio(ops, q)
    return mu / 2 * (_first_invariant(q) / j - 2) + kappa / 2 * (j - 1) ** 2


def _first_piola_kirchhoff(ops: Any, q: Quantities) -> dict[str, tuple[Any, Any]]:
    """P = d psi / d F = mu/J (F - I_C/(2 J) cof F) + kappa (J - 1) cof F, with cof F = J F^-T = dJ/dF."""
    mu, kappa = _moduli(q)
    j = _volume_ratio(ops, q)
    shear = mu / j
    volumetric = kappa * (j - 1) - shear * _first_invariant(q) / (2 * j)
    return {
        "u": (shear * (1 + q["u_x"]) + volumetric * (1 + q["v_y"]), shear * q["u_y"] - volumetric * q["v_x"]),
        "v": (shear * q["v_x"] - volumetric * q["u_y"], shear * (1 + q["v_y"]) + volumetric * (1 + q["u_x"])),
    }


def _cauchy_stress(ops: Any, q: Quantities) -> list[list[Any]]:
    """P F^T / J, the force per deformed area."""
    p = list(_first_piola_kirchhoff(ops, q).values())
    f = [[1 + q["u_x"], q["u_y"]], [q["v_x"], 1 + q["v_y"]]]
    j = _volume_ratio(ops, q)
    return [[(p[i][0] * f[k][0] + p[i][1] * f[k][1]) / j for k in range(2)] for i in range(2)]


def _pressure_across(ops: Any, q: Quantities) -> Any:
    """kappa (J - 1): the deviator of this plane law has no part across the plane."""
    return _moduli(q)[1] * (_volume_ratio(ops, q) - 1)


def _no_source(ops: Any, q: Quantities) -> dict[str, Any]:
    return {}


def _potential(ops: Any, q: Quantities) -> Any:
    return _strain_energy(ops, q) - q["source_u"] * q["u"] - q["source_v"] * q["v"]


HYPERELASTICITY = Physics(
    name="hyperelasticity",
    description=(
        "div P + force = 0 in the undeformed body: plane neo-Hookean solid with strain energy"
        " mu/2 (I_C/J - 2) + kappa/2 (J - 1)^2; a natural condition is a force per undeformed area"
    ),
    fields=(Field("displacement", ("u", "v"), 2, "length", "displacement from the undeformed place"),),
    coefficients=(
        Coefficient(
            "youngs_modulus", 1.0, "Pa", "E, of mu = E / (2 (1 + nu)) and kappa = E / (3 (1 - 2 nu))", POSITIVE
        ),
        Coefficient("poisson_ratio", 0.49, "1", "nu, below 1/2", Interval(-1.0, 0.5)),
    ),
    flux=_first_piola_kirchhoff,
    source=_no_source,
    functionals=(
        Functional("strain_energy", _strain_energy, "Pa length^2", "stored energy per unit depth"),
        Functional(
            "top_force",
            reaction(_first_piola_kirchhoff, _no_source, "v"),
            "Pa length",
            "force along y with which the body is held at its top, per unit depth",
            lifting="top",
        ),
        Functional("area", lambda ops, q: 1.0, "length^2", "area of the undeformed body"),
    ),
    energy=_potential,
    admissible=_volume_ratio,
    traction=_first_piola_kirchhoff,
    derived=stress_quantities(_cauchy_stress, _pressure_across),
)
