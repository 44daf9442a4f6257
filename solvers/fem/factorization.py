"""Sparse LU factorisation by MUMPS through PETSc, with its symbolic part kept between shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.backend import PETSc, fem, fem_petsc

Array = NDArray[np.float64]


class Factorization:
    """The Jacobian of a discrete problem, whole and with its constrained rows and columns made unit ones.

    ``matrix`` is the whole one, ``norm`` its largest absolute row sum; the solves use the
    constrained one.
    """

    def __init__(self, form: fem.Form, constrained: NDArray[np.int64]) -> None:
        self._form = form
        self._constrained = constrained.astype(PETSc.IntType)
        self.matrix: PETSc.Mat = fem_petsc.create_matrix(form)
        self.norm = 0.0
        self._reduced: PETSc.Mat | None = None
        self._solver = PETSc.KSP().create(self.matrix.comm)
        self._solver.setType(PETSc.KSP.Type.PREONLY)
        preconditioner = self._solver.getPC()
        preconditioner.setType(PETSc.PC.Type.LU)
        preconditioner.setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
        self._right, self._left = self.matrix.createVecs()

    def assemble(self) -> None:
        """Assemble the Jacobian at the present state; the next solve factorises it. SolveError if it is not finite."""
        self.matrix.zeroEntries()
        fem_petsc.assemble_matrix(self.matrix, self._form)
        self.matrix.assemble()
        self.norm = float(self.matrix.norm(PETSc.NormType.INFINITY))
        if not np.isfinite(self.norm):
            raise SolveError(
                "the derivative of the equations by the fields is not finite: look at coefficients, sources and"
                " boundary fluxes that depend on them, and where these have no derivative"
            )
        if self._reduced is None:
            self._reduced = self.matrix.duplicate()
            self._reduced.setOption(PETSc.Mat.Option.KEEP_NONZERO_PATTERN, True)
            self._solver.setOperators(self._reduced)
        self.matrix.copy(self._reduced, PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
        self._reduced.zeroRowsColumns(self._constrained, 1.0)

    def solve(self, right: Array) -> Array:
        """Solution of the constrained system; SolveError if the matrix is singular."""
        self._right.setArray(right)
        self._solver.solve(self._right, self._left)
        return self._solution()

    def solve_transposed(self, right: Array) -> Array:
        """Solution of the transposed constrained system on the same factors; SolveError if singular."""
        self._right.setArray(right)
        self._solver.solveTranspose(self._right, self._left)
        return self._solution()

    def _solution(self) -> Array:
        solution = self._left.getArray().copy()
        if self._solver.getConvergedReason() < 0 or not np.isfinite(solution).all():
            raise SolveError("the linear system could not be solved: its matrix is singular")
        return solution

    def multiply(self, vector: Array) -> Array:
        """Whole matrix times ``vector``."""
        self._right.setArray(vector)
        self.matrix.mult(self._right, self._left)
        return self._left.getArray().copy()

    def multiply_transposed(self, vector: Array) -> Array:
        """Transpose of the whole matrix times ``vector``."""
        self._right.setArray(vector)
        self.matrix.multTranspose(self._right, self._left)
        return self._left.getArray().copy()

    def present_entries(self) -> csr_matrix:
        """The whole matrix at the present state, constants and nodes, assembled apart from the factorised one."""
        assembled = fem.assemble_matrix(self._form)
        assembled.scatter_reverse()
        return csr_matrix(assembled.to_scipy())

    def entries(self) -> csr_matrix:
        """The whole matrix for scipy."""
        pointers, columns, entries = self.matrix.getValuesCSR()
        return csr_matrix((entries, columns, pointers), shape=self.matrix.getSize())
