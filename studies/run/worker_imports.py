"""What a worker imports that takes long, and that a process may have imported when it forks.

Not MPI and PETSc, which begin to work when they are imported.
"""

import sympy
import torch
import torch._dynamo

import shapewright.geometries.family.catalogue
import shapewright.studies.schema.expressions
import shapewright.surrogate.models.functionals
import shapewright.surrogate.training.dataset

__all__ = ["shapewright", "sympy", "torch"]
