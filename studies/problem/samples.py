"""Designs drawn from the parameter box, and their finite-element solutions with tangents and adjoint gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor

from shapewright.geometries.design.measures import jacobian, valid_designs
from shapewright.solvers.fem.load_cases import CaseSolution, CaseSolver
from shapewright.solvers.fem.solver import FemSolution, FemSolver
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.training.dataset import Dataset, load_dataset

SAMPLED = ("designs.npz", "held_out.npz", "reference.npz")
"""Files of a folder that holds samples."""
LEAST_JACOBIAN = 0.05
"""Designs whose map is closer to folding than this are not sampled."""
LEAST_VALID = 1e-3
"""Share of valid shapes among the designs drawn below which no more are."""
ENOUGH_DRAWN = 20_000
"""Designs by which that share is told."""


class SamplingError(RuntimeError):
    """Designs cannot be drawn or solved."""


@dataclass(frozen=True)
class Sample:
    """One solved design: theta (P,), nodal fields (N, c), functionals (J,), gradients (J, P), tangents (T, ...)."""

    theta: NDArray[np.float64]
    solution: NDArray[np.float32]
    values: NDArray[np.float64]
    gradients: NDArray[np.float64]
    directions: NDArray[np.float64]
    tangents: NDArray[np.float32]


class Samples(NamedTuple):
    """Solved designs to train with and to hold out, and the (N, c) fields of the reference design."""

    designs: Dataset
    held_out: Dataset
    reference: Tensor


def load_samples(folder: Path) -> Samples:
    """Samples that a folder holds."""
    designs, held_out, reference = (folder / name for name in SAMPLED)
    with np.load(reference) as arrays:
        fields = torch.from_numpy(arrays["fields"])
    return Samples(load_dataset(designs), load_dataset(held_out), fields)


def draw_designs(setup: Setup, count: int, seed: int) -> Tensor:
    """(count, P) Sobol designs in the parameter box that are valid shapes.

    Raises:
        SamplingError: fewer than one design in a thousand is valid, told by the first 20,000.
    """
    bounds = setup.family.bounds
    sobol = qmc.Sobol(len(bounds), seed=seed)
    found: list[Tensor] = []
    drawn = 0
    while sum(map(len, found)) < count:
        if drawn >= ENOUGH_DRAWN and sum(map(len, found)) < LEAST_VALID * drawn:
            raise SamplingError(
                f"{setup.study.location('geometry.bounds')}: geometry.bounds: only {sum(map(len, found))} of {drawn}"
                f" designs drawn within the bounds are valid shapes; expected {LEAST_VALID:.1%} of them at least:"
                " narrow geometry.bounds, or the options of the family that set its own bounds"
            )
        unit = torch.from_numpy(sobol.random(64))
        drawn += len(unit)
        theta = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * unit
        theta = theta[jacobian(setup.shape_map, theta) > LEAST_JACOBIAN]
        found.append(theta[torch.from_numpy(valid_designs(setup.shape_map, theta, None))])
    return torch.cat(found)[:count]


def random_directions(setup: Setup, count: int, tangents: int, seed: int) -> Tensor:
    """(count, T, P) design directions of unit length in parameters scaled to their bounds.

    They are isotropic, or single parameters drawn for each design, without repetition as long as there are any left:
    ``sampling.directions`` of the study says which.
    """
    generator = torch.Generator().manual_seed(seed)
    bounds = setup.family.bounds
    if setup.study.model.sampling.directions == "axes":
        ranks = torch.rand(count, len(bounds), generator=generator).argsort(-1)
        order = ranks[:, torch.arange(tangents) % len(bounds)]
        direction = torch.nn.functional.one_hot(order, len(bounds)).to(bounds)
    else:
        direction = torch.randn(count, tangents, len(bounds), generator=generator, dtype=torch.float64)
        direction = direction / direction.norm(dim=-1, keepdim=True)
    return direction * (bounds[:, 1] - bounds[:, 0])


def stack_fields(solution: FemSolution | CaseSolution, setup: Setup) -> NDArray[np.float64]:
    """(N, c) nodal fields of a solution in the order of the physics' components."""
    return np.concatenate([solution.fields[field.name] for field in setup.problem.physics.fields], -1)


def solve_design(setup: Setup, solver: FemSolver | CaseSolver, theta: Tensor, directions: Tensor) -> Sample:
    """Solve one design (P,), with the gradients of all functionals and the tangents along directions (T, P)."""
    return sample_of(setup, setup.maps.solve(solver, theta), theta, directions)


def sample_of(
    setup: Setup, solution: FemSolution | CaseSolution, theta: Tensor, directions: Tensor
) -> Sample:
    """The solution of a design (P,), its solver's last one, with gradients and tangents along directions (T, P)."""
    names = [functional.name for functional in setup.problem.functionals]
    gradients = [setup.maps.gradient(theta, solution, name) for name in names]
    shape = (0, *stack_fields(solution, setup).shape)
    tangents = np.zeros(shape, np.float32)
    if len(directions):
        moved = [setup.maps.tangent(solution, theta, d) for d in directions]
        fields = setup.problem.physics.fields
        tangents = np.stack([np.concatenate([m.fields[f.name] for f in fields], -1) for m in moved]).astype(np.float32)
    return Sample(
        theta.numpy(),
        stack_fields(solution, setup).astype(np.float32),
        np.array([solution.values[name] for name in names]),
        torch.stack(gradients).numpy(),
        directions.numpy(),
        tangents,
    )
