"""An operator for all shapes as the model of a study: no samples, no training.

A design of the study becomes a dimensionless problem on its mapped mesh; the operator gives fields, and the solution is
the best in their span. Functionals are evaluated on the study's own mesh in double precision. Two forms of the
gradient: ``lagrangian`` differentiates all but the operator, whose nodal fields are held (for a self-adjoint objective
this is the derivative of J + R at the predicted state and adjoint); ``through_operator`` differentiates it too.

Finite-element solutions of other designs of the study join the span, carried along with the nodes of the mesh: there
the model is exact, and between them it is a reduced basis (A. Quarteroni, A. Manzoni, F. Negri, *Reduced Basis Methods
for Partial Differential Equations* (2016), chapter 3) that the operator completes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shapewright.studies.problem.linear_physics import PHYSICS_OF
from shapewright.studies.problem.models import Array, designs_of, no_answers, unfolded
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh, linear_problem
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.models.galerkin import assemble, solve
from shapewright.surrogate.models.shape_operator import ShapeOperator
from shapewright.surrogate.models.shapes import Frame, Shapes, dimensionless

GradientForm = Literal["lagrangian", "through_operator"]
AT_ONCE = 4
"""Designs evaluated together."""
LAST = 12
"""Solutions of the study that join the span, at most: the last ones."""


@dataclass(frozen=True)
class OperatorModel:
    """The operator as a model of all functionals of a study; see :class:`models.Model`."""

    setup: Setup
    network: ShapeOperator | None
    gradient: GradientForm = "lagrangian"
    solutions: Callable[[], Sequence[Tensor]] = tuple
    """(N, c) finite-element solutions of designs of the study so far, in its units."""

    @cached_property
    def problem(self) -> ProblemOnMesh:
        """The study's problem as arrays."""
        return ProblemOnMesh(self.setup)

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        theta = designs_of(self.setup, theta)
        values, gradients = no_answers(self.setup, theta)
        good = np.flatnonzero(unfolded(self.setup, torch.from_numpy(theta)))
        for part in np.array_split(good, max(1, -(-len(good) // AT_ONCE))):
            if len(part):
                values[part], gradients[part] = self._functionals(theta[part])
        return values, gradients

    def fields(self, theta: Tensor) -> Tensor:
        """(N, c) fields of one design (P,), float64."""
        with torch.no_grad():
            return self._solution(self.setup.shape_map.nodes(theta[None]))[0]

    def _functionals(self, theta: Array) -> tuple[Array, Array]:
        designs = torch.from_numpy(theta).requires_grad_()
        try:
            values, gradients = self._through(designs) if self.gradient == "through_operator" else self._held(designs)
        except OutsideGridError:
            if len(theta) == 1:
                return no_answers(self.setup, theta)
            alone = [self._functionals(design[None]) for design in theta]  # the others do have an answer
            return np.concatenate([a[0] for a in alone]), np.concatenate([a[1] for a in alone])
        return values.detach().numpy(), torch.stack(gradients, 1).numpy()

    def _through(self, designs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, J) values, and J gradients (B, P) of all that they depend on."""
        nodes = self.setup.shape_map.nodes(designs)
        values = self._integrals(nodes, self._solution(nodes))
        return values, [_gradient(values[:, j].sum(), designs) for j in range(values.shape[1])]

    def _held(self, designs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same with the fields held at the nodes, by the adjoint y of the amplitudes x.

        With A x = b and A y = -dJ/dx, the gradient is that of J + y . (A x - b) with x and y held.
        """
        nodes = self.setup.shape_map.nodes(designs)
        shapes, frame = dimensionless(*self.problem.shapes(nodes))
        with torch.no_grad():
            basis = self._span(shapes, frame)
            system = assemble(self.problem.physics, shapes, basis)
        x = solve(system).requires_grad_()
        values, gradients = self._integrals(nodes, _combined(shapes, frame, basis, x)), []
        for j in range(values.shape[1]):
            inputs = (x, designs)  # a functional of the shape alone does not depend on the fields
            by_x, direct = torch.autograd.grad(values[:, j].sum(), inputs, retain_graph=True, materialize_grads=True)
            y = -solve(replace(system, load=by_x))
            both = torch.einsum("bnck,bkf->bncf", basis, torch.stack([x.detach(), y], -1))
            pair = assemble(self.problem.physics, shapes, both)
            gradients.append(direct + _gradient((pair.matrix[:, 0, 1] - pair.load[:, 1]).sum(), designs))
        return values, gradients

    def _integrals(self, nodes: Tensor, fields: Tensor) -> Tensor:
        """(B, J) functionals."""
        setup = self.setup
        return integrate_all(setup.problem.functionals, setup.space, setup.shape_map.mesh, nodes, fields)

    def _solution(self, nodes: Tensor) -> Tensor:
        """(B, N, c) fields in the study's units for nodes (B, N, 2)."""
        shapes, frame = dimensionless(*self.problem.shapes(nodes))
        basis = self._span(shapes, frame)
        return _combined(shapes, frame, basis, solve(assemble(self.problem.physics, shapes, basis)))

    def _span(self, shapes: Shapes, frame: Frame) -> Tensor:
        """(B, N, c, K + S) fields of the operator, then solutions of the study."""
        return torch.cat([self._basis(shapes), self._known(shapes, frame)], -1)

    def _known(self, shapes: Shapes, frame: Frame) -> Tensor:
        """(B, N, c, S) last solutions less the liftings, held at the nodes; zero where a component is prescribed."""
        last = [solution.to(shapes.nodes) for solution in self.solutions()[-LAST:]]
        if not last:
            return shapes.nodes.new_zeros(*shapes.factor.shape, 0)
        load, free = frame.load.detach()[:, None, None], (shapes.factor != 0).to(shapes.nodes)
        return torch.stack([(one / load - shapes.lifting.detach()) * free for one in last], -1)

    def _basis(self, shapes: Shapes) -> Tensor:
        """(B, N, c, K) fields of the operator, none without one."""
        if self.network is None:
            return shapes.nodes.new_zeros(*shapes.factor.shape, 0)
        like = next(self.network.parameters())
        with torch.set_grad_enabled(self.gradient == "through_operator" and torch.is_grad_enabled()):
            return self.network.basis(shapes.to(like)).to(shapes.nodes)


def _combined(shapes: Shapes, frame: Frame, basis: Tensor, x: Tensor) -> Tensor:
    """(B, N, c) lifting and fields with amplitudes x (B, K), in the study's units."""
    return (shapes.lifting + torch.einsum("bnck,bk->bnc", basis, x)) * frame.load[:, None, None]


def _gradient(value: Tensor, designs: Tensor) -> Tensor:
    return torch.autograd.grad(value, designs, retain_graph=True)[0]


def reduced_basis(setup: Setup, solutions: Callable[[], Sequence[Tensor]]) -> OperatorModel | None:
    """The model of a study in the span of its own finite-element solutions; None where it is no linear problem."""
    linear = any(setup.problem.physics.name in served for served in PHYSICS_OF.values())
    if not linear or not isinstance(linear_problem(setup, "a reduced basis"), Shapes):
        return None
    return OperatorModel(setup, None, solutions=solutions)
