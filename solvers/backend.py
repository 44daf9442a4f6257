"""dolfinx, PETSc and MPI, imported in the one order that works.

The wheel of dolfinx must load its own MPI first, by ``import dolfinx_solver``; conda's dolfinx has no such
module and needs none. The other modules of this room take the stack from here.
"""

from __future__ import annotations

from contextlib import suppress

with suppress(ImportError):
    import dolfinx_solver  # noqa: F401 - loads the wheel's MPI
from dolfinx import fem, jit, mesh
from dolfinx.fem import petsc as fem_petsc
from mpi4py import MPI
from petsc4py import PETSc

# PETSc answers signals meant for the program (a closed pipe, a polite kill) with a crash report of its own
PETSc.Sys.popSignalHandler()

__all__ = ["MPI", "PETSc", "fem", "fem_petsc", "jit", "mesh"]
