"""dolfinx, PETSc and MPI, imported in the one order that works.

The wheel of dolfinx must load its own MPI first, by ``import dolfinx_solver``; conda's dolfinx has no such
module and needs none. The other modules of this room take the stack from here.
"""

from __future__ import annotations

from contextlib import suppress

with suppress(ImportError):
    import dolfinx_solver  # noqa: F401 - loads the wheel's MPI
import petsc4py
from mpi4py import MPI

petsc4py.init(comm=MPI.COMM_SELF)  # else the first import would wait for all ranks, which under MPI's engine have work

from dolfinx import fem, jit, mesh  # noqa: E402
from dolfinx.fem import petsc as fem_petsc  # noqa: E402
from petsc4py import PETSc  # noqa: E402

# PETSc answers signals meant for the program (a closed pipe, a polite kill) with a crash report of its own
PETSc.Sys.popSignalHandler()

__all__ = ["MPI", "PETSc", "fem", "fem_petsc", "jit", "mesh"]
