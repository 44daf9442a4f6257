"""An operator for all shapes as the model of a study: no samples, no training.

A design of the study becomes a dimensionless problem on its mapped mesh; the operator gives fields, and the solution is
the best in their span. Functionals are evaluated on the study's own mesh in double precision. Two forms of the
gradient: ``lagrangian`` holds the operator's nodal fields, and is that of J + R at the state and the adjoint that are
best in the span (:mod:`problem.span_model`); ``through_operator`` differentiates the operator, too.

Finite-element solutions of other designs of the study, with their adjoints and tangents, join the span, carried along
with the nodes of the mesh: there values and gradients are exact, and between them the span is that of a reduced basis
(:mod:`problem.known_solutions`) that the operator completes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shapewright.studies.problem.known_solutions import KnownSolution
from shapewright.studies.problem.linear_physics import PHYSICS_OF
from shapewright.studies.problem.models import Array, designs_of, no_answers, unfolded
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh, linear_problem
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.span_model import SpanModel, span_model
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.models.galerkin import assemble, solve
from shapewright.surrogate.models.shape_operator import ShapeOperator
from shapewright.surrogate.models.shapes import Shapes, dimensionless

GradientForm = Literal["lagrangian", "through_operator"]
LAST = 12
"""Solutions of the study that join the span, at most: the last ones."""


@dataclass(frozen=True)
class OperatorModel:
    """The operator as a model of all functionals of a study; see :class:`models.CentredModel`."""

    spans: ClassVar[bool] = True
    setup: Setup
    network: ShapeOperator | None
    gradient: GradientForm = "lagrangian"
    solutions: Callable[[], Sequence[KnownSolution]] = tuple
    """Finite-element solutions of designs of the study so far."""

    @cached_property
    def problem(self) -> ProblemOnMesh:
        """The study's problem as arrays."""
        return ProblemOnMesh(self.setup)

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        theta = designs_of(self.setup, theta)
        values, gradients = no_answers(self.setup, theta)
        for index in np.flatnonzero(unfolded(self.setup, torch.from_numpy(theta))):
            try:
                values[index], gradients[index] = self._functionals(torch.from_numpy(theta[index]))
            except OutsideGridError:
                continue
        return values, gradients

    def around(self, theta: ArrayLike) -> SpanModel:
        """The model with the operator's fields held as they are at a design (P,).

        Raises:
            OutsideGridError: the design lies outside the operator's box.
        """
        design = torch.as_tensor(theta, dtype=torch.float64)
        with torch.no_grad():
            return span_model(self.problem, design, self._span(design)[0].movedim(-1, 0))

    def fields(self, theta: Tensor) -> Tensor:
        """(N, c) fields of one design (P,), float64."""
        return self.around(theta).fields(theta)

    def _functionals(self, theta: Tensor) -> tuple[Array, Array]:
        """(J,) values and (J, P) gradients at a design (P,)."""
        if self.gradient == "lagrangian":
            values, gradients = self.around(theta).evaluate(theta.numpy()[None])
            return values[0], gradients[0]
        setup, design = self.setup, theta.clone().requires_grad_()
        nodes = setup.shape_map.nodes(design)[None]
        shape, span = self.problem.unit_shapes(nodes), self._span(design)
        x = solve(assemble(self.problem.physics, shape, span))
        fields = shape.lifting + torch.einsum("bnck,bk->bnc", span, x)
        found = integrate_all(setup.problem.functionals, setup.space, setup.shape_map.mesh, nodes, fields)[0]
        rows = [torch.autograd.grad(value, design, retain_graph=True)[0] for value in found]
        return found.detach().numpy(), torch.stack(rows).numpy()

    def _span(self, theta: Tensor) -> Tensor:
        """(1, N, c, K) fields of the operator at a design (P,), and those of known solutions."""
        known = [solution.span.permute(1, 2, 0)[None] for solution in self.solutions()[-LAST:]]
        if self.network is None:
            return torch.cat(known, -1)
        shapes, _ = dimensionless(*self.problem.shapes(self.setup.shape_map.nodes(theta)[None]))
        return torch.cat([self._basis(self.network, shapes), *known], -1)

    def _basis(self, network: ShapeOperator, shapes: Shapes) -> Tensor:
        """(1, N, c, K) fields of the operator."""
        return network.basis(shapes.to(next(network.parameters()))).to(shapes.nodes)


def reduced_basis(setup: Setup, solutions: Callable[[], Sequence[KnownSolution]] = tuple) -> OperatorModel | None:
    """The model of a study in the span of its own finite-element solutions; None where it is no linear problem."""
    linear = any(setup.problem.physics.name in served for served in PHYSICS_OF.values())
    if not linear or not isinstance(linear_problem(setup, "a reduced basis"), Shapes):
        return None
    return OperatorModel(setup, None, solutions=solutions)
