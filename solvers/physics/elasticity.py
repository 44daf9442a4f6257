"""Small deformation of an isotropic solid: in space, in plane stress and in plane strain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.interval import NOT_NEGATIVE, POSITIVE, Interval
from shapewright.geometries.fields.problem import (
    Coefficient,
    Derived,
    Field,
    Function,
    Functional,
    Physics,
    ProblemError,
    power_of_length,
)
from shapewright.geometries.fields.vectors import Quantities, Space, Tensor2, Vector, contract, dot, trace, values
from shapewright.solvers.physics.poisson import size
from shapewright.solvers.physics.smooth_maximum import kreisselmeier_steinhauser, p_norm, p_norm_bounds


@dataclass(frozen=True)
class Law:
    """Hooke's law of one kind of problem.

    Attributes:
        name, description: of the physics, for people.
        first_lame: Lame's lambda from Young's modulus and Poisson's ratio; in a thin plate that of the plane law.
        out_of_plane: normal stress across the plane from Poisson's ratio and the stress in the plane; unused in space.
        poisson_ratios: those for which the law is defined and its energy positive.
        planar: whether it is a law in the plane.
    """

    name: str
    description: str
    first_lame: Callable[[Any, Any], Any]
    out_of_plane: Callable[[Any, Tensor2], Any]
    poisson_ratios: Interval
    planar: bool = True


def _first_lame(e: Any, nu: Any) -> Any:
    return e * nu / ((1 + nu) * (1 - 2 * nu))


PLANE_STRESS_LAW = Law(
    "plane_stress",
    "linear elasticity of a thin plate: div sigma + force = 0, no stress across it",
    lambda e, nu: e * nu / (1 - nu**2),
    lambda nu, stress: 0.0,
    Interval(-1.0, 0.5, closed="below"),  # at 1/2 an incompressible plate gives way across its plane
)
PLANE_STRAIN_LAW = Law(
    "plane_strain",
    "linear elasticity of a long prism: div sigma + force = 0, no strain along it",
    _first_lame,
    lambda nu, stress: nu * (stress[0][0] + stress[1][1]),
    Interval(-1.0, 0.5),
)
SPATIAL_LAW = Law(
    "elasticity",
    "linear elasticity of a solid: div sigma + force = 0",
    _first_lame,
    lambda nu, stress: 0.0,
    Interval(-1.0, 0.5),
    planar=False,
)


@dataclass(frozen=True)
class _Solid(Space):
    """Formulas of a linearly elastic solid."""

    law: Law

    @property
    def displacement(self) -> tuple[str, ...]:
        """Names of its components."""
        return names.vector(self.dimension)

    def strain(self, q: Quantities) -> Tensor2:
        """Symmetric gradient of the displacement."""
        return self.sym_grad(q, self.displacement)

    def stress(self, ops: Any, q: Quantities) -> Tensor2:
        """sigma = 2 mu strain + lambda tr(strain) I."""
        e, nu = q["youngs_modulus"], q["poisson_ratio"]
        mu, strain = e / (2 * (1 + nu)), self.strain(q)
        pressure = self.law.first_lame(e, nu) * trace(strain)
        return tuple(tuple(2 * mu * strain[i][j] + (pressure if i == j else 0.0) for j in self.axes) for i in self.axes)

    def flux(self, ops: Any, q: Quantities) -> dict[str, Vector]:
        """Rows of the stress."""
        return dict(zip(self.displacement, self.stress(ops, q), strict=True))

    def work(self, ops: Any, q: Quantities) -> Any:
        """sigma : strain."""
        return contract(self.stress(ops, q), self.strain(q))

    def energy(self, ops: Any, q: Quantities) -> Any:
        """Half the work less that of the sources."""
        sources = values(q, [names.source(c) for c in self.displacement])
        return self.work(ops, q) / 2 - dot(sources, values(q, self.displacement))

    def out_of_plane(self, ops: Any, q: Quantities) -> Any:
        """Normal stress across the plane."""
        return self.law.out_of_plane(q["poisson_ratio"], self.stress(ops, q))

    def von_mises_squared(self, ops: Any, q: Quantities) -> Any:
        """Square of von Mises' stress, in reference stresses."""
        return von_mises_squared(self.stress(ops, q), self.out_of_plane(ops, q)) / q["reference_stress"] ** 2

    def hoop(self, ops: Any, q: Quantities) -> Any:
        """t . sigma t with the unit tangent t of a planar boundary, in reference stresses."""
        n, stress = self.normal(q), self.stress(ops, q)
        tangent = (-n[1], n[0])
        hoop = sum(stress[i][j] * tangent[i] * tangent[j] for i in self.axes for j in self.axes)
        return hoop / q["reference_stress"]


def von_mises_squared(stress: Tensor2, out_of_plane: Any) -> Any:
    """Square of von Mises' stress; in space ``out_of_plane`` is unused."""
    xx, yy, zz = (*(stress[i][i] for i in range(len(stress))), out_of_plane)[:3]
    normal = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
    return normal / 2 + 3 * sum(stress[i][j] ** 2 for i, j in combinations(range(len(stress)), 2))


