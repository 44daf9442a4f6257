"""One operator for every planar shape of creeping flow: the clouds of a domain -> mGNO -> velocities and pressures.

It is :class:`shape_operator.ShapeOperator` with a second head. Velocities D N_k p vanish where their component is
prescribed, and p is 1 and the coordinates; pressures are linear in each cell, N_k p at its vertices. A flow is sought
in their span by a mixed Galerkin method, with supremizers for the pressures (:mod:`models.weak_equations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.geometries.fields.problem import Coefficient, Field, Physics
from shapewright.geometries.mesh.simplex import SIMPLICES
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.models.galerkin import LinearPhysics
from shapewright.surrogate.models.shape_operator import ShapeOperator, ShapeOperatorConfig, clouds
from shapewright.surrogate.models.shapes import Shapes

VELOCITY = ("u", "v")
PRESSURES = 3
"""Pressure fields that the network gives, times 1 and the coordinates."""


def _flux(ops: Any, q: Any) -> dict[str, tuple[Any, ...]]:
    return {c: tuple(q["viscosity"] * q[f"{c}_{x}"] for x in ("x", "y")) for c in VELOCITY}


VISCOUS = Physics(
    name="viscous",
    description="div(viscosity grad velocity) + source = 0: creeping flow without its pressure",
    fields=(Field("velocity", VELOCITY, 2, "length/s", "velocity of the fluid"),),
    coefficients=(Coefficient("viscosity", 1.0, "Pa s", "dynamic viscosity"),),
    flux=_flux,
    source=lambda ops, q: {},
)
"""The form int viscosity grad u : grad v, whose norm errors of velocities are measured in."""


@dataclass(frozen=True)
class FlowPhysics(LinearPhysics):
    """A flow as an operator for all shapes knows it: the viscous form, and pressures beside it."""


class FlowOperator(ShapeOperator):
    """Velocities and pressures of all domains.

    Args:
        physics: of the flow.
        grid: see :class:`shape_operator.ShapeOperator`.
        config: sizes.
    """

    def __init__(self, physics: FlowPhysics, grid: LatentGrid, config: ShapeOperatorConfig) -> None:
        super().__init__(physics, grid, config)
        self.pressures = nn.Linear(config.operator.hidden, PRESSURES)

    def both(self, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Velocities (B, N, 2, K) and pressures (B, N, L) of dimensionless shapes."""
        interior, boundary, inner, outer = clouds(shapes)
        latent = self.operator.encode(interior, boundary, inner, outer)
        count, nodes = shapes.nodes.shape[:2]
        owner = torch.arange(count, device=shapes.nodes.device).repeat_interleave(nodes, output_size=count * nodes)
        near = self.operator.decode(latent, shapes.nodes.flatten(0, 1), owner).unflatten(0, (count, nodes))
        hidden = functional.gelu(self.local(torch.cat([functional.gelu(near), shapes.factor], -1)))
        velocities = self.fields(hidden).unflatten(-1, (-1, self.config.fields)) * shapes.factor[..., None]
        linear = torch.cat([torch.ones_like(shapes.nodes[..., :1]), shapes.nodes], -1)
        pressures = (self.pressures(hidden)[..., None] * linear[:, :, None]).flatten(-2)
        return (velocities[..., None] * linear[:, :, None, None]).flatten(-2), linear_in_cells(shapes, pressures)

    def basis(self, shapes: Shapes) -> Tensor:
        """(B, N, 2, K) velocities of dimensionless shapes."""
        return self.both(shapes)[0]


def linear_in_cells(shapes: Shapes, nodal: Tensor) -> Tensor:
    """Nodal fields (B, N, L) with the mean of the ends in the middle of each side of a cell."""
    ends = middle_ends(shapes)
    start = nodal.shape[1] * torch.arange(len(nodal), device=nodal.device)[:, None]
    flat = nodal.flatten(0, 1)
    return (flat[ends[..., 0] + start] + flat[ends[..., 1] + start]) / 2


def middle_ends(shapes: Shapes) -> Tensor:
    """(B, N, 2) vertices at the ends of the side on which a node lies; a vertex is its own two ends."""
    count = shapes.nodes.shape[1]
    ends = torch.arange(count, device=shapes.cells.device)[None, :, None].repeat(len(shapes), 1, 2)
    for middle, (first, last) in enumerate(SIMPLICES[2].edges, 3):
        at = shapes.cells[..., middle]
        pair = shapes.cells[..., [first, last]]
        ends = ends.scatter(1, at[..., None].expand(-1, -1, 2), pair)
    return ends
