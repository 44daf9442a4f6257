"""A trust region that ends where the expensive model is stationary, however poor the cheap one is.

Each step minimizes the cheap model, corrected at the centre (:mod:`optimize.correction`), within a box around it; the
expensive model is asked at the trial point only, and its actual over the predicted reduction decides on acceptance and
radius. First-order consistency makes it converge to a stationary point of the expensive problem: N. M. Alexandrov,
R. M. Lewis, Optim. Eng. 2 (2001) 413; A. R. Conn, N. I. M. Gould, P. L. Toint, Trust-Region Methods (2000), chapter 10.
Where the gradients of the cheap model are not those of its values, that fails; so there is a second model, the
interpolation of the expensive one alone. The model with the smaller prediction error of the derivatives at the last
solve is minimized first, the other one where that finds no better design.

Constraints that cost nothing are taken exactly: a start that violates them is first restored to the nearest design
that does not, and every trial point satisfies them. Constraints that need the expensive model are corrected like the
objective and enter an l1 merit function, elastically in the subproblem, so that it always has a solution (R. Fletcher,
Practical Methods of Optimization, 2nd ed., section 14.3).

Where the predicted reduction comes near the noise of the merit function, whose rounding grows with the penalty, steps
are sought and evaluated by gradients (:mod:`optimize.fine_step`). That ends, too. A step evaluated by values lowers the
true merit, for its reduction has to exceed the noise of both values; one by gradients lowers it by what they say to
third order in a step far shorter than the functions' turns; one that is taken because the KKT residual falls lowers the
least residual so far by a tenth at least, which happens finitely often before the tolerance is reached. So no design is
met twice, and rejected steps shrink the region until one is taken or its least radius is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from shapewright.studies.optimize.correction import Array, Corrected, Difference, Evaluate, corrected
from shapewright.studies.optimize.fine_step import expand, fine_step
from shapewright.studies.optimize.nonlinear_program import Gaps, NonlinearProgram, slsqp
from shapewright.studies.optimize.optimizer import ExitReason
from shapewright.studies.optimize.stationarity import Balance, least_squares_multipliers, relative_residual
from shapewright.studies.problem.conditions import ACTIVE

ACCEPT, SHRINK_BELOW, GROW_ABOVE, GROW_LIMIT = 1e-4, 0.25, 0.75, 1.3
"""Ratios of actual to predicted reduction: a step is taken; the radius shrinks; it may grow."""
RESOLUTION = 1e-13
"""A predicted reduction smaller than this, relative to the objective's scale, is rounding."""
SAFETY = 100.0
"""A predicted reduction of fewer times the noise of the merit function is not evaluated by it."""
SHORT, DISAGREE = 1e-3, 0.5
"""A step shorter than this, along which a model's values and its gradients disagree about the reduction by more than
this share, follows the rounding of the values."""
RESIDUAL_FALLS = 0.9
"""A fine step is taken where the KKT residual falls to this share of the least one so far."""
RESTORED = 1e-12
"""Violation of an exact constraint beyond which a design is moved to meet it; far above the rounding of its gap."""
LENGTHS = 0.05, 0.1, 0.2, 0.4
"""Correlation lengths of the expensive model to choose from; a smooth maximum turns far faster than a mean. What a
cheap model misses keeps one length, so that it does not follow the ripples of a network's error."""
STEERED = 0.9
"""A larger penalty is taken where it leaves this share of a predicted violation, or less."""
LARGEST_PENALTY = 1e6
"""Beyond it a constraint that is still missed is taken to be out of reach."""


