"""The functionals on ever finer meshes of the exported CAD, and their extrapolation to none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from scipy.optimize import brentq
from torch import Tensor

from geometries.integration import nodal_weights
from geometries.mesher import mesh_family, mesh_step
from solvers.fem import FemSolution, FemSolver
from solvers.problem import COORDINATES, Functional
from studies.setup import Setup

LEAST_ORDER, LARGEST_ORDER = 0.05, 30.0
"""Orders of convergence that can be observed."""
SLACK = 1.1
"""An observed order beyond the formal one times this is chance."""
SAFETY, CAUTIOUS_SAFETY = 1.25, 3.0
"""Factors of safety of the grid-convergence index, with a credible order observed on three meshes and without."""


@dataclass(frozen=True)
class Orders:
    """What to expect of a functional by quadratic elements.

    Attributes:
        formal: order with a smooth solution; more is not believed.
        smooth: an order below this speaks of a corner, a tip or a jump.
    """

    formal: float
    smooth: float


USUAL, DERIVATIVES_ON_BOUNDARY = Orders(4.0, 2.8), Orders(2.0, 1.5)
"""Integrals converge twice as fast as the derivatives of the fields do, but not those of derivatives over a boundary.
With smooth solutions orders from 3 and from 1.8 on were measured; the rest is for orders that have not settled."""
NOT_MONOTONE = "the values do not converge monotonically on these meshes"


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
        value: extrapolated to cells of size zero; the finest one where no order can be believed.
        order: observed; None where the values show none. One beyond the formal order is not used.
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


def extrapolate(levels: Sequence[Level], orders: Orders = USUAL) -> Extrapolation:
    """Generalized Richardson extrapolation with the observed order of the three finest levels.

    I. B. Celik et al., J. Fluids Eng. 130 (2008) 078001; the equation for the order is solved by bracketing, because
    its fixed-point iteration diverges where the ratios of cell sizes differ much. Where the values do not converge
    monotonically, agree to rounding, or converge faster than the elements can, which is chance, the finest value
    stands. Its uncertainty is the larger of the last two differences; in the last case the last difference, or what
    the formal order makes of the one before (cf. W. L. Oberkampf, C. J. Roy, *Verification and Validation in
    Scientific Computing*, Cambridge 2010, section 8.7).

    Args:
        levels: three or more, from coarse to fine.
        orders: what to expect.
    """
    coarse, middle, fine = levels[-3:]
    first, second = middle.value - coarse.value, fine.value - middle.value
    scale = abs(fine.value) or 1.0
    if abs(second) <= 1e-12 * scale:
        return _without_order(fine.value, abs(second) / scale, "the finest values agree to rounding")
    ratio_fine, ratio_coarse = middle.h / fine.h, coarse.h / middle.h

    def shrinking(order: float) -> float:
        """First difference over the second, if the error goes with that power of the cell size."""
        return ratio_fine**order * (ratio_coarse**order - 1) / (ratio_fine**order - 1)

    def excess(order: float) -> float:
        return math.log(shrinking(order)) - math.log(first / second)

    if first * second <= 0 or excess(LEAST_ORDER) >= 0:
        return _without_order(fine.value, max(abs(first), abs(second)) / scale, NOT_MONOTONE)
    order = float(brentq(excess, LEAST_ORDER, LARGEST_ORDER, xtol=1e-13)) if excess(LARGEST_ORDER) > 0 else None
    if order is None or order > SLACK * orders.formal:
        note = f"the finest values agree more closely than the order {orders.formal:g} of the elements explains"
        expected = abs(first) / shrinking(orders.formal)
        return replace(_without_order(fine.value, max(abs(second), expected) / scale, note), order=order)
    note = "Richardson extrapolation of the three finest"
    if order < orders.smooth:
        note += "; the order is held down by a corner, a tip or a jump, and may not have settled"
    value = fine.value + second / (ratio_fine**order - 1)
    error = abs(value - fine.value) / scale
    return Extrapolation(value, order, error, SAFETY * error, note)


def _without_order(value: float, error: float, note: str) -> Extrapolation:
    return Extrapolation(value, None, error, CAUTIOUS_SAFETY * error, note)


def extrapolated(refined: Refined, functional: Functional) -> Extrapolation:
    """Of a functional, with what is to be expected of it."""
    slow = functional.on is not None and _takes_derivatives(functional)
    return extrapolate(refined.levels[functional.name], DERIVATIVES_ON_BOUNDARY if slow else USUAL)


def _takes_derivatives(functional: Functional) -> bool:
    """Whether the integrand asks for a derivative of a field."""
    asked = _Asked()
    functional.integrand(torch, asked)
    return any(name.endswith(tuple(f"_{x}" for x in COORDINATES)) for name in asked)


class _Asked(dict[str, Tensor]):
    """Has any quantity, the number one; keeps those that it was asked for."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Tensor:
        self[name] = torch.ones((), dtype=torch.float64)
        return self[name]


def refine(setup: Setup, theta: Tensor, step: Path) -> Refined:
    """All functionals on fresh meshes of the STEP file read back, each of half the cell size."""
    control_points = setup.family.control_points(theta).numpy()
    size = setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size
    unit = setup.study.model.geometry.length_unit
    levels: dict[str, list[Level]] = {functional.name: [] for functional in setup.problem.functionals}
    for refinement in range(setup.study.model.validation.refinements):
        save = step.with_suffix(".msh") if refinement == 0 else None
        mesh = mesh_step(step, setup.family, control_points, size / 2**refinement, unit, save)
        solution = FemSolver(setup.problem_at(theta), mesh).solve()
        area = float(nodal_weights(mesh, torch.from_numpy(mesh.nodes)).sum())
        for name, value in solution.values.items():
            levels[name].append(Level(math.sqrt(area / len(mesh.cells)), solution.dofs, value))
    return Refined(levels, solution)


def initial_solution(setup: Setup) -> FemSolution:
    """Of the start design on a fresh mesh as fine as the finest of the certificate."""
    size = setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size
    finest = size / 2 ** (setup.study.model.validation.refinements - 1)
    mesh = mesh_family(setup.family, setup.family.control_points(setup.initial).numpy(), finest)
    return FemSolver(setup.problem_at(setup.initial), mesh).solve()
