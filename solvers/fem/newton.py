"""Newton's method for the discrete equations, damped, with load steps where it does not converge at once.

A step is halved until the residual falls, the first one apart, in which boundary values change.
A load step moves everything given, boundary values, parameters and the factor of sources and natural conditions, by
the same share from where a solution is known to where one is wanted; without a solution to start from, all
loads start at zero. The first Newton step of each takes the change of the boundary values into the
linearized equations, which makes it the tangent predictor of P. Deuflhard, *Newton Methods for Nonlinear Problems*
(2004), section 5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.backend import fem
from shapewright.solvers.fem.discretization import Discretization
from shapewright.solvers.fem.factorization import Factorization
from shapewright.solvers.fem.weak_form import WeakForm

Array = NDArray[np.float64]
SMALLEST_STEP = 1 / 64
SMALLEST_DAMPING = 1 / 16


@dataclass(frozen=True)
class Loads:
    """What a solution belongs to beside the mesh.

    Attributes:
        boundary: (D,) prescribed values of the constrained dofs.
        parameters: name -> value.
        factor: of sources and natural conditions.
    """

    boundary: Array
    parameters: Mapping[str, float]
    factor: float = 1.0

    def unloaded(self) -> Loads:
        """The same parameters with no boundary values, sources and natural conditions."""
        return Loads(np.zeros_like(self.boundary), self.parameters, 0.0)

    def towards(self, other: Loads, share: float) -> Loads:
        """``share`` of the way to ``other``; at 1 exactly the other."""
        if share == 1:
            return other
        mixed = {name: (1 - share) * v + share * other.parameters[name] for name, v in self.parameters.items()}
        boundary = (1 - share) * self.boundary + share * other.boundary
        return Loads(boundary, mixed, (1 - share) * self.factor + share * other.factor)


@dataclass(frozen=True)
class NewtonHistory:
    """How a solution was reached.

    Attributes:
        residuals: norms of the free residual in the last load step, before its first Newton step and after each.
        steps: share of the load that each load step reached; (1.0,) where none was needed.
        scale: largest first residual of all load steps, against which the tolerance was measured.
    """

    residuals: tuple[float, ...]
    steps: tuple[float, ...]
    scale: float


class Newton:
    """Solves the equations of one weak form; the state of the form is the iterate.

    Args:
        form, discretization, factorization: of the equations.
        constrained: (D,) dofs with boundary values.
        tolerance: of the free residual, relative to the first one.
        max_iterations: Newton steps per load step.
        check_regular: raises SolveError where the factorized Jacobian of the first step is singular.
        check: raises SolveError where a converged state is not acceptable.
        not_finite: says which data are not finite at the state.
    """

    def __init__(
        self,
        form: WeakForm,
        discretization: Discretization,
        factorization: Factorization,
        constrained: NDArray[np.int64],
        tolerance: float,
        max_iterations: int,
        check_regular: Callable[[], None],
        check: Callable[[], None],
        not_finite: Callable[[], str],
    ) -> None:
        self._form, self._discretization, self._factorization = form, discretization, factorization
        self._constrained, self._tolerance, self._max_iterations = constrained, tolerance, max_iterations
        self._check_regular, self._check, self._not_finite = check_regular, check, not_finite
        self._regular = False
        self.keep_matrix = False
        """Whether the factors of the last solution are still those of the first step; the caller knows."""

    def solve(self, start: Loads, wanted: Loads, scale: float = 0.0) -> NewtonHistory:
        """From the state of the form, which belongs to ``start``, to that of ``wanted``.

        ``scale`` is that of the history of an earlier solution started from, 0 without one.

        Raises SolveError, with the state left anywhere.
        """
        state = self._form.state.x.array
        self._regular = self.keep_matrix  # as far as known on this shape
        reached, step, steps = 0.0, 1.0, []
        while reached < 1:
            before, share = state.copy(), min(reached + step, 1.0)
            try:
                residuals = self._converge(start.towards(wanted, share), scale)
            except SolveError as error:
                if self._form.linear or not self._regular:
                    raise
                if step <= SMALLEST_STEP:
                    raise SolveError(f"{error}; smaller load steps reached {reached:.3g} of the load") from error
                state[:] = before
                step /= 2
                continue
            scale = max(scale, residuals[0])
            reached, step = share, min(2 * step, 1 - share)
            steps.append(share)
        return NewtonHistory(residuals, tuple(steps), scale)

    def _converge(self, loads: Loads, scale: float) -> tuple[float, ...]:
        state = self._form.state.x.array
        residual = self._predict(loads)
        norms = [float(np.linalg.norm(residual))]
        scale = max(scale, norms[0])
        for step in range(self._max_iterations):
            if step > 0 and not self._form.linear:
                self._factorization.assemble()
            correction = self._factorization.solve(residual)
            state -= correction
            if step == 0:
                state[self._constrained] = loads.boundary
                residual = self._free_residual()
            else:
                residual = self._damped(correction, norms[-1])
            norms.append(float(np.linalg.norm(residual)))
            if not np.isfinite(norms[-1]):
                raise SolveError(
                    f"Newton step {step + 1} has a residual that is not finite: {_history(norms)}"
                )
            small = max(self._tolerance * scale, min(self._rounding(state), 1e-6 * scale))
            if norms[-1] <= small or not self._factorization.exact:  # a projection of a linear problem is one step
                self._check()
                return tuple(norms)
            if step > 0 and not norms[-1] < norms[-2]:
                raise SolveError(f"Newton step {step + 1} leads to no smaller residual: {_history(norms)}")
        raise SolveError(
            f"Newton did not converge in {self._max_iterations} steps to {self._tolerance:g} of the first "
            f"residual: {_history(norms)}"
        )

    def _predict(self, loads: Loads) -> Array:
        """Put the loads on; the free residual, linearized at the present state, with their boundary values."""
        form, state = self._form, self._form.state.x.array
        for name, value in loads.parameters.items():
            form.parameters[name].value[...] = value
        form.load.value[...] = loads.factor
        residual = self._residual()
        if not np.isfinite(residual).all():
            raise SolveError(f"the first residual is not finite: {self._not_finite()}")
        if not self.keep_matrix:
            self._factorization.assemble()
        if not self._regular and self._factorization.exact:
            self._check_regular()
            self._regular = True
        increment = np.zeros_like(state)
        increment[self._constrained] = loads.boundary - state[self._constrained]
        residual += self._factorization.multiply(increment)
        residual[self._constrained] = 0.0
        return residual

    def _damped(self, correction: Array, norm: float) -> Array:
        """The free residual after taking back half of the step, again and again, until it is below ``norm``."""
        residual, damping = self._free_residual(), 1.0
        while not np.linalg.norm(residual) < norm and damping > SMALLEST_DAMPING:
            damping /= 2
            self._form.state.x.array[:] += damping * correction
            residual = self._free_residual()
        return residual

    def _rounding(self, state: Array) -> float:
        """Size of a residual that is rounding error only: ill-conditioned problems get no further."""
        return 10 * float(np.finfo(float).eps * self._factorization.norm * np.linalg.norm(state))

    def _free_residual(self) -> Array:
        residual = self._residual()
        residual[self._constrained] = 0.0
        return residual

    def _residual(self) -> Array:
        return fem.assemble_vector(self._form.residual).array


def _history(norms: list[float]) -> str:
    return "residuals " + ", ".join(f"{norm:.2e}" for norm in norms)