@dataclass(frozen=True)
class TrustRegionProblem:
    """Minimize the first of F functionals, the others being gaps of constraints that need the expensive model.

    A gap is zero (equality) or non-negative (inequality) where its constraint is met; all variables are scaled to
    [0, 1], the objective to about one.

    Attributes:
        expensive: z (P,) -> (F,) values and (F, P) Jacobian; values that are not finite where there is no answer.
        cheap: of a centre (P,), the same approximately about it.
        exact: z -> (C,) gaps of constraints that cost nothing, and their (C, P) Jacobian.
        equal: (C,) whether each exact gap is an equality.
        expensive_equal: (F - 1,) the same of the expensive gaps.
        gradient_scale: size of the objective's gradient that a residual is relative to where nothing is active.
        feasible, expensive_feasible: largest violation of an exact, an expensive gap that counts as met.
        noise: of the expensive values, relative to their size or to one, whichever is larger.
        learns: whether the cheap model is another one about each centre and after each evaluation of the expensive one.
        inner_tolerance, inner_iterations: of the search of each step on the cheap model.
    """

    expensive: Evaluate
    cheap: Callable[[Array], Evaluate]
    exact: Evaluate
    equal: NDArray[np.bool_]
    expensive_equal: NDArray[np.bool_]
    gradient_scale: Callable[[], float]
    feasible: float = 1e-7
    expensive_feasible: float = 1e-7
    noise: float = 1e-12
    learns: bool = False
    inner_tolerance: float = 1e-11
    inner_iterations: int = 60


@dataclass(frozen=True)
class Region:
    """How the trust region runs.

    Attributes:
        radius, least_radius, largest_radius: of the box around the centre, in scaled parameters.
        tolerance: KKT residual at which it has converged.
        budget: evaluations of the expensive model.
        learn: whether the correction interpolates the difference at all designs solved, not at the centre alone.
    """

    radius: float = 0.2
    least_radius: float = 1e-6
    largest_radius: float = 1.0
    tolerance: float = 1e-3
    budget: int = 100
    learn: bool = True


@dataclass(frozen=True)
class Step:
    """One evaluation of the expensive model.

    Attributes:
        z, values, jacobian: where, and what it gave.
        ratio: of actual to predicted reduction; not a number at the first centre.
        radius: within which the step was sought.
        accepted: whether it became the centre.
        kkt: residual there.
    """

    z: Array
    values: Array
    jacobian: Array
    ratio: float
    radius: float
    accepted: bool
    kkt: float


@dataclass(frozen=True)
class Known:
    """A step with an answer, and what the cheap model says of it."""

    step: Step
    values: Array
    jacobian: Array


@dataclass(frozen=True)
class Outcome:
    """Result: the last centre, every step, and why it ended."""

    centre: Step
    steps: tuple[Step, ...]
    reason: ExitReason


@dataclass(frozen=True)
class Trial:
    """A design to ask the expensive model about.

    Attributes:
        z: where.
        predicted: reduction of the merit function.
    """

    z: Array
    predicted: float


@dataclass(frozen=True)
class FineTrial:
    """One whose reduction values do not tell.

    Attributes:
        z, predicted, offset: where, and reductions of the Lagrangian: see :class:`fine_step.FineStep`.
        multipliers, bounds: (F - 1 + C,) factors of all gaps, and (P,) gradients of bounds in the Lagrangian.
    """

    z: Array
    predicted: float
    offset: float
    multipliers: Array
    bounds: Array


