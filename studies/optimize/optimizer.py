"""Constrained shape optimization by scipy on scaled parameters, from many starts, with exact Jacobians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult
from scipy.stats import qmc

from shapewright.geometries.design.measures import valid_designs
from shapewright.studies.optimize.batching import run_in_lockstep
from shapewright.studies.optimize.nonlinear_program import Gaps, NonlinearProgram, interior_point, slsqp
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.problem.constraints import Functionals, constraint_gaps, constraint_values, worst_violation
from shapewright.studies.problem.design_setup import DesignSetup
from shapewright.studies.problem.models import Model
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.study import Optimizer

Array = NDArray[np.float64]
EvaluateOne = Callable[[Array], Functionals]


UNMOVED = 1e-9
"""A design whose parameters have all moved by less than this share of their ranges has not moved."""
VANISHING = 1e-6
"""An objective below this share of its change over the parameters' ranges is zero but for rounding: no unit of it."""


class ExitReason(Enum):
    """Why an optimization ended; the text says what to do next."""

    CONVERGED = "Converged: neither the objective nor the constraints change any more."
    ITERATION_LIMIT = "Stopped at the iteration limit: raise optimizer.max_iterations, or start from this design."
    STALLED = (
        "The line search found no better design along its direction: the result may be an optimum all the same; see"
        " the KKT residual, or loosen optimizer.tolerance."
    )
    INFEASIBLE = (
        "No search ended where all constraints are met: check that the targets lie within what the bounds allow, or"
        " raise optimizer.max_iterations."
    )
    ZERO_GRADIENT = (
        "The gradient is zero at the start, so there is nothing to follow: the start is already stationary, or the"
        " objective does not depend on the shape."
    )
    NO_GRADIENT = (
        "The gradient at the start is not finite: the model is outside its range, or a formula of the study has no"
        " derivative there; choose another start, or another formula."
    )
    DID_NOT_MOVE = (
        "The design did not move from its start: it may be optimal already; try another geometry.initial or more"
        " optimizer.starts."
    )
    OBJECTIVE_UNCHANGED = "The objective did not change: check that it depends on the shape."
    STATIONARY = "Converged: the gradient by finite elements meets optimizer.kkt_tolerance."
    LEAST_RADIUS = (
        "Stopped at the least trust-region radius: no step that finite elements resolve makes the design better; see"
        " the KKT residual, or loosen optimizer.kkt_tolerance."
    )
    SOLVE_BUDGET = (
        "Stopped at the budget of finite-element solves: raise optimizer.max_solves; the same command goes on from"
        " what is solved."
    )
    NO_ANSWER = (
        "The model has no answer at the start, or where the search ended (folded map, or outside its range): choose"
        " another start, or add a constraint such as {quantity: jacobian, at_least: 0.1}."
    )

    @property
    def ok(self) -> bool:
        """Whether the result can be taken for an optimum, subject to the certificate."""
        return self in (
            ExitReason.CONVERGED,
            ExitReason.STALLED,
            ExitReason.ITERATION_LIMIT,
            ExitReason.STATIONARY,
            ExitReason.LEAST_RADIUS,
            ExitReason.SOLVE_BUDGET,
        )

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class FemStep:
    """What a trust region adds to a line of the history.

    Attributes:
        ratio: of FEM's actual to the predicted reduction; not a number at the first centre.
        radius: of the box in which the step was sought, in scaled parameters.
        accepted: whether the design became the next centre.
        kkt_residual: by FEM's gradient.
        forward, adjoint: finite-element solves up to here.
    """

    ratio: float
    radius: float
    accepted: bool
    kkt_residual: float
    forward: int
    adjoint: int


@dataclass(frozen=True)
class Iterate:
    """One line of the history; ``objective`` by the model, in its own unit."""

    start: int
    iteration: int
    evaluations: int
    objective: float
    gradient_norm: float
    quantities: tuple[float, ...]
    theta: tuple[float, ...]
    fem: FemStep | None = None


@dataclass(frozen=True)
class Search:
    """The result from one start."""

    start: int
    theta: Array
    objective: float
    violation: float
    reason: ExitReason
    history: tuple[Iterate, ...]


