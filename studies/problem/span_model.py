"""A linear study in the span of a few fields that move with the nodes of its mesh: values and exact gradients.

The state u = G + v and the adjoints of all functionals are the Galerkin solutions in one span. So R(u; z) = 0 for the
adjoint z, J(u) is the adjoint-corrected value J(u) + R(u; z), and misses that of finite elements on the same mesh by
a(u_h - u, z_h - z) and a square of u_h - u: M. Pierce, M. Giles, SIAM Review 42 (2000) 247. The fields are constants
at the nodes, so that d/dX (J + R) with v and z held is the exact gradient of J(u).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve, eigh
from torch import Tensor

from shapewright.studies.problem.models import Array, designs_of, no_answers, unfolded
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.models.shapes import Shapes
from shapewright.surrogate.models.sparse_solution import Equations

DEPENDENT = 1e-12
"""Share of its energy by which a field has to stand out of the span of the others."""


@dataclass(frozen=True)
class SpanModel:
    """All functionals of a study in a span; see :class:`models.Model`.

    Attributes:
        problem: the study's.
        span: (N c, K) float64 fields, component by component at each node, zero where these are prescribed.
    """

    problem: ProblemOnMesh
    span: Array

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        setup = self.problem.setup
        theta = designs_of(setup, theta)
        values, gradients = no_answers(setup, theta)
        for index in np.flatnonzero(unfolded(setup, torch.from_numpy(theta))):
            values[index], gradients[index] = self._functionals(torch.from_numpy(theta[index]))
        return values, gradients

    def fields(self, theta: Tensor) -> Tensor:
        """(N, c) Galerkin solution at a design (P,)."""
        equations = self._equations(self.problem.unit_shapes(self.problem.setup.shape_map.nodes(theta)[None]))
        return self._solution(equations, self._reduced(equations))

    def _equations(self, shape: Shapes) -> Equations:
        return Equations(self.problem.physics, shape, self.problem.pattern)

    def _reduced(self, equations: Equations) -> _Reduced:
        right = equations.load - equations.matrix @ equations.shape.lifting.numpy().ravel()
        return _Reduced(self.span.T @ (equations.matrix @ self.span), self.span.T @ right)

    def _solution(self, equations: Equations, reduced: _Reduced) -> Tensor:
        lifting = equations.shape.lifting[0]
        return lifting + torch.from_numpy(self.span @ reduced.solve(reduced.right)).view_as(lifting)

    def _functionals(self, theta: Tensor) -> tuple[Array, Array]:
        """(J,) values and (J, P) gradients at a design (P,)."""
        setup, design = self.problem.setup, theta.clone().requires_grad_()
        moved = setup.shape_map.nodes(design)
        nodes = moved.detach().requires_grad_()
        with torch.enable_grad():
            data = self.problem.unit_shapes(nodes[None])
        equations = self._equations(Shapes(*(tensor.detach() for tensor in data.tensors)))
        reduced = self._reduced(equations)
        fields = self._solution(equations, reduced).requires_grad_()
        mesh = setup.shape_map.mesh
        values = integrate_all(setup.problem.functionals, setup.space, mesh, nodes[None], fields[None])[0]
        partials = [torch.autograd.grad(value, (fields, nodes), retain_graph=True, materialize_grads=True)
                    for value in values]  # fmt: skip
        by_fields = np.stack([by.numpy().ravel() for by, _ in partials], -1)
        adjoints = self.span @ reduced.solve(-self.span.T @ by_fields)
        tested = torch.from_numpy(adjoints).T.reshape(len(values), *fields.shape)
        by_nodes = torch.stack([by for _, by in partials]) + equations.by_nodes(fields.detach(), tested)
        by_lifting = torch.from_numpy(by_fields + equations.matrix @ adjoints).T.reshape(tested.shape)
        moving = self._of_moving_data(equations, data, fields.detach(), tested, by_lifting)
        for one, residual in zip(by_nodes, moving, strict=True):
            if residual.requires_grad:
                one += torch.autograd.grad(residual, nodes, retain_graph=True)[0]
        rows = [torch.autograd.grad(moved, design, by, retain_graph=True)[0] for by in by_nodes]
        return values.detach().numpy(), torch.stack(rows).numpy()

    def _of_moving_data(
        self, equations: Equations, data: Shapes, fields: Tensor, tested: Tensor, by_lifting: Tensor
    ) -> Tensor:
        """(J,) the part of J + R that depends on the nodes by data of the problem, and on facets."""
        found = torch.zeros(len(tested), dtype=fields.dtype)
        if data.lifting.requires_grad:
            found = found + torch.einsum("fnc,nc->f", by_lifting, data.lifting[0])
        if data.source.requires_grad:
            found = found - torch.einsum("fnc,nc->f", equations.source_weights(tested), data.source[0])
        if bool((data.flux != 0).any() or (data.robin != 0).any()):
            found = found + self._equations(data).facet_residual(fields, tested)
        return found

@dataclass(frozen=True)
class _Reduced:
    """A x = b of the amplitudes x in the span."""

    matrix: Array
    right: Array

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        damped = self.matrix + 1e-14 * np.diag(self.matrix.diagonal())
        return cho_factor(damped)

    def solve(self, right: Array) -> Array:
        """Amplitudes for any right-hand sides (K,) or (K, n)."""
        return cho_solve(self._factor, right)


def span_model(problem: ProblemOnMesh, theta: Tensor, fields: Tensor) -> SpanModel:
    """The model in the span of fields (K, N, c), orthonormal in energy at a design (P,); dependent ones are dropped."""
    columns = fields.flatten(1).T.numpy()
    shape = problem.unit_shapes(problem.setup.shape_map.nodes(theta)[None])
    stiffness = Equations(problem.physics, shape, problem.pattern).matrix
    energies = np.einsum("nk,nk->k", columns, stiffness @ columns)
    columns = columns[:, energies > 0] / np.sqrt(energies[energies > 0])
    shares, modes = eigh(columns.T @ (stiffness @ columns))
    kept = shares > DEPENDENT * shares.max(initial=0.0)
    return SpanModel(problem, columns @ (modes[:, kept] / np.sqrt(shares[kept])))
