"""Finite-element solutions of a problem on a moving mesh, with tangents and adjoint shape gradients.

With state u, mesh nodes X, residual R(u, X) = 0 on the free dofs and u = g(X) on the constrained ones:

- tangent along a nodal velocity V: (dR/du) du = -(dR/dX) V on the free dofs, du = grad g . V on the others;
- adjoint of a functional J: (dR/du)^T p = -dJ/du on the free dofs, p = 0 on the others, and
  dJ/dX = J_X + p . R_X + (dJ/du + (dR/du)^T p)_constrained grad g.

See M. B. Giles, N. A. Pierce, Flow Turbul. Combust. 65 (2000) 393 for the discrete adjoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geometries.mesh import TaggedMesh
from solvers.backend import fem
from solvers.boundary_values import boundary_values
from solvers.discretization import Discretization
from solvers.errors import ProblemError, SolveError, StaleSolutionError
from solvers.factorization import Factorization
from solvers.problem import Problem
from solvers.weak_form import WeakForm

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FemTangent:
    """Derivatives of a solution along a nodal velocity.

    Attributes:
        fields: field -> (N, n_components) material derivative at all mesh nodes.
        values: functional -> its derivative.
    """

    fields: Mapping[str, Array]
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class FemSolution:
    """A solution; its fields and values stay, its derivatives are there until the solver solves again.

    Attributes:
        nodes: (N, 2) positions of the mesh nodes.
        fields: field -> (N, n_components) values at all mesh nodes, in the order of the TaggedMesh; a field
            of degree 1 is interpolated to the middles of the edges.
        values: functional -> value.
        dofs: number of degrees of freedom, constrained ones included.
        residuals: norms of the free residual, before the first Newton step and after each.
    """

    nodes: Array
    fields: Mapping[str, Array]
    values: Mapping[str, float]
    dofs: int
    residuals: tuple[float, ...]
    _solver: FemSolver = field(repr=False)
    _solve_number: int = field(repr=False)

    def gradient(self, name: str) -> Array:
        """(N, 2) derivative of the functional ``name`` by the node positions, from one adjoint solve.

        Raises StaleSolutionError after a later solve, ProblemError for an unknown functional.
        """
        return self._solver._gradient(self, name)

    def tangent(self, velocity: Array) -> FemTangent:
        """Material derivatives for nodes that move with ``velocity`` (N, 2), by one back-substitution.

        Raises StaleSolutionError after a later solve, ProblemError for a velocity of a wrong shape.
        """
        return self._solver._tangent(self, velocity)


class FemSolver:
    """Solves one problem on one mesh whose nodes move; forms and symbolic factorisation are made once.

    Args:
        problem: what to solve.
        mesh: reference mesh with tagged boundary.
        quadrature_degree: polynomial degree that the quadrature integrates exactly on straight cells.
        tolerance: Newton stops when the free residual has fallen by this factor, or to its rounding error.
        max_iterations: Newton steps before giving up.

    Raises:
        ProblemError: unknown tag, or a mesh that is not one.
        SolveError: folded mesh.
    """

    def __init__(
        self,
        problem: Problem,
        mesh: TaggedMesh,
        *,
        quadrature_degree: int = 6,
        tolerance: float = 1e-10,
        max_iterations: int = 25,
    ) -> None:
        unknown = sorted(problem.tags() - set(mesh.tag_names))
        if unknown:
            known = ", ".join(mesh.tag_names)
            raise ProblemError(f"unknown boundary tag '{unknown[0]}'; this mesh has {known}")
        self.problem = problem
        self.mesh = mesh
        self._tolerance, self._max_iterations = tolerance, max_iterations
        self._discretization = Discretization(mesh, problem.physics.fields)
        self._boundary = boundary_values(problem.dirichlet, self._discretization)
        self._form = WeakForm(problem, self._discretization, quadrature_degree)
        self._functionals = {f.name: self._form.functional(f) for f in problem.functionals}
        self._factorization = Factorization(self._form.jacobian, self._boundary.dofs)
        self._solve_number = 0
        self._linearized_at = -1
        self._regular = False
        self._slopes = np.zeros((len(self._boundary.dofs), 2))
        self._partials: dict[str, tuple[Array, Array]] = {}

    def solve(self, nodes: Array | None = None) -> FemSolution:
        """Solve with the mesh nodes at ``nodes`` (N, 2), by default where the reference mesh has them.

        Raises:
            ProblemError: nodes of a wrong shape, boundary values that are not finite.
            SolveError: folded mesh, singular problem, no convergence, values that are not finite.
        """
        nodes = np.array(self.mesh.nodes if nodes is None else nodes, dtype=np.float64)
        self._discretization.check_nodes(nodes)
        self._solve_number += 1
        self._discretization.move(nodes)
        values, self._slopes = self._boundary.evaluate(nodes)
        self._partials.clear()
        state = self._form.state.x.array
        state[:] = 0.0
        state[self._boundary.dofs] = values
        residuals = self._newton(state)
        return FemSolution(
            nodes=nodes,
            fields=self._fields(state),
            values={name: self._value(name) for name in self._functionals},
            dofs=self._discretization.dofs,
            residuals=residuals,
            _solver=self,
            _solve_number=self._solve_number,
        )

    def _newton(self, state: Array) -> tuple[float, ...]:
        residual = self._free_residual()
        norms = [float(np.linalg.norm(residual))]
        if not np.isfinite(norms[0]):
            raise SolveError(
                "the first residual is not finite: look at coefficients, sources and boundary fluxes"
            )
        for step in range(self._max_iterations):
            if step == 0 or not self._form.linear:
                self._factorization.assemble()
            if not self._regular:
                self._check_singular()
            state -= self._factorization.solve(residual)
            residual = self._free_residual()
            norms.append(float(np.linalg.norm(residual)))
            if not np.isfinite(norms[-1]):
                raise SolveError(
                    f"Newton step {step + 1} has a residual that is not finite: {_history(norms)}"
                )
            if norms[-1] <= max(self._tolerance * norms[0], min(self._rounding(state), 1e-6 * norms[0])):
                self._linearized_at = self._solve_number if self._form.linear else -1
                return tuple(norms)
        raise SolveError(
            f"Newton did not converge in {self._max_iterations} steps to {self._tolerance:g} of the first "
            f"residual: {_history(norms)}"
        )

    def _rounding(self, state: Array) -> float:
        """Size of a residual that is rounding error only: ill-conditioned problems get no further."""
        return 10 * float(np.finfo(float).eps * self._factorization.norm * np.linalg.norm(state))

    def _check_singular(self) -> None:
        """Refuse a problem that determines a component only up to a constant."""
        for component, dofs in self._discretization.component_dofs.items():
            constant = np.zeros(self._discretization.dofs)
            constant[dofs] = 1.0
            constant[self._boundary.dofs] = 0.0
            if self._factorization.annihilates(constant):
                raise SolveError(
                    f"the problem is singular, it determines '{component}' only up to a constant: give "
                    f"'{component}' a boundary value or a Robin condition, or leave part of the boundary free"
                )
        self._regular = True

    def _free_residual(self) -> Array:
        residual = self._assemble(self._form.residual)
        residual[self._boundary.dofs] = 0.0
        return residual

    def _assemble(self, form: fem.Form | None) -> Array:
        """The vector of a linear form; zero in the mixed space for None."""
        if form is None:
            return np.zeros(self._discretization.dofs)
        return fem.assemble_vector(form).array

    def _value(self, name: str) -> float:
        value = float(fem.assemble_scalar(self._functionals[name].value))
        if not np.isfinite(value):
            raise SolveError(f"the functional '{name}' is not finite: {value}")
        return value

    def _fields(self, state: Array) -> dict[str, Array]:
        nodal = self._discretization.nodal
        fields = self.problem.physics.fields
        return {f.name: np.stack([nodal(c, state) for c in f.components], -1) for f in fields}

    def _linearize(self, solution: FemSolution) -> None:
        """Make sure that the factorisation is that of ``solution``."""
        if solution._solve_number != self._solve_number:
            raise StaleSolutionError(
                "the solver has solved again since; take gradients and tangents before the next solve"
            )
        if self._linearized_at != self._solve_number:
            self._factorization.assemble()
            self._linearized_at = self._solve_number

    def _partial(self, name: str) -> tuple[Array, Array]:
        """Partial derivatives of a functional by the state and by the nodes, at the present solution."""
        if name not in self._partials:
            functional = self._functionals[name]
            self._partials[name] = self._assemble(functional.by_state), self._assemble(functional.by_nodes)
        return self._partials[name]

    def _gradient(self, solution: FemSolution, name: str) -> Array:
        if name not in self._functionals:
            known = ", ".join(self._functionals) or "none"
            raise ProblemError(f"unknown functional '{name}'; this problem has {known}")
        self._linearize(solution)
        by_state, by_nodes = self._partial(name)
        dofs = self._boundary.dofs
        right = -by_state
        right[dofs] = 0.0
        adjoint = self._factorization.solve_transposed(right)
        self._form.adjoint.x.array[:] = adjoint
        by_nodes = by_nodes + self._assemble(self._form.adjoint_by_nodes)
        gradient = self._discretization.nodes_from_space(by_nodes)
        reaction = (by_state + self._factorization.multiply_transposed(adjoint))[dofs]
        np.add.at(gradient, self._boundary.nodes, reaction[:, None] * self._slopes)
        return gradient

    def _tangent(self, solution: FemSolution, velocity: Array) -> FemTangent:
        velocity = np.asarray(velocity, dtype=np.float64)
        if velocity.shape != solution.nodes.shape:
            raise ProblemError(f"velocity has shape {velocity.shape}; this mesh needs {solution.nodes.shape}")
        self._linearize(solution)
        direction = self._discretization.nodes_to_space(velocity)
        self._form.velocity.x.array[:] = direction
        prescribed = np.zeros(self._discretization.dofs)
        prescribed[self._boundary.dofs] = (self._slopes * velocity[self._boundary.nodes]).sum(-1)
        right = -self._assemble(self._form.residual_by_velocity) - self._factorization.multiply(prescribed)
        right[self._boundary.dofs] = prescribed[self._boundary.dofs]
        state = self._factorization.solve(right)
        values = {}
        for name in self._functionals:
            by_state, by_nodes = self._partial(name)
            values[name] = float(by_nodes @ direction + by_state @ state)
        return FemTangent(self._fields(state), values)


def _history(norms: list[float]) -> str:
    return "residuals " + ", ".join(f"{norm:.2e}" for norm in norms)