@dataclass(frozen=True)
class Optimum:
    """The best of all searches, and all of them."""

    best: Search
    searches: tuple[Search, ...]

    @property
    def theta(self) -> Array:
        """(P,) the best design."""
        return self.best.theta

    @property
    def objective(self) -> float:
        """Of the best design by the model that searched, in its own unit."""
        return self.best.objective

    @property
    def reason(self) -> ExitReason:
        """Why the search that found it ended; its text says what to do next."""
        return self.best.reason

    @property
    def history(self) -> tuple[Iterate, ...]:
        """Iterates of that search."""
        return self.best.history

    @property
    def ok(self) -> bool:
        """Whether the best can be taken for an optimum, subject to the certificate.

        One that did not move, or had nothing to follow, can where others did and found nothing better.
        """
        unmoved = (ExitReason.DID_NOT_MOVE, ExitReason.ZERO_GRADIENT)
        confirmed = self.best.reason in unmoved and any(search.reason.ok for search in self.searches)
        return self.best.reason.ok or (confirmed and self.best.violation <= 1.0)

    def __str__(self) -> str:
        """What a person reads first; ``history`` and ``searches`` have all of it."""
        last = self.history[-1] if self.history else None
        lines = [
            str(self.reason),
            f"objective: {self.objective:.7g}",
            f"constraints: {'met' if self.best.violation <= 1.0 else 'violated'}, the largest violation"
            f" {self.best.violation:.2g} of what is allowed",
            f"theta: {np.array2string(self.theta, precision=6, separator=', ', max_line_width=100)}",
            f"starts: {sum(search.violation <= 1.0 for search in self.searches)} of {len(self.searches)} feasible",
        ]
        if last is not None:
            solves = f", {last.fem.forward} solves and {last.fem.adjoint} adjoint solves" if last.fem else ""
            lines.append(f"best start: {len(self.history)} iterations, {last.evaluations} evaluations{solves}")
        return "\n".join(lines)


def optimize(
    setup: Setup, model: Model, config: Optimizer, report: Callable[[Iterate], None] = lambda iterate: None
) -> Optimum:
    """Search from the study's start and from random valid designs; the best feasible result is kept."""
    return search_from(setup, start_designs(setup, config.starts, config.seed), model, config, report)


def search_from(
    setup: DesignSetup, starts: Array, model: Model, config: Optimizer, report: Callable[[Iterate], None]
) -> Optimum:
    """Search from given designs (S, P); the best feasible result is kept."""
    searches = run_in_lockstep(
        [partial(_search, setup, config, index, start, report) for index, start in enumerate(starts)],
        model.evaluate,
    )
    return best_of(setup, searches)


def best_of(setup: DesignSetup, searches: Sequence[Search]) -> Optimum:
    """The best feasible result of searches from several starts."""
    return Optimum(min(searches, key=partial(_rank, setup)), tuple(searches))


def start_designs(setup: Setup, count: int, seed: int) -> Array:
    """(count, P): the study's start first, then valid Sobol designs."""
    bounds = setup.family.bounds
    designs = [setup.initial[None]]
    sobol = qmc.Sobol(len(bounds), seed=seed)
    for _ in range(20):
        if sum(map(len, designs)) >= count:
            break
        theta = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * torch.from_numpy(sobol.random(64))
        designs.append(theta[torch.from_numpy(valid_designs(setup.shape_map, theta, 0.05))])
    return torch.cat(designs)[:count].numpy()


def _rank(setup: DesignSetup, search: Search) -> tuple[bool, float, bool]:
    """How much worse than others: feasible ones by their objective, whatever ended them, the rest by how far off."""
    feasible = search.violation <= 1.0 and math.isfinite(search.objective)
    return not feasible, setup.sign * search.objective if feasible else search.violation, not search.reason.ok


@dataclass(frozen=True)
class Scaling:
    """Parameters to [0, 1] by their bounds; objective by its size at the start, or its change where that is zero."""

    lower: Array
    span: Array
    objective: float

    def theta(self, z: Array) -> Array:
        """Parameters in their own units."""
        return self.lower + self.span * z

    def z(self, theta: Array) -> Array:
        """Scaled parameters."""
        return (theta - self.lower) / self.span


def scaling_of(setup: DesignSetup, objective: float, gradient: Array) -> Scaling:
    """Scaling of a study by objective and gradient (P,) at the start; by the latter where the former is near zero."""
    lower, upper = setup.family.bounds.numpy().T
    change = float(np.linalg.norm(gradient * (upper - lower)))
    size = abs(objective) if abs(objective) > VANISHING * change else change
    return Scaling(lower, upper - lower, size or 1.0)


class _Memory:
    """scipy asks for value, gradient and constraints apart; each design is evaluated once."""

    def __init__(
        self, setup: DesignSetup, evaluate: EvaluateOne, scaling: Scaling, start: Array, first: Functionals
    ) -> None:
        self.setup, self.evaluate, self.scaling = setup, evaluate, scaling
        self.evaluations = 1
        self.worst = 1.0
        """Largest scaled objective so far, or its size at the start if that is larger."""
        self._at = start
        self.functionals = self._answered = first
        """At the last design, and where the model last had an answer."""
        self._constraints_at: Array | None = None
        self.constraints: tuple[Array, Array] = np.zeros(0), np.zeros(0)

    def ask(self, z: Array) -> bool:
        """Have the functionals at z; whether the model has an answer there."""
        if not np.array_equal(z, self._at):
            self._at = z.copy()
            self.functionals = self.evaluate(self.scaling.theta(z))
            self.evaluations += 1
        if not all(np.isfinite(part).all() for part in self.functionals):
            return False
        self._answered = self.functionals
        return True

    def objective(self, z: Array) -> tuple[float, Array]:
        """Scaled objective to minimize, and its gradient; a wall where the model has no answer."""
        if not self.ask(z):
            # a line search backs off from a wall that is higher than all before
            return self.worst + 1.0, np.zeros_like(z)
        values, gradients = self.functionals
        scaled = self.setup.sign * float(values[0]) / self.scaling.objective
        self.worst = max(self.worst, scaled)
        return scaled, self.setup.sign * gradients[0] * self.scaling.span / self.scaling.objective

    def constraint(self, z: Array) -> tuple[Array, Array]:
        """Signed gaps (zero or non-negative when met), scaled, and their Jacobian in z; flat on a wall."""
        if self._constraints_at is None or not np.array_equal(z, self._constraints_at):
            self._constraints_at = z.copy()
            functionals = None
            if any(condition.functional is not None for condition in self.setup.constraints):
                values, gradients = self._answered
                functionals = self.functionals if self.ask(z) else (values, np.zeros_like(gradients))
            self.constraints = constraint_values(self.setup, self.scaling.theta(z), functionals)
        values, rows = self.constraints
        return constraint_gaps(self.setup.constraints, values, rows * self.scaling.span)


