"""A study in parameters scaled to [0, 1], as the trust region takes it: solutions, a model of them, and constraints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
from torch import Tensor

from shapewright.studies.optimize.correction import Array, Evaluate
from shapewright.studies.optimize.optimizer import Scaling, scaling_of
from shapewright.studies.optimize.trust_region import Step, TrustRegionProblem
from shapewright.studies.problem.constraints import (
    Functionals,
    constraint_gaps,
    constraint_values,
    geometric_values,
)
from shapewright.studies.problem.design_setup import DesignSetup
from shapewright.studies.problem.models import CentredModel, LearningModel, Model
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.training.dataset import Dataset


class Solution(Protocol):
    """Functionals of one design by finite elements."""

    @property
    def values(self) -> Tensor:
        """(1, J) functionals."""

    @property
    def gradients(self) -> Tensor:
        """(1, J, P) by the adjoint."""


class Solutions(Protocol):
    """Values and gradients of all functionals on demand, kept."""

    @property
    def solved(self) -> Mapping[bytes, object]:
        """What was asked for so far."""

    def __call__(self, theta: Array) -> Solution | None:
        """The solution at a design (P,); None where there is no answer."""


def scaling_at(setup: DesignSetup, solution: Solution | None) -> Scaling:
    """By objective and gradient of a solution; by one where there is none."""
    if solution is None:
        return scaling_of(setup, 1.0, np.zeros(len(setup.initial)))
    values, gradients = functionals_of(solution)
    return scaling_of(setup, float(values[0]), gradients[0])


def trust_region_problem(
    setup: DesignSetup, surrogate: Model | None, store: Solutions, scaling: Scaling
) -> TrustRegionProblem:
    """The study in scaled parameters: conditions on functionals are corrected like the objective, others exact."""
    geometric = [c for c in setup.constraints if c.functional is None]
    expensive_ones = [c for c in setup.constraints if c.functional is not None]
    count = 1 + len(expensive_ones)

    def no_answer(z: Array) -> tuple[Array, Array]:
        return np.full(count, np.nan), np.full((count, len(z)), np.nan)

    def expensive(z: Array) -> tuple[Array, Array]:
        solution = store(scaling.theta(z))
        return no_answer(z) if solution is None else scaled(setup, scaling, *functionals_of(solution))

    def by(model: Model, z: Array) -> tuple[Array, Array]:
        values, gradients = model.evaluate(scaling.theta(z)[None])
        return scaled(setup, scaling, values[0], gradients[0])

    learns = isinstance(surrogate, LearningModel)
    everywhere = no_answer if surrogate is None else remembered(partial(by, surrogate))

    @lru_cache(maxsize=1)
    def about(centre: bytes, solved: int) -> Evaluate:
        assert surrogate is not None
        if not isinstance(surrogate, CentredModel):
            return remembered(partial(by, surrogate))
        try:
            return remembered(partial(by, surrogate.around(scaling.theta(np.frombuffer(centre)))))
        except OutsideGridError:
            return no_answer

    def cheap(centre: Array) -> Evaluate:
        return about(centre.tobytes(), len(store.solved)) if learns else everywhere

    def exact(z: Array) -> tuple[Array, Array]:
        values, rows = geometric_values(setup, scaling.theta(z))
        return constraint_gaps(geometric, values, rows * scaling.span)

    def gradient_scale() -> float:
        return float(np.linalg.norm(expensive(scaling.z(setup.initial.numpy()))[1][0]))

    return TrustRegionProblem(
        expensive,
        cheap,
        remembered(exact),
        np.array([c.kind == "equals" for c in geometric], dtype=bool),
        np.array([c.kind == "equals" for c in expensive_ones], dtype=bool),
        gradient_scale,
        min([0.1 * c.tolerance for c in geometric], default=1e-7),
        min([0.1 * c.tolerance for c in expensive_ones], default=1e-7),
        learns=learns,
    )


def scaled(setup: DesignSetup, scaling: Scaling, values: Array, gradients: Array) -> tuple[Array, Array]:
    """Objective to minimize and gaps of conditions on functionals, scaled, and their Jacobian in scaled parameters."""
    conditions = [c for c in setup.constraints if c.functional is not None]
    indices = [c.functional for c in setup.constraints if c.functional is not None]
    gaps, rows = constraint_gaps(conditions, values[indices], gradients[indices] * scaling.span)
    factor = setup.sign / scaling.objective
    return np.append(factor * values[0], gaps), np.vstack([factor * gradients[0] * scaling.span, rows])


def known_step(setup: DesignSetup, scaling: Scaling, solution: Dataset, radius: float) -> Step:
    """A solution of another search, for the interpolation."""
    z = scaling.z(solution.theta[0].numpy())
    return Step(z, *scaled(setup, scaling, *functionals_of(solution)), np.nan, radius, False, np.nan)


def functionals_of(solution: Solution) -> Functionals:
    """All functionals and their gradients at a centre."""
    return solution.values[0].numpy(), solution.gradients[0].numpy()


def remembered(evaluate: Evaluate, last: int = 8) -> Evaluate:
    """The same function, which knows its last answers: scipy asks for values and Jacobian apart."""
    answers: dict[bytes, tuple[Array, Array]] = {}

    def answer(z: Array) -> tuple[Array, Array]:
        key = z.tobytes()
        if key not in answers:
            if len(answers) == last:
                del answers[next(iter(answers))]
            answers[key] = evaluate(z)
        return answers[key]

    return answer


def quantities_at(setup: DesignSetup, theta: Array, store: Solutions) -> Array:
    """(C,) what the study's conditions are on at a centre (P,)."""
    solution = store(theta)
    none = np.full(len(setup.problem.functionals), np.nan)
    functionals = (none, np.full((len(none), len(theta)), np.nan)) if solution is None else functionals_of(solution)
    return constraint_values(setup, theta, functionals)[0]
