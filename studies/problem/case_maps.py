"""Nodes and derivatives of a design for all cases of a problem, whose boundary may be offset in some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.design.solid_map import SolidMap
from shapewright.geometries.fields.problem import Problem
from shapewright.solvers.fem.load_cases import CaseSolution, CaseSolver, offset_of
from shapewright.solvers.fem.solver import FemSolution, FemSolver, FemTangent

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CaseMaps:
    """The map from design parameters to nodes, for each offset of the boundary in the cases of a problem."""

    problem: Problem
    shape_map: ShapeMap | SolidMap

    @cached_property
    def maps(self) -> Mapping[float, ShapeMap | SolidMap]:
        """Offset -> map; the only one is of offset zero where nothing is offset."""
        offsets = dict.fromkeys(offset_of(self.problem, case) for case in self.problem.cases) or (0.0,)
        return {offset: self._moved(offset) for offset in offsets}

    def _moved(self, offset: float) -> ShapeMap | SolidMap:
        if not offset or not isinstance(self.shape_map, ShapeMap):
            return self.shape_map
        return replace(self.shape_map, offset=offset, offset_on=self.problem.offset_on)

    def nodes(self, theta: Tensor) -> dict[float, Array]:
        """Offset -> (N, 2) nodes of a design (P,)."""
        return {offset: own.nodes(theta).numpy() for offset, own in self.maps.items()}

    def solve(self, solver: FemSolver | CaseSolver, theta: Tensor) -> FemSolution | CaseSolution:
        """All cases of a design (P,) by the problem's solver."""
        nodes = self.nodes(theta)
        return solver.solve(nodes) if isinstance(solver, CaseSolver) else solver.solve(nodes[0.0])

    def tangent(self, solution: FemSolution | CaseSolution, theta: Tensor, direction: Tensor) -> FemTangent:
        """Material derivatives of a solution of the design (P,) along a direction (P,)."""
        velocities = self.velocities(theta, direction)
        return solution.tangent(velocities) if isinstance(solution, CaseSolution) else solution.tangent(velocities[0.0])

    def velocities(self, theta: Tensor, direction: Tensor) -> dict[float, Array]:
        """Offset -> (N, 2) motion of the nodes per unit step along a direction (P,)."""
        return {offset: own.velocity(theta, direction).numpy() for offset, own in self.maps.items()}

    def gradient(self, theta: Tensor, solution: FemSolution | CaseSolution, name: str) -> Tensor:
        """(P,) design gradient of a functional at a solution of the design."""
        parts = solution.gradients(name) if isinstance(solution, CaseSolution) else {0.0: solution.gradient(name)}
        pulled = [self.maps[offset].pull_back(theta, torch.from_numpy(part)) for offset, part in parts.items()]
        return torch.stack(pulled).sum(0)
