"""Sparse linear systems through PETSc, with what does not depend on the shape kept from one to the next.

In the plane LU factors by MUMPS. In space the cheapest of three, measured on elasticity: L D L^T of a symmetric matrix
to 20,000 unknowns, LU to 60,000, above these conjugate gradients, preconditioned by algebraic multigrid that knows the
rigid motions (PETSc's GAMG; A. H. Baker, T. V. Kolev, U. M. Yang, Numer. Linear Algebra Appl. 17 (2010) 495).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.backend import PETSc, fem, fem_petsc

Array = NDArray[np.float64]

MOST_BY_LDLT = 20_000
"""Unknowns of a solid to which the symmetric factors are cheaper than LU."""

MOST_BY_LU = 60_000
"""Unknowns of a solid above which multigrid is cheaper than factors, and takes a tenth of their memory."""

TRUE_RESIDUAL = 5e-11
"""Of the unpreconditioned residual relative to the right-hand side, at which conjugate gradients stop."""

SYMMETRIC = 1e-12
"""Difference of an entry from the one across the diagonal, relative to the matrix' norm, that is rounding."""

LU, LDLT, MULTIGRID = "LU by MUMPS", "LDLT by MUMPS", "CG with GAMG"


@dataclass(frozen=True)
class Elliptic:
    """What is known of a linear problem of one field in space that may have a symmetric positive definite matrix.

    Attributes:
        unknowns: number of degrees of freedom.
        motions: gives (D, m) shifts and rotations of the field on the present mesh.
    """

    unknowns: int
    motions: Callable[[], Array]


class Factorization:
    """The Jacobian of a discrete problem, whole and with its constrained rows and columns made unit ones.

    ``matrix`` is the whole one, ``norm`` its largest absolute row sum; the solves use the
    constrained one. ``method`` names what solves, from the first :meth:`assemble` on.
    """

    exact = True
    """Whether solutions satisfy the constrained system to rounding, or to the tolerance of an iteration."""

    def __init__(self, form: fem.Form, constrained: NDArray[np.int64], elliptic: Elliptic | None = None) -> None:
        self._form = form
        self._elliptic = elliptic
        self.method = LU
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
        self._prepare()

    def _prepare(self) -> None:
        """Make the constrained matrix of the one assembled, which the next solve factorises."""
        if self._reduced is None:
            self._reduced = self.matrix.duplicate()
            self._reduced.setOption(PETSc.Mat.Option.KEEP_NONZERO_PATTERN, True)
            self._choose(self._reduced)
            self._solver.setOperators(self._reduced)
        self.matrix.copy(self._reduced, PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
        # multigrid wants the constrained unknowns in the scale of the others
        diagonal = self.norm if self.method == MULTIGRID else 1.0
        self._reduced.zeroRowsColumns(self._constrained, diagonal)
        if self._elliptic is not None and self.method == MULTIGRID:
            self._reduced.setNearNullSpace(self._rigid_motions(self._elliptic.motions()))

    def _choose(self, reduced: PETSc.Mat) -> None:
        """Take the method that is cheapest for a matrix of this size, once it is known to be symmetric."""
        if self._elliptic is None or not self.matrix.isSymmetric(SYMMETRIC * self.norm):
            return
        preconditioner = self._solver.getPC()
        if self._elliptic.unknowns <= MOST_BY_LDLT:
            self.method = LDLT
            reduced.setOption(PETSc.Mat.Option.SYMMETRIC, True)
            preconditioner.setType(PETSc.PC.Type.CHOLESKY)
            preconditioner.setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
        elif self._elliptic.unknowns > MOST_BY_LU:
            self.method = MULTIGRID
            reduced.setOption(PETSc.Mat.Option.SYMMETRIC, True)
            self._solver.setType(PETSc.KSP.Type.CG)
            self._solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
            self._solver.setTolerances(rtol=TRUE_RESIDUAL, atol=0.0, max_it=500)
            preconditioner.setType(PETSc.PC.Type.GAMG)

    def _rigid_motions(self, motions: Array) -> PETSc.NullSpace:
        motions = motions.copy()
        motions[self._constrained] = 0.0
        orthonormal, _ = np.linalg.qr(motions)
        vectors = []
        for column in orthonormal.T:
            vector = self._right.duplicate()
            vector.setArray(column)
            vectors.append(vector)
        return PETSc.NullSpace().create(vectors=vectors)

    def solve(self, right: Array) -> Array:
        """Solution of the constrained system; SolveError if the matrix is singular."""
        self._right.setArray(right)
        self._solver.solve(self._right, self._left)
        return self._solution()

    def solve_transposed(self, right: Array) -> Array:
        """Solution of the transposed constrained system on the same factors; SolveError if singular."""
        self._right.setArray(right)
        if self.method == LU:
            self._solver.solveTranspose(self._right, self._left)
        else:  # symmetric
            self._solver.solve(self._right, self._left)
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
