"""The errors of this room, importable without dolfinx."""

from __future__ import annotations


class SolveError(RuntimeError):
    """No trustworthy solution: folded mesh, singular system, no convergence, values that are not finite."""


class StaleSolutionError(RuntimeError):
    """A derivative was asked of a solution whose factorisation has been replaced by a later solve."""


class CompilerError(RuntimeError):
    """A form that cannot be compiled or kept: no C compiler, no space, a cache that cannot be written."""
