"""Whether a study lies within what an operator for all shapes was made for, and how far its shapes lie outside."""

from __future__ import annotations

from torch import Tensor

from shapewright.studies.problem.flow_models import flow_problem, velocity_problem
from shapewright.studies.problem.linear_physics import FLOW_PHYSICS, PHYSICS_OF
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh, linear_problem
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.models.shape_descriptors import describe, novelty
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard
from shapewright.surrogate.models.shapes import Shapes, dimensionless


def unfit(setup: Setup, card: ShapeOperatorCard) -> list[str]:
    """Why a study lies outside what an operator was made for, with what is allowed; empty where it does not."""
    served = PHYSICS_OF[card.operator]
    if setup.problem.physics.name not in served:
        name = setup.problem.physics.name
        return [f"physics is '{name}'; operator {card.operator} serves {', '.join(served)}"]
    flow = card.operator in FLOW_PHYSICS
    shapes = flow_problem(setup, card.operator) if flow else linear_problem(setup, f"operator {card.operator}")
    if not isinstance(shapes, Shapes):
        return shapes
    found = []
    for name, value in zip(card.parameters, shapes.parameters[0].tolist(), strict=True):
        low, high = card.parameters[name]
        if not low <= value <= high:
            found.append(f"{name} (in plane stress) is {value:.4g}; operator {card.operator} knows [{low:g}, {high:g}]")
    if bool((shapes.robin < 0).any()):
        found.append("a Robin condition has a negative coefficient; allowed are those that cool")
    if bool((shapes.robin > 0).any()) and card.limits["cooled share of the boundary"][1] == 0:
        found.append(f"a Robin condition is given; operator {card.operator} knows none")
    return found


def operator_novelty(setup: Setup, card: ShapeOperatorCard, theta: Tensor) -> dict[str, float]:
    """Descriptor -> by how much of the population's range the design theta (P,) lies outside it."""
    nodes = setup.shape_map.nodes(theta[None])
    flow = card.operator in FLOW_PHYSICS
    shapes, _ = dimensionless(*(velocity_problem(setup, nodes) if flow else ProblemOnMesh(setup).shapes(nodes)))
    return novelty(describe(shapes)[0], card.limits)
