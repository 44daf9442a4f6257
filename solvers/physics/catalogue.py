"""The registry ``PHYSICS`` of the built-in physics.

The dataclasses they are made of are importable from here as well.
"""

from __future__ import annotations

from shapewright.geometries.fields.problem import (
    CaseFunctional,
    Coefficient,
    Dirichlet,
    Field,
    Function,
    Functional,
    Natural,
    Patch,
    Physics,
    Pin,
    Problem,
)
from shapewright.solvers.physics.elasticity import PLANE_STRAIN, PLANE_STRESS
from shapewright.solvers.physics.hyperelasticity import HYPERELASTICITY
from shapewright.solvers.physics.navier_stokes import NAVIER_STOKES
from shapewright.solvers.physics.poisson import NONLINEAR_POISSON, POISSON
from shapewright.solvers.physics.stokes import STOKES

__all__ = [
    "HYPERELASTICITY",
    "NAVIER_STOKES",
    "NONLINEAR_POISSON",
    "PHYSICS",
    "PLANE_STRAIN",
    "PLANE_STRESS",
    "POISSON",
    "STOKES",
    "CaseFunctional",
    "Coefficient",
    "Dirichlet",
    "Field",
    "Function",
    "Functional",
    "Natural",
    "Patch",
    "Physics",
    "Pin",
    "Problem",
]

PHYSICS: dict[str, Physics] = {
    physics.name: physics
    for physics in (POISSON, NONLINEAR_POISSON, STOKES, NAVIER_STOKES, PLANE_STRESS, PLANE_STRAIN, HYPERELASTICITY)
}