def minimize_by_trust_region(
    problem: TrustRegionProblem,
    start: Array,
    region: Region,
    report: Callable[[Step], None] = lambda step: None,
    before: Sequence[Step] = (),
) -> Outcome:
    """Run the trust region from ``start`` (P,); ``before`` are designs elsewhere where the expensive model is known."""
    z = restore(problem, np.clip(start, 0.0, 1.0))
    if not violation(problem.exact(z)[0], problem.equal).max(initial=0.0) <= problem.feasible:
        blank = Step(z, np.full(1, np.nan), np.full((1, len(z)), np.nan), np.nan, region.radius, False, np.nan)
        return Outcome(blank, (), ExitReason.INFEASIBLE)
    steps: list[Step] = []
    # a model that learns has taken up what was known before, and costs a call each
    aside = [_no_answer(step) if problem.learns else problem.cheap(step.z)(step.z) for step in before]
    elsewhere = [Known(step, *answer) for step, answer in zip(before, aside, strict=True)]
    answered: list[Step] = []
    known: list[Known] = []

    def ask(z: Array, radius: float, evaluate: Callable[[Step], tuple[float, bool]]) -> Step:
        values, jacobian = problem.expensive(z)
        step = Step(z, values, jacobian, -np.inf, radius, False, np.nan)
        if np.isfinite(values).all() and np.isfinite(jacobian).all():
            step = replace(step, kkt=kkt(problem, z, values, jacobian).residual)
            ratio, accepted = evaluate(step)
            step = replace(step, ratio=ratio, accepted=accepted)
            answered.append(step)
        steps.append(step)
        report(step)
        return step

    centre = ask(z, region.radius, lambda step: (np.nan, True))
    if not centre.accepted:
        return Outcome(centre, tuple(steps), ExitReason.NO_ANSWER)
    radius, penalty, preferred, least, about = region.radius, 0.0, 0, np.inf, centre
    while True:
        reason = _end(problem, centre, radius, len(steps), region)
        if reason is not None:
            return Outcome(centre, tuple(steps), reason)
        penalty = max(penalty, _penalty(problem, centre))
        cheap = problem.cheap(centre.z)
        if problem.learns and (len(known) < len(answered) or about is not centre):
            known, about = [], centre
        known += [Known(step, *cheap(step.z)) for step in answered[len(known) :]]
        models = _models(cheap, centre, [*elsewhere, *known], region)
        first = models[::-1] if preferred == 1 else models
        penalty, steered = _steered(problem, first[0], centre, radius, penalty)
        trial = _trial(problem, first, centre, radius, penalty, steered)
        if trial is None:
            if _met(problem, centre) or penalty >= LARGEST_PENALTY:
                radius *= 0.25
            else:  # bounds may balance the objective where a constraint is missed, whose multiplier is then zero
                penalty *= 10.0
            continue
        if isinstance(trial, FineTrial):
            least = min(least, centre.kkt)
            step = ask(trial.z, radius, partial(_by_gradients, problem, centre, trial, penalty, least))
        else:
            step = ask(trial.z, radius, partial(_by_values, problem, centre, trial, penalty))
        length = float(np.abs(trial.z - centre.z).max())
        if step.accepted and step.ratio < SHRINK_BELOW and isinstance(trial, FineTrial):
            pass  # its residual falls: the model is right, and the reduction is rounding
        elif step.ratio < SHRINK_BELOW:
            radius = 0.25 * length if step.ratio < 0 else 0.5 * length
        elif GROW_ABOVE < step.ratio < GROW_LIMIT and length > 0.9 * radius:
            radius = min(2.0 * radius, region.largest_radius)
        if np.isfinite(step.jacobian).all():
            preferred = int(np.argmin([_prediction_error(model, step) for model in models]))
        if step.accepted:
            centre = step


def violation(gaps: Array, equal: NDArray[np.bool_]) -> Array:
    """By how much each gap misses; zero where its constraint is met."""
    return np.where(equal, np.abs(gaps), np.maximum(0.0, -gaps))


def merit(problem: TrustRegionProblem, values: Array, penalty: float) -> float:
    """l1 merit function of the expensive functionals; the exact constraints are met at every point it is used."""
    return float(values[0] + penalty * violation(values[1:], problem.expensive_equal).sum())


def noise_of(problem: TrustRegionProblem, values: Array, penalty: float) -> float:
    """What rounding may do to the merit function, by the size of the (F,) values and by the penalty."""
    sizes = problem.noise * np.maximum(1.0, np.abs(values))
    return float(sizes[0] + penalty * sizes[1:].sum())


@dataclass(frozen=True)
class Kkt:
    """First-order conditions at a design.

    Attributes:
        residual: the relative KKT residual without a floor, so never less than the certificate's; see
            :func:`stationarity.relative_residual`.
        remainder: (P,) gradient of the Lagrangian, which is the objective less multipliers times gaps.
        multipliers: (F - 1 + C,) of the expensive gaps, then of the exact ones, zero where one is not active.
        walls: (P,) what bounds balance of the gradient.
    """

    residual: float
    remainder: Array
    multipliers: Array
    walls: Array