def stress_quantities(
    dimension: int, stress: Callable[[Any, Quantities], Tensor2], out_of_plane: Function
) -> tuple[Derived, ...]:
    """Von Mises' stress and the components of a stress tensor; in the plane with the normal stress across it."""

    def von_mises(ops: Any, q: Quantities) -> Any:
        return ops.sqrt(von_mises_squared(stress(ops, q), out_of_plane(ops, q)))

    def entry(i: int, j: int, description: str) -> Derived:
        return Derived(names.entry("stress", i, j), lambda ops, q: stress(ops, q)[i][j], "Pa", description)

    return (
        Derived("von_mises", von_mises, "Pa", "von Mises stress", shown=True),
        *(entry(i, i, f"normal stress along {x}") for i, x in enumerate(names.coordinates(dimension))),
        *(entry(i, j, "shear stress") for i, j in combinations(range(dimension), 2)),
    )


def elasticity(dimension: int = 3, law: Law | None = None) -> Physics:
    """Linear elasticity.

    Args:
        dimension: of space.
        law: in the plane that of plane stress or of plane strain; by default plane stress there.

    Raises:
        ProblemError: another dimension than that of the law.
    """
    law = law or (PLANE_STRESS_LAW if dimension == 2 else SPATIAL_LAW)
    if (dimension == 2) != law.planar:
        raise ProblemError(f"{law.name}: dimension is {dimension}; allowed is {2 if law.planar else 3}")
    solid = _Solid(dimension, law)
    depth = " per unit depth" if dimension == 2 else ""
    return Physics(
        name=law.name,
        description=law.description,
        fields=(Field("displacement", solid.displacement, 2, "length", "displacement"),),
        coefficients=(
            Coefficient("youngs_modulus", 1.0, "Pa", "Young's modulus E", POSITIVE),
            Coefficient("poisson_ratio", 0.3, "1", "Poisson's ratio nu", law.poisson_ratios),
            Coefficient("density", 1.0, "kg/length^3", "mass per volume", NOT_NEGATIVE),
            Coefficient(
                "reference_stress", 1.0, "Pa", "unit of the smooth maxima; a typical stress, or they overflow", POSITIVE
            ),
        ),
        flux=solid.flux,
        source=lambda ops, q: {},
        functionals=(
            Functional(
                "compliance",
                solid.work,
                power_of_length(dimension, "Pa"),
                f"int sigma : strain{depth}, the work of the loads on supports that do not move",
            ),
            Functional("mass", lambda ops, q: q["density"], "kg/length" if depth else "kg", f"mass{depth}"),
            size(dimension),
            _peak_von_mises(solid),
            *(_hoop_stresses(solid) if dimension == 2 else (_ks_von_mises(solid),)),
        ),
        energy=solid.energy,
        traction=solid.flux,
        derived=stress_quantities(dimension, solid.stress, solid.out_of_plane),
        dimension=dimension,
    )


def _peak_von_mises(solid: _Solid) -> Functional:
    return Functional(
        "peak_von_mises",
        lambda ops, q: solid.von_mises_squared(ops, q) ** 8,  # of the square, which is smooth where the stress vanishes
        {2: "length^(1/8)", 3: "length^(3/16)"}[solid.dimension],
        "smooth maximum of von Mises' stress, in reference stresses: its 16-norm over the domain",
        outer=lambda ops, integral: integral ** (1 / 16),
        maximum_of=lambda ops, q: ops.sqrt(solid.von_mises_squared(ops, q)),
        bounds=lambda value, measure, slope: p_norm_bounds(value, 16, measure, slope),
    )


def _ks_von_mises(solid: _Solid) -> Functional:
    return kreisselmeier_steinhauser(
        "ks_von_mises",
        # the root is shifted where the stress vanishes, and has no derivative, by a millionth of the reference stress
        lambda ops, q: ops.sqrt(solid.von_mises_squared(ops, q) + 1e-12),
        "1",
        "smooth maximum of von Mises' stress s, in reference stresses: 1/30 log int exp(30 s) over the solid, with"
        " lengths in the study's unit; another adds log(their ratio)/10",
        sharpness=30.0,
    )


def _hoop_stresses(solid: _Solid) -> tuple[Functional, ...]:
    """Smooth maxima of the hoop stress along a boundary region in the plane."""
    return (
        p_norm(
            "peak_hoop_stress",
            solid.hoop,
            "length^(1/32)",
            "smooth maximum of the hoop stress, in reference stresses: its 32-norm along a boundary region",
            exponent=32,
            along_boundary=True,
        ),
        kreisselmeier_steinhauser(
            "ks_hoop_stress",
            solid.hoop,
            "1",
            "smooth maximum of the hoop stress s, in reference stresses: 1/30 log int exp(30 s) along a boundary"
            " region, with lengths in the study's unit; another adds log(their ratio)/30",
            sharpness=30.0,
            along_boundary=True,
        ),
    )
