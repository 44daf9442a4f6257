"""Losses that need no solution: the energy, and the weak residual in the dual norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import splu
from torch import Tensor, nn

from shapewright.geometries.design.dirichlet_lift import DirichletLift
from shapewright.geometries.fields import names
from shapewright.geometries.mesh.integration import CellPoints
from shapewright.geometries.mesh.stiffness import weighted_stiffness
from shapewright.surrogate.models.point_quantities import Function, ProblemData

FLOOR = 0.1
"""Of what the physics says must be positive, such as the volume ratio: below it a penalty is added to the energy."""


def energy(data: ProblemData, q: Mapping[str, Any], quadrature: CellPoints) -> Tensor:
    """(B,) energy of the fields whose quantities ``q`` are known at the points of ``quadrature``.

    Raises:
        ValueError: the physics has no energy.
    """
    if data.equations.energy is None:
        raise ValueError("training.loss is 'energy', but the physics has none; allowed is 'weak_residual'")
    potential = data.equations.energy
    direct = data.equations.admissible is None
    density = potential(torch, q) if direct else _continued_density(data, potential, q)
    return (density * quadrature.weights.flatten(1)).sum(-1)


def _continued_density(data: ProblemData, potential: Function, q: Mapping[str, Any]) -> Tensor:
    """(B, Q) density where the fields are admissible, and a continuation that grows without bound where they are not.

    An energy with 1 / J has no meaning beyond J = 0, where an untrained network may well be. There the derivatives of
    the fields are shrunk until the floor is reached, and the density there grows with the distance from the floor: it
    is never less than where the ray of the shrunk derivatives leaves what is admissible, and continuous there.
    """
    room = _room(data, q, torch.ones(()))
    if bool((room >= FLOOR).all()):
        return potential(torch, q)
    share = torch.where(room >= FLOOR, torch.ones_like(room), _share_at_floor(data, q, room))
    density = potential(torch, _shrunk(data, q, share))
    return density + density.abs() * (1 - room / FLOOR).clamp(min=0)


def _share_at_floor(data: ProblemData, q: Mapping[str, Any], room: Tensor, step: float = 1e-3) -> Tensor:
    """(B, Q) share of the derivatives at which the room is FLOOR: bisection, then one differentiable Newton step."""
    with torch.no_grad():
        low, high = torch.zeros_like(room), torch.ones_like(room)
        for _ in range(30):
            middle = (low + high) / 2
            inside = _room(data, q, middle) >= FLOOR
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        slope = (_room(data, q, low + step) - _room(data, q, low - step)) / (2 * step)
        slope = torch.where(room >= FLOOR, torch.ones_like(slope), slope)  # not used there, and may be zero
    return low - (_room(data, q, low) - FLOOR) / slope


def _room(data: ProblemData, q: Mapping[str, Any], share: Tensor) -> Tensor:
    assert data.equations.admissible is not None  # only asked for where there is one
    return data.equations.admissible(torch, _shrunk(data, q, share))


def _shrunk(data: ProblemData, q: Mapping[str, Any], share: Tensor) -> dict[str, Any]:
    dimension = data.equations.dimension
    derivatives = (slope for component in data.components for slope in names.derivatives(component, dimension))
    return dict(q) | {name: share * q[name] for name in derivatives}


class WeakResidual(nn.Module):
    """Squared norm of the weak residual in the dual of H1, and of equations without flux in L2.

    With r_i = int flux . grad phi_i - source phi_i over the quadratic basis functions that vanish where the component
    is prescribed, the loss is r . K^-1 r with the stiffness K of the reference mesh. For a linear equation it is
    the squared energy norm of the error, up to the stretch of the map: as well conditioned as learning from solutions.
    S. Rojas et al., *Robust Variational Physics-Informed Neural Networks* (2024).

    Args:
        data: the problem.
        lift: reference mesh and where each component is prescribed.
        weights: component -> factor of its equation, a function of the instance's numbers.
    """

    def __init__(
        self, data: ProblemData, lift: DirichletLift, weights: Mapping[str, Function] | None = None
    ) -> None:
        super().__init__()
        self.data, self.nodes, self.weights = data, len(lift.shape_map.mesh.nodes), dict(weights or {})
        stiffness = weighted_stiffness(lift.shape_map.mesh, lambda x: np.ones(x.shape[:-1]))
        for component in data.components:
            fixed = lift.fixed.get(component, {}).values()
            prescribed = np.concatenate([np.empty(0, np.int64), *(index.numpy() for index in fixed)])
            free = np.setdiff1d(np.arange(self.nodes), prescribed)
            if len(free) < self.nodes:  # a component that is prescribed nowhere has an equation without flux
                inverse = splu(stiffness[free][:, free].tocsc()).solve(np.eye(len(free)))
                self.register_buffer(f"{component}_inverse", torch.from_numpy(inverse), persistent=False)
                self.register_buffer(f"{component}_free", torch.from_numpy(free), persistent=False)

    def forward(self, q: Mapping[str, Any], quadrature: CellPoints) -> Tensor:
        """(B,) losses for quantities (B, M Q) at the quadrature points of B domains."""
        flux, source = self.data.equations.flux(torch, q), dict(self.data.equations.source(torch, q))
        for component, function in self.data.sources.items():
            source[component] = source.get(component, 0.0) + function(torch, q)
        total = torch.zeros_like(quadrature.weights[:, 0, 0])
        for component in self.data.components:
            own = source.get(component)
            if component in flux:
                inverse, free = getattr(self, f"{component}_inverse"), getattr(self, f"{component}_free")
                residual = self._tested(flux[component], own, quadrature)[:, free]
                size = ((residual @ inverse) * residual).sum(-1)
            else:
                size = (torch.as_tensor(own) ** 2 * quadrature.weights.flatten(1)).sum(-1)
            weight = self.weights[component](torch, q) if component in self.weights else 1.0
            total = total + (weight * size[:, None])[:, 0]
        return total

    def _tested(self, flux: Sequence[Tensor], source: Tensor | None, quadrature: CellPoints) -> Tensor:
        """(B, N) residuals by test function."""
        shape = quadrature.weights.shape
        along = torch.stack([part.expand(shape[0], -1).unflatten(1, shape[1:]) for part in flux], -1)
        reference = torch.einsum("bmq,bmqd,bmqkd->bmqk", quadrature.weights, along, quadrature.inverse_jacobian)
        local = torch.einsum("bmqk,qik->bmi", reference, quadrature.gradients)
        if source is not None:
            density = torch.as_tensor(source).expand(shape[0], shape[1] * shape[2]).unflatten(1, shape[1:])
            local = local - torch.einsum("bmq,bmq,qi->bmi", quadrature.weights, density, quadrature.values)
        total = local.new_zeros(shape[0], self.nodes)
        return total.index_add(1, quadrature.cells.reshape(-1), local.flatten(1))