def kkt(problem: TrustRegionProblem, z: Array, values: Array, jacobian: Array) -> Kkt:
    """First-order conditions at z (P,), with the expensive model's values and Jacobian there."""
    gaps, rows = problem.exact(z)
    every = np.concatenate([values[1:], gaps])
    equal = np.concatenate([problem.expensive_equal, problem.equal])
    active = np.flatnonzero(equal | (every < ACTIVE))
    columns = -np.concatenate([jacobian[1:], rows])[active].T
    found: Balance = least_squares_multipliers(z, jacobian[0], columns, np.where(equal[active], -np.inf, 0.0))
    multipliers = np.zeros(len(every))
    multipliers[active] = found.multipliers
    residual = relative_residual(found, jacobian[0], problem.gradient_scale, floor=0.0)
    return Kkt(residual, found.remainder, multipliers, found.walls)


def restore(problem: TrustRegionProblem, z: Array) -> Array:
    """The nearest design to z (P,) that satisfies the exact constraints; z itself where it does."""
    if violation(problem.exact(z)[0], problem.equal).max(initial=0.0) <= min(RESTORED, problem.feasible):
        return z
    nearest = NonlinearProgram(
        lambda x: (0.5 * ((x - z) ** 2).sum(), x - z),
        z,
        np.zeros_like(z),
        np.ones_like(z),
        [_exact_constraints(problem)],
    )
    found = slsqp(nearest, 1e-14, 200)
    return np.clip(found.x, 0.0, 1.0)


def _end(
    problem: TrustRegionProblem, centre: Step, radius: float, solves: int, region: Region
) -> ExitReason | None:
    met = _met(problem, centre)
    if centre.kkt <= region.tolerance and met:
        return ExitReason.STATIONARY
    if radius < region.least_radius:
        return ExitReason.LEAST_RADIUS if met else ExitReason.INFEASIBLE
    return ExitReason.SOLVE_BUDGET if solves >= region.budget else None


def _met(problem: TrustRegionProblem, centre: Step) -> bool:
    missed = violation(centre.values[1:], problem.expensive_equal).max(initial=0.0)
    return bool(missed <= problem.expensive_feasible)


def _penalty(problem: TrustRegionProblem, centre: Step) -> float:
    """Twice the largest multiplier of an expensive constraint, beyond which the l1 merit function is exact."""
    if len(centre.values) == 1:
        return 0.0
    multipliers = kkt(problem, centre.z, centre.values, centre.jacobian).multipliers[: len(centre.values) - 1]
    return max(1e-3, 2.0 * float(np.abs(multipliers).max()))


def _steered(
    problem: TrustRegionProblem, model: Corrected, centre: Step, radius: float, penalty: float
) -> tuple[float, Array]:
    """The penalty with which a model's step meets the expensive constraints as far as it can, and where that leads.

    Multipliers at a centre where a constraint is not active say nothing of it; the model does, without a solve:
    R. Byrd, J. Nocedal, R. Waltz, Optim. Methods Softw. 23 (2008) 197.
    """

    def step(penalty: float) -> tuple[Array, float]:
        z = _minimize(problem, model, centre, radius, penalty)
        return z, float(violation(model(z)[0][1:], problem.expensive_equal).sum())

    z, missed = step(penalty)
    larger = penalty
    while missed > problem.expensive_feasible and larger < LARGEST_PENALTY:
        larger *= 10.0
        found, less = step(larger)
        if less <= problem.expensive_feasible:  # as large as its multipliers ask for is enough
            multipliers = kkt(problem, found, *model(found)).multipliers[: len(centre.values) - 1]
            return max(penalty, min(larger, 2.0 * float(np.abs(multipliers).max()))), found
        if less > STEERED * missed:
            break
        missed = less
    return penalty, z


