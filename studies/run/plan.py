"""What an optimum of a study would cost by each model: times measured here, solves as measured studies took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.files import content_key, file_key, read_sealed, write_sealed
from shapewright.studies.problem.flow_models import flow_basis
from shapewright.studies.problem.known_solutions import known_solution
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import OPERATORS, StudyOperator, fitting_operator, operator_path
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.shape_models import reduced_basis
from shapewright.studies.run.measured import FILE, Expected, expected, measured
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.search import search_inputs
from shapewright.studies.run.stage import Run
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.study import PretrainedOperator, StudyModel

REPEATS = 3
"""Calls that are timed; the shortest counts."""
CALLS_A_START = 12
"""Of an operator in a search from one start: five or six centres were measured on the planar studies of the benchmark,
and the small systems of the steps between them cost about as much again."""
WORTH = 5.0
"""Seconds an optimum that another model has to save over finite elements alone to be chosen."""
CHOICE = "model.json"
"""File of an output folder with the model that was chosen in it."""


@dataclass(frozen=True)
class Times:
    """Seconds on this machine, of one design.

    Attributes:
        solve: finite-element solution, of all load cases.
        adjoint: adjoint gradients of all functionals.
        operator: functionals and gradients by the operator; None where none fits.
        tangents: derivatives of the solution along all parameters, where they join the span of a linear problem.
    """

    solve: float
    adjoint: float
    operator: float | None
    tangents: float = 0.0

    @property
    def evaluation(self) -> float:
        """Functionals and gradients by finite elements."""
        return self.solve + self.adjoint


@dataclass(frozen=True)
class Way:
    """A way to an optimum, with what it is expected to take; None where that is not known.

    Attributes:
        method: one of :data:`measured.METHODS`.
        title: in words.
        solves: finite-element solves an optimum.
        calls: of the operator, an optimum.
        seconds: an optimum.
        before: seconds of samples and training before the first optimum.
        before_solves: finite-element solves of the samples.
        gap: of the objective to that by finite elements alone, relative.
        pays_after: number of optima from which on it takes less time than finite elements alone; None if never.
        basis: where the numbers are from, or why there are none.
    """

    method: str
    title: str
    basis: str
    solves: float | None = None
    calls: float | None = None
    seconds: float | None = None
    before: float = 0.0
    before_solves: int = 0
    gap: float | None = None
    pays_after: int | None = None

    @property
    def first(self) -> float:
        """Seconds to the first optimum; infinite where they are not known."""
        return math.inf if self.seconds is None else self.before + self.seconds


@dataclass(frozen=True)
class Plan:
    """Ways to the optimum of a study.

    Attributes:
        study: its name.
        variables: number of design variables.
        starts: from which finite elements alone search.
        times: measured here.
        operator: that fits; None where none does.
        ways: in the order of the table.
        chosen: method of the one that would be taken.
        why: in a sentence.
    """

    study: str
    variables: int
    starts: int
    times: Times
    operator: PretrainedOperator | None
    ways: tuple[Way, ...]
    chosen: str
    why: str

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        operator = None if self.operator is None else self.operator.model_dump()
        return {**asdict(replace(self, operator=None)), "operator": operator}


def make_plan(setup: Setup, device: str = "cpu") -> Plan:
    """Measure a solve, its adjoints and an operator call, and lay out what each way would take."""
    operator = fitting_operator(setup, device)
    opened = operator if isinstance(operator, StudyOperator) else None
    times = _measure(setup, opened)
    ways = ways_of(setup, times, operator if isinstance(operator, str) else "")
    chosen, why = choose(ways, setup.study.model.validation.objective_error)
    model = setup.study.model
    named = None if opened is None else _named(opened, model)
    return Plan(
        model.name, len(setup.family.parameters), model.optimizer.starts, times, named, ways, chosen.method, why
    )


def _named(operator: StudyOperator, model: StudyModel) -> PretrainedOperator:
    if isinstance(model.model, PretrainedOperator):
        return model.model
    return PretrainedOperator(operator=operator.name, gradient=operator.model.gradient)


def _measure(setup: Setup, operator: StudyOperator | None) -> Times:
    fem, theta = FemModel(setup), setup.initial
    batch = theta.numpy()[None]
    solve = _shortest(lambda: fem.solve(theta))
    both = _shortest(lambda: fem.functionals(theta))
    call = None if operator is None else _shortest(lambda: operator.evaluate(batch))
    if reduced_basis(setup) is None:
        return Times(solve, max(0.0, both - solve), call)
    problem = ProblemOnMesh(setup)

    def with_tangents() -> None:
        solution = fem.solve(theta)
        assert isinstance(solution, FemSolution)  # a reduced basis knows no load cases
        known_solution(problem, theta, solution)

    every = _shortest(with_tangents)
    return Times(solve, max(0.0, both - solve), call, max(0.0, every - both))


def _shortest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls, after one that compiles what is to be compiled."""
    work()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def ways_of(setup: Setup, times: Times, no_operator: str) -> tuple[Way, ...]:
    """All ways, with the solves that measured studies with about as many variables took.

    Args:
        setup: study.
        times: measured here.
        no_operator: why no operator fits; empty where one does.
    """
    model, variables = setup.study.model, len(setup.family.parameters)
    cases = max(1, len(setup.problem.cases))
    starts = model.optimizer.starts
    alone = expected("fem", variables)
    fem = _way("fem", f"finite elements alone, {starts} start{'s' * (starts > 1)}", alone, variables)
    if alone is not None:
        fem = replace(fem, solves=cases * starts * alone.solves, seconds=starts * alone.solves * times.evaluation)
    if cases > 1:
        return (fem,)
    operator, surrogate = _by_operator(setup, times, alone, no_operator), _by_surrogate(setup, times)
    ways = fem, _by_own_solutions(setup, times), operator, surrogate
    return tuple(replace(way, pays_after=pays_after(way, fem)) for way in ways)


