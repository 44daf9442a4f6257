"""Functionals on refined meshes: observed order, Richardson extrapolation and grid-convergence index."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import brentq
from torch import Tensor

from shapewright.geometries.fields.names import is_derivative
from shapewright.geometries.fields.problem import Functional
from shapewright.solvers.fem.load_cases import CaseSolution
from shapewright.solvers.fem.solver import FemSolution

LEAST_ORDER, LARGEST_ORDER = 0.05, 30.0
"""Orders of convergence that can be observed."""
SLACK = 1.1
"""An observed order beyond the formal one times this is not credible."""
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
DIVERGING = (
    "the values change by no less from mesh to mesh, so that no limit shows; the peak of a singular stress, as at a"
    " re-entrant corner, has none"
)
NOT_FINER = "the meshes are not each finer than the one before, so that they tell nothing of the error"
NOT_FINITE = "a value is not finite, so that nothing is known of the error"
TOO_COARSE = "the values change by too much from mesh to mesh for an order of convergence to be believed"
ASYMPTOTIC = 0.1
"""Largest change between two meshes, relative, with which they can be near enough to the limit to show an order."""
ROUNDING = 1e-12
"""Relative difference of values that agree to rounding."""
LEAST_RATIO = 1.3
"""Ratio of cell sizes below which an observed order means nothing (Celik 2008)."""


@dataclass(frozen=True)
class Level:
    """A functional on one mesh.

    Attributes:
        size: cell size that gmsh was asked for, length unit.
        h: root of the mean cell area, length unit.
        cells, dofs: of the mesh.
        value: of the functional.
    """

    size: float
    h: float
    cells: int
    dofs: int
    value: float


@dataclass(frozen=True)
class Refined:
    """Solutions on fresh meshes of the CAD.

    Attributes:
        levels: functional -> its values, from the coarsest mesh to the finest.
        finest: the solution on the finest.
    """

    levels: Mapping[str, list[Level]]
    finest: FemSolution | CaseSolution


@dataclass(frozen=True)
class Extrapolation:
    """Richardson extrapolation of the finest levels.

    Attributes:
        value: extrapolated to cells of size zero; the finest one where no order can be believed.
        order: observed; None where the values show none. One beyond the formal order is not used.
        error: of the finest value, in its unit; infinite where the meshes do not tell.
        gci: grid-convergence index of the finest value: half a band about it, in its unit, meant to hold the limit with
            95 % confidence (P. J. Roache, J. Fluids Eng. 116 (1994) 405).
        note: how it was found, or why there is no order.
    """

    value: float
    order: float | None
    error: float
    gci: float
    note: str


def extrapolate(levels: Sequence[Level], orders: Orders = USUAL, scale: float | None = None) -> Extrapolation:
    """Generalized Richardson extrapolation with the observed order of the three finest levels.

    I. B. Celik et al., J. Fluids Eng. 130 (2008) 078001; the equation for the order is solved by bracketing, because
    its fixed-point iteration diverges where the ratios of cell sizes differ much. Where the values do not converge
    monotonically, change by too much to be near their limit, or converge faster than the elements can, which is
    chance, the finest value stands. Its uncertainty is the larger of the last two differences; in the last case the
    last difference, or what the formal order makes of the one before (cf. W. L. Oberkampf, C. J. Roy, *Verification and
    Validation in Scientific Computing*, Cambridge 2010, section 8.7). Meshes that are not each finer than the one
    before, and values that are not finite, tell nothing: the error is infinite.

    Args:
        levels: three or more, from coarse to fine.
        orders: what to expect.
        scale: size that changes are compared with; that of the finest value if left out.
    """
    coarse, middle, fine = levels[-3:]
    if not all(math.isfinite(level.value) for level in (coarse, middle, fine)):
        return Extrapolation(fine.value, None, math.inf, math.inf, NOT_FINITE)
    ratio_fine, ratio_coarse = middle.h / fine.h, coarse.h / middle.h
    if min(ratio_fine, ratio_coarse) < LEAST_RATIO or not coarse.dofs < middle.dofs < fine.dofs:
        return Extrapolation(fine.value, None, math.inf, math.inf, NOT_FINER)
    first, second = middle.value - coarse.value, fine.value - middle.value
    largest, scale = max(abs(first), abs(second)), scale or abs(fine.value)
    if largest <= ROUNDING * max(scale, abs(fine.value)):
        return _without_order(fine.value, largest, "the values on all three meshes agree to rounding")

    def shrinking(order: float) -> float:
        """First difference over the second, if the error goes with that power of the cell size."""
        return ratio_fine**order * (ratio_coarse**order - 1) / (ratio_fine**order - 1)

    formal, observed = shrinking(orders.formal), math.inf if second == 0 else first / second
    if 0 < observed <= shrinking(LEAST_ORDER):
        return _without_order(fine.value, largest, DIVERGING)
    if largest > ASYMPTOTIC * scale:
        return _without_order(fine.value, largest, TOO_COARSE)
    if observed <= 0:  # the differences alternate
        return _without_order(fine.value, largest, NOT_MONOTONE)
    if observed > shrinking(SLACK * orders.formal):
        note = f"the finest values agree more closely than the order {orders.formal:g} of the elements explains"
        found = _without_order(fine.value, max(abs(second), abs(first) / formal), note)
        beyond = observed > shrinking(LARGEST_ORDER)
        return found if beyond else replace(found, order=_order(shrinking, observed))
    order = _order(shrinking, observed)
    note = "Richardson extrapolation of the three finest"
    if order < orders.smooth:
        note += "; the order is held down by a corner, a tip or a jump, and may not have settled"
    value = fine.value + second / (ratio_fine**order - 1)
    error = abs(value - fine.value)
    return Extrapolation(value, order, error, SAFETY * error, note)


def _order(shrinking: Callable[[float], float], observed: float) -> float:
    """Order at which differences shrink as observed."""
    return float(
        brentq(lambda p: math.log(shrinking(p)) - math.log(observed), LEAST_ORDER, LARGEST_ORDER, xtol=1e-13)
    )


def _without_order(value: float, error: float, note: str) -> Extrapolation:
    return Extrapolation(value, None, error, CAUTIOUS_SAFETY * error, note)


def extrapolated(refined: Refined, functional: Functional, start: float) -> Extrapolation:
    """Extrapolation of a functional by its expected orders; ``start`` is its value there, see :func:`reference`."""
    slow = functional.on is not None and _takes_derivatives(functional)
    levels = refined.levels[functional.name]
    orders = DERIVATIVES_ON_BOUNDARY if slow else USUAL
    return extrapolate(levels, orders, reference(levels[-1].value, start))


def reference(value: float, start: float) -> float:
    """What errors of a functional are relative to: its size, or its change from the start where that is larger.

    At an optimum whose value is zero, as of a mismatch that can be made to vanish, the first of them says nothing.
    """
    return max(abs(value), abs(value - start))


def _takes_derivatives(functional: Functional) -> bool:
    """Whether the integrand asks for a derivative of a field."""
    asked = _Asked()
    functional.integrand(torch, asked)
    return any(map(is_derivative, asked))


class _Asked(dict[str, Tensor]):
    """Has any quantity, the number one; keeps those that it was asked for."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Tensor:
        self[name] = torch.ones((), dtype=torch.float64)
        return self[name]
