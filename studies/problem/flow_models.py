"""A flow at any design of a study, sought among what is known: solutions, their design tangents, an operator's fields.

Velocities and pressures of solved designs and of their tangents, carried along with the nodes of the mesh, span a
reduced basis; the fields that an operator for all shapes gives for a design join it, if there is one. Each pressure p
comes with its supremizer, the velocity w with (grad w, grad v) = int p div v on the reference mesh, without which the
pressures are not stable (G. Rozza, K. Veroy, Comput. Methods Appl. Mech. Eng. 196 (2007) 1244).

A tangent costs a back-substitution in the factorization of its solution. With those along all parameters the model is
exact to first order in the fields at a solved design; for the dissipation, whose adjoint lies in the span with its
derivatives, it is so to third order in the value; with the adjoints of other functionals, to second order in theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor
from torch.autograd import grad

from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.stiffness import weighted_stiffness
from shapewright.studies.problem.known_solutions import KnownSolution
from shapewright.studies.problem.models import Array, designs_of, no_answers, unfolded
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.models.flow_operator import FlowOperator
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.models.shapes import Shapes, dimensionless
from shapewright.surrogate.models.weak_equations import FieldsAtPoints, WeakEquations, fields_at_points

GradientForm = Literal["lagrangian", "through_operator"]
FLOWS = ("stokes", "navier_stokes")
"""Physics of incompressible flow: velocities, then the pressure p."""
LAST = 12
"""Solutions of the study that join the span, at most: the last ones."""
WITH_TANGENTS = 1
"""Of these, how many join with their adjoints and tangents: those of the last one were enough for four flows."""
DEPENDENT = 1e-10
"""Share of the energy below which a field of length one does not stand out of the span of the others."""


class Start(NamedTuple):
    """A design (P,) and its fields (N, c) less the lifting, to begin with near it."""

    design: Tensor
    fields: Tensor


@dataclass(frozen=True)
class Span:
    """What solutions give.

    Attributes:
        velocities: (N, d, K), orthonormal, zero where their components are prescribed.
        pressures: (N, L), orthonormal.
        points: both at the quadrature points.
        starts: of Newton's method: the designs that were solved, then the last one that was asked about.
        solved: how many of them were solved.
    """

    velocities: Tensor
    pressures: Tensor
    points: list[FieldsAtPoints]
    starts: list[Start]
    solved: int


@dataclass(frozen=True)
class FlowModel:
    """The model of all functionals of a study of a flow; see :class:`models.Model`.

    Attributes:
        setup: study of a flow; see :func:`flow_basis`.
        solutions: finite-element solutions of it so far, each with its adjoints and tangents.
        network: operator for all shapes, if any.
        gradient: whether derivatives hold the operator's fields or go through it.
        centre: design (P,) whose fields of the operator are held everywhere.
    """

    setup: Setup
    solutions: Callable[[], Sequence[KnownSolution]] = tuple
    network: FlowOperator | None = None
    gradient: GradientForm = "lagrangian"
    centre: Tensor | None = None
    _spans: dict[int, Span] = field(default_factory=dict, repr=False)
    spans: ClassVar[bool] = True
    """It takes solutions with adjoints and tangents."""

    @cached_property
    def problem(self) -> ProblemOnMesh:
        """The study's problem as arrays."""
        return ProblemOnMesh(self.setup)

    def around(self, theta: Array) -> FlowModel:
        """See :class:`models.CentredModel`: the operator's fields are those of the centre."""
        return self if self.network is None else replace(self, centre=torch.from_numpy(theta.copy()), _spans={})

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
        nodes = self.setup.shape_map.nodes(theta)
        with torch.no_grad():
            lifting, basis = self._lifting(nodes), self._basis(nodes)
            found = self._solved(theta, nodes, lifting, basis)
        return torch.full_like(lifting, torch.nan) if found is None else lifting + basis @ found[0]

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
        design = theta.clone().requires_grad_()
        nodes = self.setup.shape_map.nodes(design)
        lifting, basis = self._lifting(nodes), self._basis(nodes)
        with torch.no_grad():
            found = self._solved(theta, nodes.detach(), lifting.detach(), basis.detach())
        if found is None:
            return None
        x, jacobian = found
        state = lifting + basis @ x
        values = self._integrals(nodes, state)
        # a functional of the shape alone does not depend on the state
        slopes = torch.stack([grad(value, state, retain_graph=True, materialize_grads=True)[0] for value in values], -1)
        y = torch.linalg.solve(jacobian.T, -torch.einsum("nck,ncj->kj", basis.detach(), slopes))
        equations = WeakEquations(*self._mesh, nodes)
        total = values + equations.residual(state, basis @ y)
        gradients = [torch.autograd.grad(one, design, retain_graph=True)[0] for one in total]
        return values.detach().numpy(), torch.stack(gradients).numpy()

    def _solved(self, theta: Tensor, nodes: Tensor, lifting: Tensor, basis: Tensor) -> tuple[Tensor, Tensor] | None:
        """(K,) amplitudes x at a design (P,), and the Jacobian (K, K) of the equations there."""
        if basis.shape[-1] == 0:
            return None
        span, bounds = self.span, self.setup.family.bounds
        apart = [float(((one.design - theta) / (bounds[:, 1] - bounds[:, 0])).norm()) for one in span.starts]
        near = span.starts[int(np.argmin(apart))].fields if apart else torch.zeros_like(lifting)
        equations = WeakEquations(*self._mesh, nodes)
        points = span.points if self._is_fixed else fields_at_points(*self._mesh, basis)
        found = equations.solve(lifting, points, torch.einsum("nck,nc->k", basis, near))
        if found is not None:
            span.starts[span.solved :] = [Start(theta.detach().clone(), basis @ found[0])]
        return found

    @property
    def _mesh(self) -> tuple[Problem, Mesh]:
        return self.setup.problem, self.setup.shape_map.mesh

    def _basis(self, nodes: Tensor) -> Tensor:
        """(N, c, K) orthonormal fields of the span on the mesh with nodes (N, 2), the operator's among them."""
        known = self.span.velocities, self.span.pressures
        if self._is_fixed:
            return _joined(*known)
        assert self.network is not None
        with torch.set_grad_enabled(self.gradient == "through_operator" and torch.is_grad_enabled()):
            velocities, pressures = self._given(self.network, nodes)
            velocities = torch.cat([known[0], velocities, self._supremizers(pressures)], -1)
            return _joined(_independent(velocities), _independent(torch.cat([known[1], pressures], -1)))

    @property
    def _is_fixed(self) -> bool:
        """Whether the span is the same for all designs."""
        return self.network is None or self.centre is not None

    def _given(self, network: FlowOperator, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities (N, d, K) and pressures (N, L) of the operator on the mesh with nodes (N, 2)."""
        shapes, _ = dimensionless(*velocity_problem(self.setup, nodes[None]))
        found = network.both(shapes.to(next(network.parameters())))
        velocities, pressures = (part[0].to(nodes) for part in found)
        return velocities * self.problem.free[:, :-1, None], self._pinned(pressures)

    def _pinned(self, pressures: Tensor) -> Tensor:
        """Pressures (N, L) that vanish where the study pins their level."""
        mesh = self.setup.shape_map.mesh
        for pin in self.setup.problem.pins:
            corners = np.unique(mesh.facets_on(pin.tag)[:, :2])
            at = corners[np.lexsort(mesh.nodes[corners].T[::-1])[0]]
            pressures = pressures - pressures[at]
        return pressures

    def _integrals(self, nodes: Tensor, fields: Tensor) -> Tensor:
        """(J,) functionals."""
        setup = self.setup
        found = integrate_all(setup.problem.functionals, setup.space, setup.shape_map.mesh, nodes[None], fields[None])
        return found[0]

    def _lifting(self, nodes: Tensor) -> Tensor:
        """(N, c) fields with the prescribed values on the mesh with nodes (N, 2)."""
        return self.problem.lifting(nodes[None])[0]

    @cached_property
    def _laplacians(self) -> tuple[SuperLU, ...]:
        """Of each velocity component on the reference mesh, at the nodes where it is free."""
        stiffness = weighted_stiffness(self.setup.shape_map.mesh, lambda x: np.ones(x.shape[:-1]))
        free = [np.flatnonzero(self.problem.free[:, k].numpy()) for k in range(self.problem.free.shape[1] - 1)]
        return tuple(splu(stiffness[index][:, index].tocsc()) for index in free)

    def _made(self, known: Sequence[KnownSolution]) -> Span:
        last = known[-LAST:]
        beside = [one.span[1:] for one in last[-WITH_TANGENTS:]]
        none = torch.zeros(0, *self.problem.free.shape, dtype=torch.float64)
        every = torch.cat([none, *[one.span[:1] for one in last], *beside]).movedim(0, -1)
        velocities, pressures = every[:, :-1], every[:, -1]
        if self.network is not None and self.centre is not None:
            with torch.no_grad():
                more = self._given(self.network, self.setup.shape_map.nodes(self.centre))
            velocities, pressures = torch.cat([velocities, more[0]], -1), torch.cat([pressures, more[1]], -1)
        pressures = _independent(pressures)
        velocities = _independent(torch.cat([velocities, self._supremizers(pressures)], -1))
        starts = [Start(one.theta, one.span[0]) for one in last]
        points = fields_at_points(*self._mesh, _joined(velocities, pressures))
        return Span(velocities, pressures, points, starts, len(starts))

    def _supremizers(self, pressures: Tensor) -> Tensor:
        """(N, d, K) velocities that the divergence against pressures (N, K) has most of."""
        mesh = self.setup.shape_map.mesh
        cells = cell_points(mesh, self.setup.shape_map.reference_nodes)
        slopes = torch.einsum("mq,qij,mqjd->mqid", cells.weights, cells.gradients, cells.inverse_jacobian)
        values = torch.einsum("qi,mik->mqk", cells.values, pressures[cells.cells])
        local = torch.einsum("mqid,mqk->midk", slopes, values)
        loads = local.new_zeros(len(mesh.nodes), *local.shape[2:])
        loads = loads.index_add(0, cells.cells.flatten(), local.flatten(0, 1))
        columns = []
        for k, laplacian in enumerate(self._laplacians):
            free = torch.nonzero(self.problem.free[:, k])[:, 0]
            found = _Solved.apply(loads[free, k], laplacian)
            columns.append(torch.zeros_like(loads[:, k]).index_copy(0, free, found))
        return torch.stack(columns, 1)


class _Solved(torch.autograd.Function):
    """Solutions of a symmetric sparse system for columns (n, K), differentiable in them."""

    @staticmethod
    def forward(ctx: Any, right: Tensor, factors: SuperLU) -> Tensor:
        ctx.factors = factors
        return torch.from_numpy(factors.solve(right.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.factors.solve(slopes[0].contiguous().numpy())), None


def _joined(velocities: Tensor, pressures: Tensor) -> Tensor:
    """(N, d + 1, K + L) fields: velocities (N, d, K) without pressure, pressures (N, L) without velocity."""
    above = torch.cat([velocities, velocities.new_zeros(*velocities.shape[:2], pressures.shape[-1])], -1)
    below = torch.cat([pressures.new_zeros(len(pressures), velocities.shape[-1]), pressures], -1)
    return torch.cat([above, below[:, None]], 1)


def _independent(columns: Tensor) -> Tensor:
    """(..., k) orthonormal columns that span what columns (..., K) do, but for what hardly stands out.

    They are combinations of the columns, which derivatives hold: the span does not depend on them.
    """
    if columns.shape[-1] == 0:
        return columns
    held = columns.detach().flatten(0, -2)
    size = held.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)
    _, sizes, right = torch.linalg.svd(held / size, full_matrices=False)
    kept = sizes.square() > DEPENDENT * sizes[0].square()
    return columns @ (right[kept].T / size[:, None] / sizes[kept])


def velocity_problem(setup: Setup, nodes: Tensor) -> tuple[Shapes, Tensor]:
    """Domains with nodes (B, N, 2) and what is given of the velocity, in the study's units, and the (B,) viscosity."""
    shapes, viscosity = ProblemOnMesh(setup).shapes(nodes)
    given = ("factor", "lifting", "prescribed", "source", "flux")
    return replace(shapes, **{name: getattr(shapes, name)[..., :-1] for name in given}), viscosity


def flow_basis(setup: Setup, solutions: Callable[[], Sequence[KnownSolution]] = tuple) -> FlowModel | None:
    """The model of a study of a flow; None for another physics, or conditions that it does not know."""
    problem = setup.problem
    if problem.physics.name not in FLOWS or problem.slip or problem.patches or problem.cases:
        return None
    return FlowModel(setup, solutions)


def flow_problem(setup: Setup, operator: str) -> Shapes | list[str]:
    """The dimensionless problem of the start design, or why an operator cannot take it."""
    problem = setup.problem
    given = {"slip": problem.slip, "load cases": tuple(problem.cases), "patch loads": problem.patches}
    found = [f"{what} are given; operator {operator} knows none" for what, entries in given.items() if entries]
    pressures = [d.tag for d in problem.dirichlet if d.component == "p"]
    pressures += [n.tag for n in problem.natural if n.component == "p"]
    pressures += ["the domain"] if "p" in problem.sources else []
    found += [f"the pressure is given on {tag}; operator {operator} takes tractions of u and v" for tag in pressures]
    if found:
        return found
    try:
        return dimensionless(*velocity_problem(setup, setup.shape_map.nodes(setup.initial[None])))[0]
    except (ValueError, KeyError) as error:
        return [f"{error}; operator {operator} takes constant coefficients and data of the position alone"]
