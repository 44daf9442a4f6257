"""Smooth nonlinear programs, and scipy's methods for them: no other module calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, NonlinearConstraint, OptimizeResult, minimize

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gaps:
    """Constraints by their gaps.

    Attributes:
        evaluate: x (N,) -> (C,) gaps and their (C, N) Jacobian.
        equal: (C,) whether each gap has to be zero; the others must not be negative.
    """

    evaluate: Callable[[Array], tuple[Array, Array]]
    equal: NDArray[np.bool_]


@dataclass(frozen=True)
class NonlinearProgram:
    """Minimize a smooth function within bounds and under constraints.

    Attributes:
        objective: x (N,) -> value and (N,) gradient.
        start: (N,) first x.
        lower, upper: (N,) bounds; infinite where there is none.
        constraints: groups of gaps; scipy asks for values and Jacobians apart, so that an evaluation that costs
            something should remember its last answer.
    """

    objective: Callable[[Array], tuple[float, Array]]
    start: Array
    lower: Array
    upper: Array
    constraints: Sequence[Gaps] = ()


def slsqp(
    program: NonlinearProgram, tolerance: float, iterations: int, callback: Callable[[Array], None] | None = None
) -> OptimizeResult:
    """Sequential least-squares quadratic programming, until values change by less than ``tolerance``.

    D. Kraft, A software package for sequential quadratic programming, DFVLR-FB 88-28 (1988).
    """
    constraints = [
        {
            "type": kind,
            "fun": lambda x, g=gaps, m=mask: g.evaluate(x)[0][m],
            "jac": lambda x, g=gaps, m=mask: g.evaluate(x)[1][m],
        }
        for gaps in program.constraints
        for kind, mask in (("eq", gaps.equal), ("ineq", ~gaps.equal))
        if mask.any()
    ]
    return _minimize(
        program,
        method="SLSQP",
        constraints=constraints,
        callback=callback,
        options={"ftol": tolerance, "maxiter": iterations},
    )


def interior_point(
    program: NonlinearProgram, tolerance: float, iterations: int, callback: Callable[[Array], None]
) -> OptimizeResult:
    """The trust-region interior-point method, until gradient and step are smaller than ``tolerance``.

    R. H. Byrd, M. E. Hribar, J. Nocedal, SIAM J. Optim. 9 (1999) 877.
    """
    constraints = [
        NonlinearConstraint(
            lambda x, g=gaps: g.evaluate(x)[0],
            np.zeros(len(gaps.equal)),
            np.where(gaps.equal, 0.0, np.inf),
            jac=lambda x, g=gaps: g.evaluate(x)[1],
        )
        for gaps in program.constraints
        if len(gaps.equal)
    ]
    return _minimize(
        program,
        method="trust-constr",
        constraints=constraints,
        callback=lambda x, state: callback(x),
        options={"maxiter": iterations, "gtol": tolerance, "xtol": tolerance},
    )


def _minimize(program: NonlinearProgram, **how: Any) -> OptimizeResult:
    return minimize(program.objective, program.start, jac=True, bounds=Bounds(program.lower, program.upper), **how)
