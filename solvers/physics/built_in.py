"""The built-in physics, each a function of the dimension."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from shapewright.geometries.fields.problem import Physics, ProblemError
from shapewright.solvers.physics import hyperelasticity as _hyperelasticity
from shapewright.solvers.physics import navier_stokes as _navier_stokes
from shapewright.solvers.physics import poisson as _poisson
from shapewright.solvers.physics import stokes as _stokes
from shapewright.solvers.physics.catalogue import PHYSICS, PLANE_STRAIN, PLANE_STRESS
from shapewright.solvers.physics.elasticity import elasticity

__all__ = [
    "elasticity",
    "hyperelasticity",
    "navier_stokes",
    "nonlinear_poisson",
    "plane_strain",
    "plane_stress",
    "poisson",
    "stokes",
]


def _shared(make: Callable[[int], Physics]) -> Callable[[int], Physics]:
    """The same function, which in the plane returns the physics of study files, so that YAML can name it."""

    @wraps(make)
    def made(dimension: int = 2) -> Physics:
        return PHYSICS[make.__name__] if dimension == 2 else make(dimension)

    return made


poisson = _shared(_poisson.poisson)
nonlinear_poisson = _shared(_poisson.nonlinear_poisson)
stokes = _shared(_stokes.stokes)
navier_stokes = _shared(_navier_stokes.navier_stokes)
hyperelasticity = _shared(_hyperelasticity.hyperelasticity)


def plane_stress(dimension: int = 2) -> Physics:
    """Linear elasticity of a thin plate; ProblemError in another dimension than two."""
    return _planar(PLANE_STRESS, dimension)


def plane_strain(dimension: int = 2) -> Physics:
    """Linear elasticity of a long prism; ProblemError in another dimension than two."""
    return _planar(PLANE_STRAIN, dimension)


def _planar(physics: Physics, dimension: int) -> Physics:
    if dimension != 2:
        raise ProblemError(f"{physics.name}: dimension is {dimension}; allowed is 2")
    return physics


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    raise AttributeError(f"there is no physics '{name}'; there are {', '.join(__all__)}")
