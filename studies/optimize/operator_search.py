"""The optimum of a study on an operator alone, which is asked at few designs.

The operator's fields are held as they are at a centre and move with the nodes, so that a step costs small systems and
no network. The operator itself, with the gradient at its own centre, decides on it: a trust region whose dear model is
the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from shapewright.studies.optimize.correction import Array
from shapewright.studies.optimize.optimizer import (
    ExitReason,
    Iterate,
    Optimum,
    Scaling,
    Search,
    best_of,
    start_designs,
)
from shapewright.studies.optimize.scaled_problem import quantities_at, scaling_at, trust_region_problem
from shapewright.studies.optimize.trust_region import Region, Step, minimize_by_trust_region
from shapewright.studies.problem.constraints import worst_violation
from shapewright.studies.problem.models import CentredModel, Model
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.study import Optimizer
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.training.dataset import Dataset

CENTRES = 25
"""Designs at which an operator is asked, at most, from one start; the rest is finite elements'."""
FIRST, LEAST = 0.5, 1e-3
"""Radius at the start, and at which a search ends, in scaled parameters."""
NOISE = 1e-6
"""Share by which values of an operator may miss what its gradients say: fields change from centre to centre."""
SHARPER = 0.1
"""KKT residual, in that of the study, at which a search ends: finite elements add their own."""


@dataclass(frozen=True)
class Predictions:
    """What an operator says of the designs that it was asked about, in the part of solutions and of their model.

    Attributes:
        model: the operator.
        solved: data sets of one without fields, by design; None where there is no answer.
    """

    model: CentredModel
    solved: dict[bytes, Dataset | None] = field(default_factory=dict)
    solutions: Callable[[], Sequence[object]] = tuple
    spans: bool = False
    _around: dict[bytes, Model] = field(default_factory=dict, repr=False)

    def around(self, theta: Array) -> Model:
        """See :class:`models.CentredModel`."""
        key = theta.tobytes()
        if key not in self._around:
            self._around[key] = self.model.around(theta)
        return self._around[key]

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        found = [self.around(design).evaluate(design[None]) for design in theta]
        return np.concatenate([values for values, _ in found]), np.concatenate([slopes for _, slopes in found])

    def __call__(self, theta: Array) -> Dataset | None:
        """See :class:`scaled_problem.Solutions`."""
        key = theta.tobytes()
        if key not in self.solved:
            self.solved[key] = self._asked(theta)
        return self.solved[key]

    def _asked(self, theta: Array) -> Dataset | None:
        try:
            values, gradients = (torch.from_numpy(part) for part in self.evaluate(theta[None]))
        except OutsideGridError:
            return None
        if not bool(values.isfinite().all() and gradients.isfinite().all()):
            return None
        none = torch.zeros(1, 0)
        return Dataset(torch.from_numpy(theta)[None], none, values, gradients, none, none)


def optimize_on_operator(
    setup: Setup, model: CentredModel, config: Optimizer, report: Callable[[Iterate], None] = lambda iterate: None
) -> Optimum:
    """The best of the searches from the study's start and from random valid designs; see :func:`optimizer.optimize`."""
    starts = start_designs(setup, config.starts, config.seed)
    return best_of(setup, [_search(setup, model, config, index, start, report) for index, start in enumerate(starts)])


def _search(
    setup: Setup, model: CentredModel, config: Optimizer, index: int, start: Array, report: Callable[[Iterate], None]
) -> Search:
    asked = Predictions(model)
    first = asked(start)
    if first is None:
        return Search(index, start, np.nan, np.inf, ExitReason.NO_ANSWER, ())
    scaling = scaling_at(setup, first)
    problem = replace(trust_region_problem(setup, asked, asked, scaling), noise=NOISE)
    region = Region(FIRST, LEAST, tolerance=SHARPER * config.kkt_tolerance, budget=CENTRES)
    history: list[Iterate] = []

    def record(step: Step) -> None:
        if np.isfinite(step.values).all():
            history.append(_iterate(setup, scaling, index, len(history), step, asked))
            report(history[-1])

    found = minimize_by_trust_region(problem, scaling.z(start), region, record)
    theta = scaling.theta(found.centre.z)
    objective = setup.sign * scaling.objective * float(found.centre.values[0])
    violation = worst_violation(setup, quantities_at(setup, theta, asked))
    return Search(index, theta, objective, violation, found.reason, tuple(history))


def _iterate(setup: Setup, scaling: Scaling, start: int, number: int, step: Step, asked: Predictions) -> Iterate:
    theta = scaling.theta(step.z)
    return Iterate(
        start,
        number,
        len(asked.solved),
        setup.sign * scaling.objective * float(step.values[0]),
        scaling.objective * float(np.linalg.norm(step.jacobian[0])),
        tuple(quantities_at(setup, theta, asked).tolist()),
        tuple(theta.tolist()),
    )
