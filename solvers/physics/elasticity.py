"""Small deformation of an isotropic solid, in plane stress and in plane strain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shapewright.geometries.fields.interval import NOT_NEGATIVE, POSITIVE, Interval
from shapewright.geometries.fields.problem import (
    COORDINATES,
    Coefficient,
    Derived,
    Field,
    Function,
    Functional,
    Physics,
)
from shapewright.solvers.physics.smooth_maximum import kreisselmeier_steinhauser, p_norm, p_norm_bounds

Quantities = Mapping[str, Any]
Tensor2 = list[list[Any]]
DISPLACEMENT = ("u", "v")


def _gradient(q: Quantities) -> Tensor2:
    """Displacement gradient, rows by component, columns by coordinate."""
    return [[q[f"{c}_{x}"] for x in COORDINATES] for c in DISPLACEMENT]


def _strain(q: Quantities) -> Tensor2:
    gradient, axes = _gradient(q), range(len(DISPLACEMENT))
    return [[(gradient[i][j] + gradient[j][i]) / 2 for j in axes] for i in axes]


def _stress(q: Quantities, first_lame: Callable[[Any, Any], Any]) -> Tensor2:
    """Hooke's law sigma = 2 mu strain + lambda tr(strain) I, in any dimension."""
    e, nu = q["youngs_modulus"], q["poisson_ratio"]
    mu, strain, axes = e / (2 * (1 + nu)), _strain(q), range(len(DISPLACEMENT))
    pressure = first_lame(e, nu) * sum(strain[i][i] for i in axes)
    return [[2 * mu * strain[i][j] + (pressure if i == j else 0.0) for j in axes] for i in axes]


def _work(q: Quantities, stress: Tensor2) -> Any:
    """sigma : strain."""
    strain, axes = _strain(q), range(len(DISPLACEMENT))
    return sum(stress[i][j] * strain[i][j] for i in axes for j in axes)


def _hoop_stress(q: Quantities, stress: Tensor2) -> Any:
    """t . sigma t with the unit tangent t = (-ny, nx)."""
    tangent = (-q["ny"], q["nx"])
    return sum(stress[i][j] * tangent[i] * tangent[j] for i in range(2) for j in range(2))


def _von_mises_squared(stress: Tensor2, out_of_plane: Any) -> Any:
    xx, yy, xy = stress[0][0], stress[1][1], stress[0][1]
    normal = (xx - yy) ** 2 + (yy - out_of_plane) ** 2 + (out_of_plane - xx) ** 2
    return normal / 2 + 3 * xy**2


def stress_quantities(
    stress: Callable[[Any, Quantities], Tensor2], out_of_plane: Callable[[Any, Quantities], Any]
) -> tuple[Derived, ...]:
    """Von Mises' stress and the components of a plane stress tensor, with the normal stress across the plane."""

    def von_mises(ops: Any, q: Quantities) -> Any:
        return ops.sqrt(_von_mises_squared(stress(ops, q), out_of_plane(ops, q)))

    def entry(i: int, j: int) -> Function:
        return lambda ops, q: stress(ops, q)[i][j]

    return (
        Derived("von_mises", von_mises, "Pa", "von Mises stress", shown=True),
        Derived("stress_xx", entry(0, 0), "Pa", "normal stress along x"),
        Derived("stress_yy", entry(1, 1), "Pa", "normal stress along y"),
        Derived("stress_xy", entry(0, 1), "Pa", "shear stress"),
    )


