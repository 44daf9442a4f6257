"""Finite-element solutions that a certificate is made of: of the optimum on its CAD, and of the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.solvers.fem.load_cases import CaseSolution
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.certify.convergence import Refined, initial_solution, reference, refine
from shapewright.studies.certify.sensitivity import hessian
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Solved:
    """Finite elements at the start and at the optimum.

    Attributes:
        refined: the optimum on fresh meshes of its CAD.
        start: on a fresh mesh as fine as the finest.
        mapped, start_mapped: on the mesh that the optimizer moves.
        values, gradients: (J,) functionals and their (J, P) design gradients at the optimum.
        gradient_at_start: (P,) of the objective.
        curvature: (P, P) second derivatives of the objective at the optimum.
        solves: how many there were, by kind.
    """

    refined: Refined
    start: FemSolution | CaseSolution
    mapped: FemSolution | CaseSolution
    start_mapped: FemSolution | CaseSolution
    values: Array
    gradients: Array
    gradient_at_start: Tensor
    curvature: Array
    solves: dict[str, int]

    @property
    def gradient(self) -> Tensor:
        """(P,) of the objective at the optimum."""
        return torch.from_numpy(self.gradients[0])


def solve(setup: Setup, theta: Tensor, step: Path) -> Solved:
    """All finite-element solutions that a certificate is made of; ``step`` is the CAD of the design theta (P,)."""
    refined = refine(setup, theta, step)
    levels = refined.levels[setup.problem.objective.name]
    start = initial_solution(setup, levels[-1].size)
    fem = FemModel(setup)
    _, gradient_at_start, start_mapped = fem.value_and_gradient(setup.initial)
    values, gradients, mapped = fem.functionals(theta)
    curvature = hessian(fem, theta, torch.from_numpy(gradients[0]))
    solves = {"forward": fem.solves["forward"] + len(levels) + 1, "adjoint": fem.solves["adjoint"], "tangent": 0}
    return Solved(refined, start, mapped, start_mapped, values, gradients, gradient_at_start, curvature, solves)


def objective_reference(setup: Setup, solved: Solved) -> float:
    """What errors of the objective are relative to."""
    name = setup.problem.objective.name
    return reference(solved.refined.levels[name][-1].value, solved.start.values[name])


def objective_at_start(setup: Setup, solved: Solved) -> float:
    return solved.start.values[setup.problem.objective.name]
