"""Physics that an operator for all shapes can serve, by the operator's name."""

from __future__ import annotations

from shapewright.solvers.physics.elasticity import elasticity
from shapewright.solvers.physics.poisson import poisson
from shapewright.surrogate.models.flow_operator import VISCOUS, FlowPhysics
from shapewright.surrogate.models.galerkin import LinearPhysics

PHYSICS = {
    "poisson_2d": LinearPhysics(poisson(2), "conductivity"),
    "elasticity_2d": LinearPhysics(elasticity(2), "youngs_modulus", ("poisson_ratio",)),
}
"""Name of an operator -> its physics; elasticity is that of plane stress, of which plane strain is a case."""
PHYSICS_OF = {
    "poisson_2d": ("poisson",),
    "elasticity_2d": ("plane_stress", "plane_strain"),
    "stokes_2d": ("stokes",),
}
"""Name of an operator -> physics of studies that it serves."""
FLOW_PHYSICS = {"stokes_2d": FlowPhysics(VISCOUS, "viscosity")}
"""Name of an operator of a flow -> its physics."""