def _way(method: str, title: str, found: Expected | None, variables: int) -> Way:
    if found is None:
        return Way(method, title, f"not measured for about {variables} variables")
    return Way(method, title, found.basis, solves=found.solves, gap=abs(found.gap))


def _by_own_solutions(setup: Setup, times: Times) -> Way:
    """The trust region without another model, which for a linear problem has the reduced basis of its solutions."""
    variables = len(setup.family.parameters)
    found = expected("interpolation", variables)
    way = _way("interpolation", "trust region on interpolation alone, 1 start", found, variables)
    if flow_basis(setup) is not None and (own := expected("flow_basis", variables)) is not None:
        title = "trust region on the reduced basis of its solutions and tangents, 1 start"
        way = _way("reduced_basis", title, own, variables)
        return replace(way, seconds=own.seconds + own.solves * times.evaluation)  # its calls are dear
    if (flow_basis(setup) or reduced_basis(setup, tuple)) is not None:
        own = expected("reduced_basis", variables)
        title = "trust region on the reduced basis of its solutions, 1 start"
        way = _way("reduced_basis", title, own or found, variables)
        if own is None and found is not None:
            way = replace(way, basis=f"not measured, so as by interpolation alone: {way.basis}")
    each = times.evaluation + (times.tangents if way.method == "reduced_basis" else 0.0)
    return way if way.solves is None else replace(way, seconds=way.solves * each)


def _by_operator(setup: Setup, times: Times, alone: Expected | None, no_operator: str) -> Way:
    title, variables = "trust region on an operator as shipped", len(setup.family.parameters)
    if no_operator or times.operator is None:
        return Way("operator", title, no_operator)
    found = expected("operator", variables)
    way = _way("operator", title, found, variables)
    if found is None or alone is None:
        return way
    calls = CALLS_A_START * setup.study.model.optimizer.starts + found.solves
    seconds = found.solves * (times.evaluation + times.tangents) + calls * times.operator
    return replace(way, calls=calls, seconds=seconds)