def _trial(
    problem: TrustRegionProblem,
    models: Sequence[Corrected],
    centre: Step,
    radius: float,
    penalty: float,
    first: Array,
) -> Trial | FineTrial | None:
    """The first model's step that promises something, which leads to ``first``; None where no model's does."""
    before, met = merit(problem, centre.values, penalty), _met(problem, centre)
    least = SAFETY * noise_of(problem, centre.values, penalty) if met else RESOLUTION
    for model in models:
        z = first if model is models[0] else _minimize(problem, model, centre, radius, penalty)
        values, jacobian = model(z)
        predicted, step = before - merit(problem, values, penalty), z - centre.z
        integrated = centre.values + 0.5 * (centre.jacobian + jacobian) @ step
        missed = abs(before - merit(problem, integrated, penalty) - predicted)
        if predicted > least and not (np.abs(step).max() < SHORT and missed > DISAGREE * predicted):
            return Trial(z, predicted)
    fine = (_fine_trial(problem, model, centre, radius) for model in models if met)
    return next((trial for trial in fine if trial is not None), None)


def _fine_trial(problem: TrustRegionProblem, model: Corrected, centre: Step, radius: float) -> FineTrial | None:
    """The step on a quadratic about the centre; None where there is none, or it predicts no reduction."""
    z, here = centre.z, kkt(problem, centre.z, centre.values, centre.jacobian)
    functionals = expand(model, z, centre.values, centre.jacobian)
    gaps = functionals[1:].joined(expand(problem.exact, z, *problem.exact(z)))
    curvature = functionals.hessians[0] - np.tensordot(here.multipliers, gaps.hessians, 1)
    if not (np.isfinite(curvature).all() and np.isfinite(gaps.hessians).all()):
        return None
    equal, unsure = np.concatenate([problem.expensive_equal, problem.equal]), np.linalg.norm(here.remainder)
    held = equal | (here.multipliers * np.linalg.norm(gaps.jacobian, axis=1) > unsure)
    fixed = np.abs(here.walls) > unsure
    multipliers, bounds = np.where(held, here.multipliers, 0.0), np.where(fixed, here.walls, 0.0)
    gradient = centre.jacobian[0] - multipliers @ gaps.jacobian - bounds
    low, high = np.maximum(-radius, -z), np.minimum(radius, 1.0 - z)
    found = fine_step(gradient, curvature, gaps[held], gaps[~held], fixed, low, high)
    trial = restore(problem, z + found.step)
    met = violation(problem.exact(trial)[0], problem.equal).max(initial=0.0) <= problem.feasible
    if not (met and found.predicted > 0.0):
        return None
    return FineTrial(trial, found.predicted, found.offset, multipliers, bounds)


def _by_values(
    problem: TrustRegionProblem, centre: Step, trial: Trial, penalty: float, step: Step
) -> tuple[float, bool]:
    """Ratio of actual to predicted reduction of the merit function, and whether the step is taken."""
    actual = merit(problem, centre.values, penalty) - merit(problem, step.values, penalty)
    noise = max(noise_of(problem, values, penalty) for values in (centre.values, step.values))
    least = 2.0 * noise if _met(problem, centre) else 0.0
    return actual / trial.predicted, actual > max(ACCEPT * trial.predicted, least)


def _by_gradients(
    problem: TrustRegionProblem, centre: Step, trial: FineTrial, penalty: float, least: float, step: Step
) -> tuple[float, bool]:
    """The same of the Lagrangian, by its gradients at both ends; ``least`` is the least KKT residual so far."""
    ends = [
        end.jacobian[0] - trial.multipliers @ np.concatenate([end.jacobian[1:], problem.exact(end.z)[1]]) - trial.bounds
        for end in (centre, step)
    ]
    reduction = -0.5 * float((ends[0] + ends[1]) @ (step.z - centre.z))
    ratio = (reduction - trial.offset) / trial.predicted
    noise = max(noise_of(problem, values, penalty) for values in (centre.values, step.values))
    rise = merit(problem, step.values, penalty) - merit(problem, centre.values, penalty)
    good = ratio > ACCEPT or step.kkt <= RESIDUAL_FALLS * least
    return ratio, good and _met(problem, step) and rise <= SAFETY * noise


