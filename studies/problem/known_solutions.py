"""Finite-element solutions of a linear study with what their factorizations give beside: adjoints and tangents.

With the state u, its material derivatives along all P parameters and the adjoints of all J functionals of a design in a
span of fields that move with the mesh, the Galerkin solution in that span has the values and the gradients of all
functionals there, and misses the fields elsewhere by the square of the distance: A. Noor, J. Peters, AIAA J. 18 (1980)
455; A. Quarteroni, A. Manzoni, F. Negri, *Reduced Basis Methods for Partial Differential Equations* (2016), chapter 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.files import written_whole
from shapewright.geometries.forward_mode import jvp
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh
from shapewright.studies.problem.samples import stack_fields
from shapewright.surrogate.training.dataset import Dataset, read_arrays


@dataclass(frozen=True)
class KnownSolution:
    """A solution as fields that vanish where their components are prescribed, in the study's units.

    Attributes:
        theta: (P,) design.
        span: (1 + J + P, N, c) float64: u - G with the lifting G of the prescribed values, the adjoints of the J
            functionals, and the derivatives of u - G along the parameters, each by its range; or u - G alone.
    """

    theta: Tensor
    span: Tensor

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with written_whole(path) as part, part.open("wb") as file:
            np.savez(file, theta=self.theta.numpy(), span=self.span.numpy())


def known_solution(problem: ProblemOnMesh, theta: Tensor, solution: FemSolution) -> KnownSolution:
    """Of a design (P,), while ``solution`` is its solver's last one: J adjoints, P back-substitutions for tangents."""
    setup = problem.setup
    directions = torch.diag(setup.family.bounds[:, 1] - setup.family.bounds[:, 0])
    with torch.enable_grad():
        design = theta.clone().requires_grad_()
        lifting = problem.lifting(setup.shape_map.nodes(design)[None])[0]

    def lifted(along: Tensor) -> Tensor | float:
        """Derivative of the lifting along a direction."""
        if not lifting.requires_grad:
            return 0.0
        return jvp(lambda at: problem.lifting(setup.shape_map.nodes(at)[None])[0], (theta,), (along,))[1]

    def stacked(fields: Mapping[str, NDArray[np.float64]]) -> Tensor:
        return torch.from_numpy(np.concatenate([fields[f.name] for f in setup.problem.physics.fields], -1))

    state = torch.from_numpy(stack_fields(solution, setup)) - lifting.detach()
    adjoints = [stacked(solution.adjoint(functional.name)) for functional in setup.problem.functionals]
    tangents = [
        stacked(solution.tangent(setup.shape_map.velocity(theta, along).numpy()).fields) - lifted(along)
        for along in directions
    ]
    return KnownSolution(theta, torch.stack([state, *adjoints, *tangents]) * problem.free)


def state_alone(problem: ProblemOnMesh, found: Dataset) -> KnownSolution:
    """A solution, a data set of one, that came without adjoints and tangents."""
    theta = found.theta[0]
    lifting = problem.lifting(problem.setup.shape_map.nodes(theta)[None])
    return KnownSolution(theta, (found.solution.double() - lifting) * problem.free)


def read_known(path: Path, size: tuple[int, ...]) -> KnownSolution | None:
    """What :meth:`KnownSolution.save` wrote of a span of this size; None where there is none, or not a whole one."""
    arrays = read_arrays(path)
    if arrays is None or arrays.keys() != {"theta", "span"} or arrays["span"].shape != size:
        return None
    if not all(array.dtype == np.float64 and bool(np.isfinite(array).all()) for array in arrays.values()):
        return None
    return KnownSolution(torch.from_numpy(arrays["theta"]), torch.from_numpy(arrays["span"]))
