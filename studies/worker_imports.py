"""What a worker imports that takes long, and that a process may have imported when it forks.

Not MPI and PETSc, which begin to work when they are imported.
"""

# ruff: noqa: E402  what torch says of itself while it is imported is nothing that a user can act on
import warnings

warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)

import sympy
import torch
import torch._dynamo

import geometries.catalogue
import studies.expressions
import surrogate.dataset
import surrogate.functionals

__all__ = ["geometries", "studies", "surrogate", "sympy", "torch"]
