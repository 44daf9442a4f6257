"""A linear problem in the span of earlier solutions and their tangents, on the mesh that moves.

The span is that of the leading modes of all snapshots in the energy norm (proper orthogonal decomposition), the dof
values of which are carried along with the nodes. In it the solution is the Galerkin one, and values, adjoint gradients
and tangents are the exact ones of the reduced problem. A. Quarteroni, A. Manzoni, F. Negri, *Reduced Basis Methods for
Partial Differential Equations* (2016), chapters 3 and 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse import csr_matrix

from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.fem.backend import fem
from shapewright.solvers.fem.factorization import Array, Factorization
from shapewright.solvers.fem.load_cases import CaseSolution, solver_of
from shapewright.solvers.fem.solver import FemSolution

MOST_MODES = 160
"""Largest number of modes of a basis."""
NEGLIGIBLE = 1e-10
"""Energy of a mode, relative to that of the first one, below which it is left out: a share of 1e-5 in the fields."""


class Basis:
    """Modes of snapshots: ``vectors`` (D, K), orthonormal in the energy of a matrix, vanish where values are given."""

    def __init__(self) -> None:
        self.vectors: Array = np.zeros((0, 0))
        self.version = 0
        self._weights: Array = np.zeros(0)

    def __len__(self) -> int:
        return self.vectors.shape[1]

    def add(self, snapshots: Array, matrix: csr_matrix) -> None:
        """Take up snapshots (D, S) that vanish where values are prescribed; ``matrix`` (D, D) gives their energy."""
        every = snapshots if not len(self) else np.hstack([self.vectors * self._weights, snapshots])
        self.vectors, self._weights = modes_of(every, matrix)
        self.version += 1


def modes_of(snapshots: Array, matrix: csr_matrix) -> tuple[Array, Array]:
    """(D, K) modes of snapshots (D, S), orthonormal in the energy of ``matrix``, and their sizes, largest first."""
    values, combined = eigh(snapshots.T @ (matrix @ snapshots))
    kept = np.flatnonzero(values > NEGLIGIBLE * max(values[-1], 1e-300))[::-1][:MOST_MODES]
    sizes = np.sqrt(values[kept])
    return snapshots @ (combined[:, kept] / sizes), sizes


class Projection(Factorization):
    """The Jacobian projected onto a basis, in place of its factors; arguments as of :class:`Factorization`."""

    exact = False

    def __init__(self, form: fem.Form, constrained: NDArray[np.int64], basis: Basis) -> None:
        super().__init__(form, constrained)
        self.method = "reduced basis"
        self._basis, self._held = basis, constrained
        self._assembled = 0
        self._factors: tuple[tuple[Array, bool] | None, tuple[int, int]] = (None, (-1, -1))

    def _prepare(self) -> None:
        self._assembled += 1

    def solve(self, right: Array) -> Array:
        """The combination of the basis with the least energy, and the prescribed entries of ``right``."""
        solution = np.zeros_like(right)
        if len(self._basis):
            vectors, now = self._basis.vectors, (self._assembled, self._basis.version)
            if self._factors[1] != now:
                self._factors = cho_factor(vectors.T @ (self.entries() @ vectors)), now
            free = right.copy()
            free[self._held] = 0.0
            solution = vectors @ cho_solve(self._factors[0], vectors.T @ free)
        solution[self._held] = right[self._held]
        return solution

    solve_transposed = solve


class ReducedSolver:
    """Solves a linear problem with a symmetric matrix in the span of its snapshots.

    Args:
        problem: to solve.
        mesh: whose nodes move; it gives the energy of the snapshots.
    """

    def __init__(self, problem: Problem, mesh: Mesh) -> None:
        self.basis = Basis()
        self._made: Projection | None = None
        self._solver = solver_of(problem, mesh, self._projection)
        self.states = self._solver.states
        self._solver.solve()
        assert self._made is not None  # made with the solver
        self._energy: csr_matrix = self._made.entries()

    def _projection(self, form: fem.Form, constrained: NDArray[np.int64]) -> Projection:
        self._made = Projection(form, constrained, self.basis)
        return self._made

    def add(self, nodal: list[Array], weight: float = 1.0) -> None:
        """Take up snapshots (N, c) each; by ``weight`` they count for more or less in the choice of modes."""
        assert self._made is not None
        columns = np.stack([self.states.of_nodal(one) for one in nodal], -1)
        columns[self._made._held] = 0.0
        self.basis.add(weight * columns, self._energy)

    def solve(self, nodes: Array) -> FemSolution | CaseSolution:
        """Solution with the mesh nodes at ``nodes`` (N, d); errors as of :meth:`solver.FemSolver.solve`."""
        return self._solver.solve(nodes)