def _by_surrogate(setup: Setup, times: Times) -> Way:
    model, variables = setup.study.model, len(setup.family.parameters)
    shipped = model.surrogate.weights is not None
    title = f"trust region on a surrogate {'with the weights named' if shipped else 'trained from nothing'}"
    found = expected("surrogate", variables)
    way = _way("surrogate", title, found, variables)
    if found is None:
        return way
    way = replace(way, seconds=found.seconds + found.solves * times.evaluation)
    if shipped:
        return way
    solves = model.sampling.designs + model.sampling.held_out
    before = solves * times.evaluation / model.sampling.workers + found.training_seconds
    basis = f"{way.basis}; search and training as on {measured()[0]}"
    return replace(way, before=before, before_solves=solves, basis=basis)


def pays_after(way: Way, fem: Way) -> int | None:
    """Number of optima from which on a way takes less time than finite elements alone; None if never or not known."""
    if way.method == "fem" or way.seconds is None or fem.seconds is None or way.seconds >= fem.seconds:
        return None
    return math.floor(way.before / (fem.seconds - way.seconds)) + 1


def choose(ways: Sequence[Way], tolerance: float) -> tuple[Way, str]:
    """The way to one optimum that takes least time among those that meet the tolerance, and why.

    Finite elements alone are taken unless another way saves :data:`WORTH` seconds: nothing else has to be trusted then.

    Args:
        ways: the first of them finite elements alone.
        tolerance: relative error of the objective that the study allows.
    """
    fem = ways[0]
    able = [way for way in ways if way.seconds is not None and way.gap is not None and way.gap <= tolerance]
    best = min(able, key=lambda way: way.first, default=fem)
    if fem.seconds is None:
        return fem, f"{fem.title}: {fem.basis}, and nothing is known to be cheaper"
    cost = f"about {_seconds(fem.first)} expected"
    if best is fem or fem.first - best.first < WORTH:
        return fem, f"{fem.title}: {cost}, and no other way is known to save {WORTH:g} s"
    saved = f"{fem.title} would take about {_seconds(fem.first)}"
    return best, f"{best.title}: about {_seconds(best.first)} expected; {saved}"


def _seconds(value: float) -> str:
    return f"{value / 60:.3g} min" if value >= 120 else f"{value:.2g} s"


def with_choice(study: Study[StudyModel], method: str, operator: PretrainedOperator | None) -> Study[StudyModel]:
    """The study on the model that was chosen."""
    optimizer = study.model.optimizer
    by_scipy = "slsqp" if optimizer.method == "trust_region" else optimizer.method
    model, on, by = {
        "fem": ("fem", "fem", by_scipy),
        "interpolation": ("fem", "fem", "trust_region"),
        "reduced_basis": ("fem", "fem", "trust_region"),
        "operator": (operator, "surrogate", "trust_region"),
        "surrogate": ("surrogate", "surrogate", "trust_region"),
    }[method]
    return study.updated(model=model, optimizer=optimizer.model_copy(update={"on": on, "method": by}))


def decided(run: Run[Setup]) -> Run[Setup]:
    """The run, on a model that is chosen by what each costs where the study leaves it open.

    What was chosen stays in the folder, so that times of another day make nothing anew.
    """
    study = run.setup.study
    if not study.model.undecided:
        return run
    file, key = run.workspace.path(CHOICE), _choice_key(run.setup)
    kept = read_sealed(file)
    if kept is None or kept.get("key") != key:
        plan = make_plan(run.setup, run.device)
        kept = {"key": key, "method": plan.chosen, "operator": plan.as_data()["operator"], "why": plan.why}
        write_sealed(file, kept)
    run.report("model", 1, 1, kept["why"])
    operator = None if kept["operator"] is None else PretrainedOperator(**kept["operator"])
    return replace(run, setup=replace(run.setup, study=with_choice(study, kept["method"], operator)))


def _choice_key(setup: Setup) -> str:
    """Key of what a choice depends on beside times."""
    model = setup.study.model
    weights = model.surrogate.weights
    files = [operator_path(setup.study, name) for name in OPERATORS]
    files += [] if weights is None else [setup.study.folder / weights]
    known = [file_key(file) for file in (FILE, *files) if file.is_file()]
    inputs = physical_inputs(setup), search_inputs(setup), model.optimizer.model_dump(), model.sampling.model_dump()
    return content_key("model", *inputs, known)