def _models(cheap: Evaluate, centre: Step, known: list[Known], region: Region) -> list[Corrected]:
    """The corrected cheap model where it has an answer at the centre, and one without it: the interpolation alone."""
    here = next(k for k in known if k.step is centre)
    others = [k for k in known if k is not here] if region.learn else []
    plain = [_difference(k, 0.0, 0.0) for k in others]
    alone = corrected(_zero_model, _difference(here, 0.0, 0.0), plain, LENGTHS)
    if not _answered(here):
        return [alone]
    there = [_difference(k, k.values, k.jacobian) for k in others if _answered(k)]
    return [corrected(cheap, _difference(here, here.values, here.jacobian), there), alone]


def _no_answer(step: Step) -> tuple[Array, Array]:
    return np.full_like(step.values, np.nan), np.full_like(step.jacobian, np.nan)


def _zero_model(z: Array) -> tuple[float, float]:
    return 0.0, 0.0


def _answered(known: Known) -> bool:
    return bool(np.isfinite(known.values).all() and np.isfinite(known.jacobian).all())


def _difference(known: Known, values: Array | float, jacobian: Array | float) -> Difference:
    return Difference(known.step.z, known.step.values - values, known.step.jacobian - jacobian)


def _prediction_error(model: Corrected, step: Step) -> float:
    """By how much a model missed the derivatives at a step that it did not know."""
    missed = np.linalg.norm(model(step.z)[1] - step.jacobian)
    return float(missed) if np.isfinite(missed) else np.inf


def _exact_constraints(problem: TrustRegionProblem, slacks: int = 0) -> Gaps:
    """Of designs with slack variables behind the parameters, which these constraints do not have."""

    def evaluate(x: Array) -> tuple[Array, Array]:
        gaps, rows = problem.exact(x[: len(x) - slacks])
        return gaps, np.hstack([rows, np.zeros((len(gaps), slacks))])

    return Gaps(evaluate, problem.equal)


def _minimize(problem: TrustRegionProblem, model: Corrected, centre: Step, radius: float, penalty: float) -> Array:
    """Least corrected merit within the box; slacks take what the corrected constraints cannot meet there."""
    size, slacks = len(centre.z), len(centre.values) - 1
    known: dict[bytes, tuple[Array, Array]] = {}

    def answer(x: Array) -> tuple[Array, Array]:
        z = x[:size]
        if z.tobytes() not in known:
            known.clear()
            known[z.tobytes()] = model(z)
        return known[z.tobytes()]

    def objective(x: Array) -> tuple[float, Array]:
        values, jacobian = answer(x)
        if not np.isfinite(values).all():  # a line search backs off from a wall
            return abs(centre.values[0]) + 1e3, np.zeros_like(x)
        return float(values[0] + penalty * x[size:].sum()), np.concatenate([jacobian[0], np.full(slacks, penalty)])

    equal, unit = problem.expensive_equal, np.eye(slacks)

    def elastic(x: Array) -> tuple[Array, Array]:
        """gap + slack, and slack - gap of equalities."""
        (values, jacobian), slack = answer(x), x[size:]
        rows = [np.hstack([jacobian[1:], unit]), np.hstack([-jacobian[1:], unit])[equal]]
        return np.concatenate([values[1:] + slack, (slack - values[1:])[equal]]), np.concatenate(rows)

    lower, upper = np.maximum(0.0, centre.z - radius), np.minimum(1.0, centre.z + radius)
    corrected_problem = NonlinearProgram(
        objective,
        np.concatenate([centre.z, violation(centre.values[1:], problem.expensive_equal)]),
        np.concatenate([lower, np.zeros(slacks)]),
        np.concatenate([upper, np.full(slacks, np.inf)]),
        [_exact_constraints(problem, slacks), Gaps(elastic, np.zeros(slacks + int(equal.sum()), dtype=bool))],
    )
    found = slsqp(corrected_problem, problem.inner_tolerance, problem.inner_iterations)
    trial = restore(problem, np.clip(found.x[:size], lower, upper))
    met = violation(problem.exact(trial)[0], problem.equal).max(initial=0.0) <= problem.feasible
    return trial if met and np.isfinite(model(trial)[0]).all() else centre.z
