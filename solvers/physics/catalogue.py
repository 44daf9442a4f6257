"""The registry ``PHYSICS`` of the built-in physics in the plane, by the names of study files.

Each is a function of the dimension, such as :func:`poisson.poisson`. The dataclasses they are made of are importable
from here as well.
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
from shapewright.solvers.physics.elasticity import PLANE_STRAIN_LAW, PLANE_STRESS_LAW, elasticity
from shapewright.solvers.physics.hyperelasticity import hyperelasticity
from shapewright.solvers.physics.navier_stokes import navier_stokes
from shapewright.solvers.physics.poisson import nonlinear_poisson, poisson
from shapewright.solvers.physics.stokes import stokes

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

POISSON = poisson(dimension=2)
NONLINEAR_POISSON = nonlinear_poisson(dimension=2)
STOKES = stokes(dimension=2)
NAVIER_STOKES = navier_stokes(dimension=2)
PLANE_STRESS = elasticity(2, PLANE_STRESS_LAW)
PLANE_STRAIN = elasticity(2, PLANE_STRAIN_LAW)
HYPERELASTICITY = hyperelasticity(dimension=2)

PHYSICS: dict[str, Physics] = {
    physics.name: physics
    for physics in (POISSON, NONLINEAR_POISSON, STOKES, NAVIER_STOKES, PLANE_STRESS, PLANE_STRAIN, HYPERELASTICITY)
}
