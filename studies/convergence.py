"""The functionals on ever finer meshes of the exported CAD, and their extrapolation to none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.optimize import brentq
from torch import Tensor

from geometries.integration import nodal_weights
from geometries.mesher import mesh_family, mesh_step
from solvers.fem import FemSolution, FemSolver
from solvers.problem import Functional
from studies.setup import Setup

LEAST_ORDER, LARGEST_ORDER = 0.05, 30.0
"""Orders of convergence that can be observed."""
FORMAL_ORDER, SLACK = 4.0, 1.1
"""Order of a functional by quadratic elements, twice theirs; an observed one beyond that times the slack is chance."""
SMOOTH_ORDER, SMOOTH_ORDER_ON_BOUNDARY = 2.0, 1.5
"""An order below this speaks of a corner, a tip or a jump: smooth solutions give integrals over the domain 3 or more,
those of derivatives over a boundary 2."""
SAFETY, CAUTIOUS_SAFETY = 1.25, 3.0
"""Factors of safety of the grid-convergence index, with a credible order observed on three meshes and without."""


@dataclass(frozen=True)
class Level:
    """A functional on one mesh: mean cell size h, degrees of freedom, value."""

    h: float
    dofs: int
    value: float


@dataclass(frozen=True)
class Refined:
    """What fresh meshes of the CAD give.

    Attributes:
        levels: functional -> its values, from the coarsest mesh to the finest.
        finest: the solution on the finest.
    """

    levels: Mapping[str, list[Level]]
    finest: FemSolution


@dataclass(frozen=True)
class Extrapolation:
    """Richardson extrapolation of the finest levels.

    Attributes:
        value: extrapolated to cells of size zero.
        order: observed; None where the values show none. Believed up to the formal one.
        error: of the finest value, relative.
        gci: grid-convergence index of the finest value: a relative band about it meant to hold the limit with 95 %
            confidence (P. J. Roache, J. Fluids Eng. 116 (1994) 405).
        note: how it was come by.
    """

    value: float
    order: float | None
    error: float
    gci: float
    note: str


def extrapolate(levels: Sequence[Level], smooth_order: float = SMOOTH_ORDER) -> Extrapolation:
    """Generalized Richardson extrapolation with the observed order of the three finest levels.

    I. B. Celik et al., J. Fluids Eng. 130 (2008) 078001; the equation for the order is solved by bracketing, because
    its fixed-point iteration diverges where the ratios of cell sizes differ much. Where the values do not converge
    monotonically, or agree to rounding, there is no order to observe: the finest value stands, and the larger of the
    last two differences is its uncertainty. An order well above the formal one is chance: the formal one is taken
    in its place, with the factor of safety of none (W. L. Oberkampf, C. J. Roy, *Verification and Validation in
    Scientific Computing*, Cambridge 2010, section 8.7).

    Args:
        levels: three or more, from coarse to fine.
        smooth_order: an order below it is noted as degenerate.
    """
    coarse, middle, fine = levels[-3:]
    first, second = middle.value - coarse.value, fine.value - middle.value
    scale = abs(fine.value) or 1.0
    if abs(second) <= 1e-12 * scale:
        return _without_order(fine.value, abs(second) / scale, "the finest values agree to rounding")
    ratio_fine, ratio_coarse = middle.h / fine.h, coarse.h / middle.h

    def excess(order: float) -> float:
        predicted = ratio_fine**order * (ratio_coarse**order - 1) / (ratio_fine**order - 1)
        return math.log(predicted) - math.log(first / second)

    if first * second <= 0 or excess(LEAST_ORDER) >= 0:
        note = "the values do not converge monotonically on these meshes, so no order is observed"
        return _without_order(fine.value, max(abs(first), abs(second)) / scale, note)
    if excess(LARGEST_ORDER) <= 0:
        note = "the finest values agree more closely than any order explains"
        return _without_order(fine.value, abs(second) / scale, note)
    order = float(brentq(excess, LEAST_ORDER, LARGEST_ORDER, xtol=1e-13))
    believed, safety, note = order, SAFETY, "Richardson extrapolation of the three finest"
    if order > SLACK * FORMAL_ORDER:
        believed, safety = FORMAL_ORDER, CAUTIOUS_SAFETY
        note += f" with the order {FORMAL_ORDER:g}: one above it is chance, or the meshes are too coarse to show it"
    if order < smooth_order:
        note += "; the order is held down by a corner, a tip or a jump, and may not have settled"
    value = fine.value + second / (ratio_fine**believed - 1)
    error = abs(value - fine.value) / scale
    return Extrapolation(value, order, error, safety * error, note)


def _without_order(value: float, error: float, note: str) -> Extrapolation:
    return Extrapolation(value, None, error, CAUTIOUS_SAFETY * error, note)


def extrapolated(refined: Refined, functional: Functional) -> Extrapolation:
    """Of a functional; one over a boundary converges more slowly."""
    smooth = SMOOTH_ORDER if functional.on is None else SMOOTH_ORDER_ON_BOUNDARY
    return extrapolate(refined.levels[functional.name], smooth)


def refine(setup: Setup, theta: Tensor, step: Path) -> Refined:
    """All functionals on fresh meshes of the STEP file read back, each of half the cell size."""
    control_points = setup.family.control_points(theta).numpy()
    size = setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size
    unit = setup.study.model.geometry.length_unit
    levels: dict[str, list[Level]] = {functional.name: [] for functional in setup.problem.functionals}
    for refinement in range(setup.study.model.validation.refinements):
        save = step.with_suffix(".msh") if refinement == 0 else None
        mesh = mesh_step(step, setup.family, control_points, size / 2**refinement, unit, save)
        solution = FemSolver(setup.problem, mesh).solve()
        area = float(nodal_weights(mesh, torch.from_numpy(mesh.nodes)).sum())
        for name, value in solution.values.items():
            levels[name].append(Level(math.sqrt(area / len(mesh.cells)), solution.dofs, value))
    return Refined(levels, solution)


def initial_value(setup: Setup) -> float:
    """Objective of the start design on a fresh mesh as fine as the finest of the certificate."""
    size = setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size
    finest = size / 2 ** (setup.study.model.validation.refinements - 1)
    mesh = mesh_family(setup.family, setup.family.control_points(setup.initial).numpy(), finest)
    return FemSolver(setup.problem, mesh).solve().values[setup.problem.objective.name]