def _search(
    setup: DesignSetup,
    config: Optimizer,
    index: int,
    start: Array,
    report: Callable[[Iterate], None],
    evaluate: EvaluateOne,
) -> Search:
    values, gradients = evaluate(start)
    first = float(values[0])
    if not np.isfinite(values).all():
        return Search(index, start, first, math.inf, ExitReason.NO_ANSWER, ())
    scaling = scaling_of(setup, first, gradients[0])
    z = scaling.z(start)
    memory = _Memory(setup, evaluate, scaling, z, (values, gradients))
    history: list[Iterate] = []

    def record(z: Array) -> None:
        memory.ask(z)
        if history and history[-1].theta == tuple(scaling.theta(z).tolist()):
            return
        values, gradients = memory.functionals
        quantities, _ = constraint_values(setup, scaling.theta(z), memory.functionals)
        iterate = Iterate(
            index,
            len(history),
            memory.evaluations,
            float(values[0]),
            float(np.linalg.norm(gradients[0] * scaling.span)),
            tuple(quantities.tolist()),
            tuple(scaling.theta(z).tolist()),
        )
        history.append(iterate)
        report(iterate)

    record(z)
    steepness = float(np.linalg.norm(gradients[0] * scaling.span))
    if not math.isfinite(steepness) or steepness <= 1e-12 * scaling.objective:
        violation = worst_violation(setup, np.array(history[0].quantities))
        reason = ExitReason.ZERO_GRADIENT if math.isfinite(steepness) else ExitReason.NO_GRADIENT
        return Search(index, start, first, violation, reason, tuple(history))
    result = _minimize(setup, config, memory, z, record)
    z = np.clip(result.x, 0.0, 1.0)
    record(z)
    violation = worst_violation(setup, np.array(history[-1].quantities))
    reason = _reason(result, config, violation, history, scaling)
    if reason is ExitReason.STALLED and _stationary(setup, config, memory, scaling.theta(z), gradients):
        reason = ExitReason.CONVERGED  # what is left to gain is rounding, in which no line search can find anything
    return Search(index, scaling.theta(z), history[-1].objective, violation, reason, tuple(history))


def _minimize(
    setup: DesignSetup, config: Optimizer, memory: _Memory, z: Array, record: Callable[[Array], None]
) -> OptimizeResult:
    equal = np.array([c.kind == "equals" for c in setup.constraints], dtype=bool)
    constraints = [Gaps(memory.constraint, equal)]
    program = NonlinearProgram(memory.objective, z, np.zeros_like(z), np.ones_like(z), constraints)
    method = slsqp if config.method == "slsqp" else interior_point
    return method(program, config.tolerance, config.max_iterations, record)


def _stationary(setup: DesignSetup, config: Optimizer, memory: _Memory, theta: Array, at_start: Array) -> bool:
    """Whether the model's gradient at the last design (P,) meets ``kkt_tolerance``."""
    values, gradients = memory.functionals
    design, gradient, first = (torch.from_numpy(part) for part in (theta, gradients[0], at_start[0]))
    return stationarity(setup, design, gradient, first, (values, gradients)).residual <= config.kkt_tolerance


def _reason(
    result: OptimizeResult, config: Optimizer, violation: float, history: list[Iterate], scaling: Scaling
) -> ExitReason:
    first, last = history[0], history[-1]
    if not math.isfinite(last.objective):
        return ExitReason.NO_ANSWER
    if violation > 1.0:
        return ExitReason.INFEASIBLE
    if np.abs(scaling.z(np.array(first.theta)) - scaling.z(np.array(last.theta))).max() < UNMOVED:
        return ExitReason.DID_NOT_MOVE
    if abs(first.objective - last.objective) <= 1e-12 * scaling.objective:
        return ExitReason.OBJECTIVE_UNCHANGED
    if result.nit >= config.max_iterations and not result.success:
        return ExitReason.ITERATION_LIMIT
    return ExitReason.CONVERGED if result.success or config.method == "trust_constr" else ExitReason.STALLED
