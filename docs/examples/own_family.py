"""A family of one's own: a section with two half-axes, of which torsion wants equal ones."""

import math

import torch

import shapewright as sw

ANGLES = torch.arange(8, dtype=torch.float64) * math.pi / 4


def control_points(theta: torch.Tensor) -> torch.Tensor:
    """(..., 8, 2) control points of designs theta (..., 2)."""
    x = theta[..., :1] * ANGLES.cos().to(theta)
    y = theta[..., 1:] * ANGLES.sin().to(theta)
    return torch.stack([x, y], -1)


oval = sw.Family(
    name="oval",
    description="section with two half-axes; boundary region: wall",
    parameters=(sw.Parameter("a", 1.4, 0.5, 2.0), sw.Parameter("b", 0.8, 0.5, 2.0)),
    loops=((sw.Curve("wall", 8, periodic=True),),),
    control_points=control_points,
)
problem = sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0})
study = sw.Study(
    sw.Design(oval, mesh_size=0.25),
    problem,
    maximize="torsional_constant",
    constraints=[sw.equals("area", "initial")],
)
best = sw.optimize(study, sw.SLSQP(starts=1), model=sw.fem(study))
print(best.reason, "half-axes", best.theta)
