"""Solve: all finite-element solutions of a certificate, of the optimum on fresh meshes and of the start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.fields.problem import Functional
from shapewright.solvers.fem.load_cases import CaseSolution
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.certify.convergence import Extrapolation, Level, Refined, extrapolated, reference
from shapewright.studies.certify.refinement import Mesher, initial_solution, refine
from shapewright.studies.certify.sensitivity import hessian
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Solved:
    """Finite elements at the start and at the optimum.

    Attributes:
        objective: functional that is optimized.
        refined: the optimum on fresh meshes of its CAD.
        start: on a fresh mesh as fine as the finest.
        mapped, start_mapped: on the mesh that the optimizer moves.
        values, gradients: (J,) functionals and their (J, P) design gradients at the optimum.
        gradient_at_start: (P,) of the objective.
        curvature: (P, P) second derivatives of the objective at the optimum.
        solves: how many there were, by kind.
    """

    objective: Functional
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

    @property
    def levels(self) -> list[Level]:
        """The objective on the fresh meshes, from the coarsest to the finest."""
        return self.refined.levels[self.objective.name]

    @property
    def finest(self) -> float:
        """The objective on the finest fresh mesh."""
        return self.levels[-1].value

    @property
    def at_start(self) -> float:
        """The objective at the start, on a fresh mesh as fine as the finest."""
        return self.start.values[self.objective.name]

    @property
    def reference(self) -> float:
        """What errors of the objective are relative to."""
        return reference(self.finest, self.at_start)

    @property
    def limit(self) -> Extrapolation:
        """The objective extrapolated to cells of size zero."""
        return extrapolated(self.refined, self.objective, self.at_start)


def solve(setup: Setup, theta: Tensor, mesher: Mesher) -> Solved:
    """All finite-element solutions of a certificate.

    Args:
        setup: study.
        theta: (P,) optimum.
        mesher: of fresh meshes of the optimum, by :func:`refinement.step_mesher` of its CAD.
    """
    objective = setup.problem.objective
    refined = refine(setup, theta, mesher)
    levels = refined.levels[objective.name]
    fem = FemModel(setup)
    _, gradient_at_start, start_mapped = fem.value_and_gradient(setup.initial)
    values, gradients, mapped = fem.functionals(theta)
    curvature = hessian(fem, theta, torch.from_numpy(gradients[0]))
    return Solved(
        objective=objective,
        refined=refined,
        start=initial_solution(setup, levels[-1].size),
        mapped=mapped,
        start_mapped=start_mapped,
        values=values,
        gradients=gradients,
        gradient_at_start=gradient_at_start,
        curvature=curvature,
        solves={
            "forward": fem.solves["forward"] + (len(levels) + 1) * max(1, len(setup.problem.cases)),
            "adjoint": fem.solves["adjoint"],
            "tangent": 0,
        },
    )
