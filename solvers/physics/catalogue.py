"""The built-in physics, ``PHYSICS`` in the plane and ``SOLID_PHYSICS`` in space, and physics of a user's own file.

Each is a function of the dimension, such as :func:`poisson.poisson`. The dataclasses they are made of are importable
from here as well.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

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
    ProblemError,
)
from shapewright.geometries.user_file import UserFileError, load_object
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
    "load_physics",
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


SOLID_PHYSICS: dict[str, Physics] = {
    physics.name: physics for physics in (poisson(dimension=3), elasticity(dimension=3))
}
"""Those that studies of solids are made for: linear, with an energy."""


def load_physics(spec: str, folder: Path, dimension: int = 2) -> Physics:
    """The physics ``spec``: a built-in name, or ``file.py:Name`` with the file relative to ``folder``.

    ``Name`` is a :class:`Physics`, or a function that returns one; it is given the dimension if it takes that.

    Raises:
        ProblemError: says what was found and what is allowed.
    """
    if ":" not in spec:
        known = PHYSICS if dimension == 2 else SOLID_PHYSICS
        if spec not in known:
            where = " of a solid" if dimension == 3 else ""
            raise ProblemError(
                f"unknown physics '{spec}'{where}; built in are {', '.join(known)}, or your own as my_physics.py:Name"
            )
        return known[spec]
    try:
        found: Any = load_object(spec, folder, "physics", "Coefficient, Derived, Field, Functional, Physics")
    except UserFileError as error:
        raise ProblemError(str(error)) from error
    if not isinstance(found, Physics) and callable(found):
        options = {"dimension": dimension} if "dimension" in inspect.signature(found).parameters else {}
        try:
            found = found(**options)
        except Exception as error:
            raise ProblemError(f"physics '{spec}': {type(error).__name__}: {error}") from error
    if not isinstance(found, Physics):
        raise ProblemError(
            f"physics '{spec}' is a {type(found).__name__}; allowed is a shapewright.Physics, or a function that"
            " returns one"
        )
    return found
