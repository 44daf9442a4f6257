"""The reduced basis of a flow: the study's own finite-element solutions, their design tangents, and pressures.

A flow at a new design is sought in the span of what is known, carried along with the nodes of the mesh: velocities and
pressures of solved designs and of their tangents, and for each pressure p its supremizer, the velocity w with
(grad w, grad v) = int p div v on the reference mesh, without which the pressures of a reduced basis are not stable
(G. Rozza, K. Veroy, Comput. Methods Appl. Mech. Eng. 196 (2007) 1244). Where nothing else is known there are no
solutions to join, so that the first comes from finite elements.

A tangent costs a back-substitution in the factorization of its solution. With those along all parameters the model is
exact to first order in the fields at a solved design; for the dissipation, whose adjoint lies in the span, it is so to
third order in the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor

from shapewright.geometries.design.dirichlet_lift import DirichletLift, Prescribed, build_dirichlet_lift
from shapewright.geometries.mesh.stiffness import weighted_stiffness
from shapewright.studies.problem.models import Array, designs_of, no_answers, unfolded
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.models.point_quantities import at_points
from shapewright.surrogate.models.weak_equations import WeakEquations
from shapewright.surrogate.training.dataset import Dataset

FLOWS = ("stokes", "navier_stokes")
"""Physics of incompressible flow: velocities, then the pressure p."""
LAST = 12
"""Solutions of the study that join the span, at most: the last ones."""
WITH_TANGENTS = 2
"""Of these, how many join with their tangents."""
DEPENDENT = 1e-10
"""Share of the energy below which a field of length one does not stand out of the span of the others; solutions are
stored in single precision."""


def tangents_wanted(setup: Setup) -> int:
    """Directions along which a solution should come with its tangents: as many as parameters for a flow."""
    return len(setup.family.parameters) if setup.problem.physics.name in FLOWS else 0


@dataclass(frozen=True)
class Span:
    """Where a flow is sought.

    Attributes:
        fields: (N, c, K) that vanish where their components are prescribed.
        starts: designs (S, P) that were solved, and (S, K) amplitudes of their solutions.
    """

    fields: Tensor
    starts: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FlowBasis:
    """The reduced basis as a model of all functionals of a study; see :class:`models.Model`.

    Attributes:
        setup: study of a flow; see :func:`flow_basis`.
        solutions: finite-element solutions of it so far, each with its tangents.
    """

    RADIUS: ClassVar[float] = 0.5
    """Of a trust region on it at the start, in scaled parameters."""
    setup: Setup
    solutions: Callable[[], Sequence[Dataset]]
    _spans: dict[int, Span] = field(default_factory=dict, repr=False)

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        theta = designs_of(self.setup, theta)
        values, gradients = no_answers(self.setup, theta)
        for index in np.flatnonzero(unfolded(self.setup, torch.from_numpy(theta))):
            found = self._functionals(torch.from_numpy(theta[index]))
            if found is not None:
                values[index], gradients[index] = found
        return values, gradients

    def fields(self, theta: Tensor) -> Tensor:
        """(N, c) fields of one design (P,), float64; NaN where there is no answer."""
        lifting = self._lifting(self.setup.shape_map.nodes(theta))
        found = self._amplitudes(theta)
        return torch.full_like(lifting, torch.nan) if found is None else lifting + self.span.fields @ found[0]

    @property
    def span(self) -> Span:
        """Of the solutions so far."""
        known = self.solutions()
        if len(known) not in self._spans:
            self._spans.clear()
            self._spans[len(known)] = self._made(known)
        return self._spans[len(known)]

    def _functionals(self, theta: Tensor) -> tuple[Array, Array] | None:
        """(J,) values and their (J, P) derivatives, by the adjoint y of the amplitudes x.

        With r(x) = 0 and r'(x)^T y = -dJ/dx the derivative is that of J + y . r with x and y held.
        """
        found = self._amplitudes(theta)
        if found is None:
            return None
        (x, jacobian), fields = found, self.span.fields
        design = theta.clone().requires_grad_()
        nodes = self.setup.shape_map.nodes(design)
        state = (self._lifting(nodes) + fields @ x).requires_grad_()
        values = self._integrals(nodes, state)
        slopes = torch.stack([torch.autograd.grad(value, state, retain_graph=True)[0] for value in values], -1)
        y = torch.linalg.solve(jacobian.T, -torch.einsum("nck,ncj->kj", fields, slopes))
        equations = WeakEquations(self.setup.problem, self.setup.shape_map.mesh, nodes)
        total = values + equations.residual(state, fields @ y)
        gradients = [torch.autograd.grad(one, design, retain_graph=True)[0] for one in total]
        return values.detach().numpy(), torch.stack(gradients).numpy()

    def _amplitudes(self, theta: Tensor) -> tuple[Tensor, Tensor] | None:
        """(K,) amplitudes x at a design (P,), and the Jacobian (K, K) of the equations there."""
        span = self.span
        designs, amplitudes = span.starts
        bounds = self.setup.family.bounds
        apart = ((designs - theta) / (bounds[:, 1] - bounds[:, 0])).norm(dim=-1)
        start = amplitudes[int(apart.argmin())] if len(designs) else span.fields.new_zeros(span.fields.shape[-1])
        nodes = self.setup.shape_map.nodes(theta)
        equations = WeakEquations(self.setup.problem, self.setup.shape_map.mesh, nodes)
        with torch.no_grad():
            return equations.solve(self._lifting(nodes), span.fields, start)

    def _integrals(self, nodes: Tensor, fields: Tensor) -> Tensor:
        """(J,) functionals."""
        setup = self.setup
        found = integrate_all(setup.problem.functionals, setup.space, setup.shape_map.mesh, nodes[None], fields[None])
        return found[0]

    def _lifting(self, nodes: Tensor) -> Tensor:
        """(N, c) fields with the prescribed values on the mesh with nodes (N, 2)."""
        values = {
            (d.component, d.tag): partial(at_points, d.value, parameters={}) for d in self.setup.problem.dirichlet
        }
        return self._lift.lifting(nodes[None], values)[0]

    @cached_property
    def _lift(self) -> DirichletLift:
        problem = self.setup.problem
        tags = {c: tuple(d.tag for d in problem.dirichlet if d.component == c) for c in problem.physics.components}
        prescribed = [Prescribed(component, tuple(dict.fromkeys(on))) for component, on in tags.items() if on]
        return build_dirichlet_lift(self.setup.shape_map, problem.physics.components, prescribed)

    @cached_property
    def _free(self) -> Tensor:
        """(N, c), one where a component is not prescribed."""
        return (self._lift.factor != 0).double()

    @cached_property
    def _laplacians(self) -> tuple[SuperLU, ...]:
        """Of each velocity component on the reference mesh, at the nodes where it is free."""
        stiffness = weighted_stiffness(self.setup.shape_map.mesh, lambda x: np.ones(x.shape[:-1]))
        free = [np.flatnonzero(self._free[:, k].numpy()) for k in range(self._free.shape[1] - 1)]
        return tuple(splu(stiffness[index][:, index].tocsc()) for index in free)

    def _made(self, known: Sequence[Dataset]) -> Span:
        last = known[-LAST:]
        nodes = [self.setup.shape_map.nodes(one.theta[0]) for one in last]
        own = [one.solution[0].double() - self._lifting(at) for one, at in zip(last, nodes, strict=True)]
        moved = [tangent.double() for one in last[-WITH_TANGENTS:] for tangent in one.tangents[0]]
        none = torch.zeros(len(self._free), self._free.shape[1], 0, dtype=torch.float64)
        every = torch.stack([*own, *moved], -1) * self._free[..., None] if own else none
        pressures = _independent(every[:, -1])
        velocities = _independent(torch.cat([every[:, :-1], self._supremizers(pressures)], -1).flatten(0, 1))
        size = velocities.shape[-1]
        fields = every.new_zeros(*self._free.shape, size + pressures.shape[-1])
        fields[:, :-1, :size] = velocities.unflatten(0, (len(self._free), -1))
        fields[:, -1, size:] = pressures
        orthonormal = fields.flatten(0, 1)
        amplitudes = torch.stack([orthonormal.T @ one.flatten() for one in own]) if own else fields.new_zeros(0, 0)
        designs = torch.cat([one.theta for one in last]) if last else fields.new_zeros(0, 0)
        return Span(fields, (designs, amplitudes))

    def _supremizers(self, pressures: Tensor) -> Tensor:
        """(N, d, K) velocities that the divergence against pressures (N, K) has most of."""
        mesh = self.setup.shape_map.mesh
        equations = WeakEquations(self.setup.problem, mesh, self.setup.shape_map.reference_nodes)
        cells = equations.cells
        slopes = torch.einsum("mq,qij,mqjd->mqid", cells.weights, cells.gradients, cells.inverse_jacobian)
        values = torch.einsum("qi,mik->mqk", cells.values, pressures[cells.cells])
        local = torch.einsum("mqid,mqk->midk", slopes, values)
        loads = local.new_zeros(len(mesh.nodes), *local.shape[2:])
        loads = loads.index_add(0, cells.cells.flatten(), local.flatten(0, 1))
        found = torch.zeros_like(loads)
        for k, laplacian in enumerate(self._laplacians):
            free = self._free[:, k] != 0
            found[free, k] = torch.from_numpy(laplacian.solve(loads[free, k].numpy()))
        return found


def _independent(columns: Tensor) -> Tensor:
    """(N, k) orthonormal columns that span what columns (N, K) do, but for what hardly stands out."""
    if columns.shape[-1] == 0:
        return columns
    unit = columns / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)
    left, sizes, _ = torch.linalg.svd(unit, full_matrices=False)
    return left[:, sizes.square() > DEPENDENT * sizes[0].square()]


def flow_basis(setup: Setup, solutions: Callable[[], Sequence[Dataset]]) -> FlowBasis | None:
    """The model of a study of a flow; None for another physics, or conditions that it does not know."""
    problem = setup.problem
    if problem.physics.name not in FLOWS or problem.slip or problem.patches or problem.cases:
        return None
    return FlowBasis(setup, solutions)