def _plane_elasticity(
    name: str,
    description: str,
    first_lame: Callable[[Any, Any], Any],
    out_of_plane: Callable[[Quantities, Tensor2], Any],
    poisson_ratios: Interval,
) -> Physics:
    """Linear elasticity in the plane.

    Args:
        name, description: for people.
        first_lame: Lame's lambda of the plane law from Young's modulus and Poisson's ratio.
        out_of_plane: normal stress across the plane from the quantities and the stress in the plane.
        poisson_ratios: those for which the law is defined and its energy positive.
    """

    def stress(q: Quantities) -> Tensor2:
        return _stress(q, first_lame)

    def flux(ops: Any, q: Quantities) -> dict[str, tuple[Any, ...]]:
        return {c: tuple(row) for c, row in zip(DISPLACEMENT, stress(q), strict=True)}

    def energy(ops: Any, q: Quantities) -> Any:
        return _work(q, stress(q)) / 2 - sum(q[f"source_{c}"] * q[c] for c in DISPLACEMENT)

    def von_mises_squared(q: Quantities) -> Any:
        return _von_mises_squared(stress(q), out_of_plane(q, stress(q))) / q["reference_stress"] ** 2

    def von_mises(ops: Any, q: Quantities) -> Any:
        return ops.sqrt(von_mises_squared(q))

    def hoop(ops: Any, q: Quantities) -> Any:
        return _hoop_stress(q, stress(q)) / q["reference_stress"]

    return Physics(
        name=name,
        description=description,
        fields=(Field("displacement", DISPLACEMENT, 2, "length", "displacement"),),
        coefficients=(
            Coefficient("youngs_modulus", 1.0, "Pa", "Young's modulus E", POSITIVE),
            Coefficient("poisson_ratio", 0.3, "1", "Poisson's ratio nu", poisson_ratios),
            Coefficient("density", 1.0, "kg/length^3", "mass per volume", NOT_NEGATIVE),
            Coefficient(
                "reference_stress", 1.0, "Pa", "unit of the smooth maxima; a typical stress, or they overflow", POSITIVE
            ),
        ),
        flux=flux,
        source=lambda ops, q: {},
        functionals=(
            Functional(
                "compliance",
                lambda ops, q: _work(q, stress(q)),
                "Pa length^2",
                "int sigma : strain per unit depth, the work of the loads on supports that do not move",
            ),
            Functional("mass", lambda ops, q: q["density"], "kg/length", "mass per unit depth"),
            Functional("area", lambda ops, q: 1.0, "length^2", "area of the domain"),
            Functional(
                "peak_von_mises",
                lambda ops, q: von_mises_squared(q) ** 8,  # of the square, which is smooth where the stress vanishes
                "length^(1/8)",
                "smooth maximum of von Mises' stress, in reference stresses: its 16-norm over the domain",
                outer=lambda ops, integral: integral ** (1 / 16),
                maximum_of=von_mises,
                bounds=lambda value, area, slope: p_norm_bounds(value, 16, area, slope),
            ),
            p_norm(
                "peak_hoop_stress",
                hoop,
                "length^(1/32)",
                "smooth maximum of the hoop stress, in reference stresses: its 32-norm along the hole",
                exponent=32,
                on="hole",
            ),
            kreisselmeier_steinhauser(
                "ks_hoop_stress",
                hoop,
                "1",
                "smooth maximum of the hoop stress s, in reference stresses: 1/30 log int exp(30 s) along the hole,"
                " with lengths in the study's unit; another adds log(their ratio)/30",
                sharpness=30.0,
                on="hole",
            ),
        ),
        energy=energy,
        traction=flux,
        derived=stress_quantities(lambda ops, q: stress(q), lambda ops, q: out_of_plane(q, stress(q))),
    )


PLANE_STRESS = _plane_elasticity(
    "plane_stress",
    "linear elasticity of a thin plate: div sigma + force = 0, no stress across it",
    lambda e, nu: e * nu / (1 - nu**2),
    lambda q, stress: 0.0,
    Interval(-1.0, 0.5, closed="below"),  # at 1/2 an incompressible plate gives way across its plane
)
PLANE_STRAIN = _plane_elasticity(
    "plane_strain",
    "linear elasticity of a long prism: div sigma + force = 0, no strain along it",
    lambda e, nu: e * nu / ((1 + nu) * (1 - 2 * nu)),
    lambda q, stress: q["poisson_ratio"] * (stress[0][0] + stress[1][1]),
    Interval(-1.0, 0.5),
)
