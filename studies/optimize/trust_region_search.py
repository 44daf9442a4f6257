"""A study's optimum by a trust region: the surrogate, corrected at every centre by FEM and its adjoint."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.fields.problem import Problem
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.load_cases import CaseSolution, CaseSolver, solver_of
from shapewright.solvers.fem.solver import FemSolution, FemSolver
from shapewright.studies.files import read_sealed, write_sealed
from shapewright.studies.optimize.correction import Array
from shapewright.studies.optimize.operator_search import optimize_on_operator
from shapewright.studies.optimize.optimizer import (
    ExitReason,
    FemStep,
    Iterate,
    Optimum,
    Scaling,
    Search,
    optimize,
)
from shapewright.studies.optimize.scaled_problem import (
    Solutions,
    known_step,
    quantities_at,
    scaling_at,
    trust_region_problem,
)
from shapewright.studies.optimize.trust_region import (
    Region,
    Step,
    minimize_by_trust_region,
    restore,
)
from shapewright.studies.problem.constraints import (
    worst_violation,
)
from shapewright.studies.problem.design_setup import DesignSetup
from shapewright.studies.problem.flow_models import flow_basis
from shapewright.studies.problem.known_solutions import KnownSolution, known_solution, read_known, state_alone
from shapewright.studies.problem.models import CentredModel, LearningModel, Model, unfolded
from shapewright.studies.problem.problem_on_mesh import ProblemOnMesh
from shapewright.studies.problem.samples import random_directions, sample_of
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.shape_models import reduced_basis
from shapewright.studies.schema.study import Optimizer
from shapewright.surrogate.training.dataset import Dataset, read_dataset

SAME = 1e-12
"""Designs that differ by less, in shares of the parameters' ranges, are one."""
ROUGHLY = {"max_iterations": 60}
"""Of a search on an operator: gradients with its fields held are not quite those of its values, and the rest is the
trust region's, which corrects both."""
WIDER = 5.0
"""First radius on solutions with their tangents and adjoints, in those of other models: they are accurate far off, and
what a step that is not taken teaches them is not lost."""
SPAN = ".span.npz"
"""Ending of the files of adjoints and tangents, beside those of the solutions."""
MAXIMAL_MODEL_ERROR = 0.1
"""Error of the surrogate at its own optimum, relative to the gain it promises, beyond which the start is tried too."""


class SolutionStore:
    """Finite-element solutions on demand, with adjoint gradients and tangents; each its own file, solved once.

    Args:
        setup: study.
        folder: of the files; what lies there is not solved again, but counted.
        tangents: random directions per design along which the material derivative of the fields is recorded.

    Attributes:
        solves: finite-element solves by kind.
        solved: data by design, in the order of the solves; None where there is no answer.
    """

    def __init__(self, setup: Setup, folder: Path, tangents: int = 0) -> None:
        self.setup, self.folder, self.tangents = setup, folder, tangents
        self.solves: Counter[str] = Counter(forward=0, adjoint=0, tangent=0)
        self.solved: dict[bytes, Dataset | None] = {}
        self._keeps_spans = False
        self._spans: dict[bytes, KnownSolution] = {}
        self._problem = ProblemOnMesh(setup)
        self._solver: FemSolver | CaseSolver | None = None

    def __call__(self, theta: Array) -> Dataset | None:
        """The solution at a design (P,) as a data set of one; None where there is no answer."""
        lower, upper = self.setup.family.bounds.numpy().T
        key = np.round((theta - lower) / (upper - lower) / SAME).astype(np.int64).tobytes()
        if key not in self.solved:
            self.solved[key] = self._solve(theta, self._file(key))
        return self.solved[key]

    def known(self) -> list[Dataset]:
        """Solutions asked for, in their order, each a data set of one."""
        return [found for found in self.solved.values() if found is not None]

    def elsewhere(self, theta: Array) -> list[Dataset]:
        """Solutions of other searches that one from a design (P,) takes up; none unless they share their solutions."""
        return []

    def keep_spans(self) -> None:
        """Have the solutions that follow come with adjoints and tangents along all parameters."""
        self._keeps_spans = True

    def spans(self) -> list[KnownSolution]:
        """Solutions asked for, in their order, with the adjoints and tangents that were kept of each."""
        return [self._span(key, found) for key, found in self.solved.items() if found is not None]

    @property
    def files(self) -> list[Path]:
        """Those of the solutions asked for, in their order."""
        return [self._file(key) for key, found in self.solved.items() if found is not None]

    def _file(self, key: bytes) -> Path:
        return self.folder / f"{hashlib.sha256(key).hexdigest()[:16]}.npz"

    def _solve(self, theta: Array, file: Path) -> Dataset | None:
        design = torch.from_numpy(np.array(theta))
        if not unfolded(self.setup, design[None])[0]:
            return None
        self.solves["forward"] += max(1, len(self.setup.problem.cases))
        found = self._left(file, design)
        if found is None:
            self._solver = self._solver or solver_of(self.setup.problem, self.setup.shape_map.mesh)
            directions = random_directions(self.setup, 1, self.tangents, len(self.solved))[0]
            try:
                solution = self.setup.maps.solve(self._solver, design)
                sample = sample_of(self.setup, solution, design, directions)
                known = self._known(design, solution) if self._keeps_spans else None
            except SolveError:
                return None
            found = Dataset(**{name: torch.from_numpy(array)[None] for name, array in vars(sample).items()})
            self.folder.mkdir(parents=True, exist_ok=True)
            if known is not None:
                known.save(file.with_suffix(SPAN))
            found.save(file)
        self.solves["adjoint"] += _adjoints(self.setup.problem)
        self.solves["tangent"] += found.tangents.shape[1]
        if self._keeps_spans and file.with_suffix(SPAN).is_file():
            self.solves["tangent"] += len(design)
        return found

    def _known(self, design: Tensor, solution: FemSolution | CaseSolution) -> KnownSolution | None:
        return known_solution(self._problem, design, solution) if isinstance(solution, FemSolution) else None

    def _span(self, key: bytes, found: Dataset) -> KnownSolution:
        if key not in self._spans:
            functionals, parameters = found.gradients.shape[1:]
            size = (1 + functionals + parameters, *found.solution.shape[1:])
            known = read_known(self._file(key).with_suffix(SPAN), size)
            same = known is not None and torch.equal(known.theta, found.theta[0])
            self._spans[key] = known if known is not None and same else state_alone(self._problem, found)
        return self._spans[key]

    def _left(self, file: Path, design: Tensor) -> Dataset | None:
        """What an earlier run left of a design; None where there is no whole solution of it."""
        found = read_dataset(file)
        if found is None or found.theta.shape != (1, len(design)):
            return None
        span = self.setup.family.bounds[:, 1] - self.setup.family.bounds[:, 0]
        nodes, fields = len(self.setup.shape_map.mesh.nodes), len(self.setup.problem.physics.components)
        functionals = len(self.setup.problem.functionals)
        whole = (
            bool(((found.theta[0] - design).abs() <= 2 * SAME * span).all())
            and found.solution.shape == (1, nodes, fields)
            and found.values.shape == (1, functionals)
            and found.gradients.shape == (1, functionals, len(design))
            and found.tangents.shape == (1, self.tangents, nodes, fields)
        )
        return found if whole else None


def _adjoints(problem: Problem) -> int:
    """Adjoint solves of a design: one for each functional, in each case."""
    if not problem.cases:
        return len(problem.functionals)
    return len({functional.of for functional in problem.case_functionals}) * len(problem.cases)


def search_by_trust_region(
    setup: Setup,
    surrogate: Model | None,
    config: Optimizer,
    store: SolutionStore,
    proposals: Path,
    report: Callable[[Iterate], None] = lambda iterate: None,
) -> Optimum:
    """Search on the surrogate from many starts, then lead its best design to a stationary one by finite elements.

    The last of the searches is that of the trust region. What the surrogate found is kept in the file ``proposals``,
    so that a run which is broken off goes on from it and from the solutions in ``store``. Without a surrogate the trust
    region goes from the study's start, on the interpolation of what finite elements gave at its centres; for a linear
    problem on the reduced basis of their solutions, too.
    """
    model = own_model(setup, store) if surrogate is None else surrogate
    if isinstance(model, CentredModel) and model.spans:
        store.keep_spans()
    proposed = None if surrogate is None else _proposed(setup, surrogate, config, proposals, report)
    theta = _start(setup, surrogate, store, proposed)
    solution = store(theta)
    scaling = scaling_at(setup, solution)
    problem = trust_region_problem(setup, model, store, scaling)
    spent = len(store.solved) - 1  # the start itself is the first of the budget
    wide = min(1.0, WIDER * config.radius) if isinstance(model, LearningModel) else config.radius
    region = Region(
        wide, config.least_radius, tolerance=config.kkt_tolerance, budget=max(1, config.max_solves - spent)
    )
    elsewhere = [known_step(setup, scaling, solution, region.radius) for solution in store.elsewhere(theta)]
    before = () if proposed is None else proposed.searches
    index = len(before)
    history: list[Iterate] = []

    def record(step: Step) -> None:
        if np.isfinite(step.values).all():
            history.append(iterate_of(setup, scaling, index, len(history), step, store))
            report(history[-1])

    found = minimize_by_trust_region(problem, scaling.z(theta), region, record, elsewhere)
    theta = scaling.theta(found.centre.z)
    violation = worst_violation(setup, quantities_at(setup, theta, store))
    objective = setup.sign * scaling.objective * float(found.centre.values[0])
    best = Search(index, theta, objective, violation, found.reason, tuple(history))
    return Optimum(best, (*before, best))


def own_model(setup: Setup, store: SolutionStore) -> LearningModel | None:
    """The reduced basis of a study's own solutions, of a linear problem or a flow; None for another one."""
    return flow_basis(setup, store.spans) or reduced_basis(setup, store.spans)


def _start(setup: Setup, surrogate: Model | None, store: SolutionStore, proposed: Optimum | None) -> Array:
    """The surrogate's design, or the study's start where the surrogate is too inaccurate at its own optimum."""
    unit = scaling_at(setup, None)
    problem = trust_region_problem(setup, surrogate, store, unit)
    start = unit.theta(restore(problem, unit.z(setup.initial.numpy())))
    if surrogate is None or proposed is None:
        return start
    first = unit.theta(restore(problem, unit.z(proposed.best.theta)))
    if not proposed.ok:
        return start
    values, _ = surrogate.evaluate(np.stack([start, first]))  # before the solution, which a learning model takes up
    solution = store(first)
    if solution is None:
        return start
    predicted, exact = setup.sign * values[:, 0], setup.sign * float(solution.values[0, 0])
    if abs(exact - predicted[1]) <= MAXIMAL_MODEL_ERROR * (predicted[0] - predicted[1]):
        return first
    at_start = store(start)
    return start if at_start is not None and setup.sign * float(at_start.values[0, 0]) < exact else first


class CountedSolutions(Solutions, Protocol):
    """Solutions on demand, and how many there were."""

    @property
    def solves(self) -> Mapping[str, int]:
        """Finite-element solves by kind."""


def iterate_of(
    setup: DesignSetup, scaling: Scaling, start: int, number: int, step: Step, store: CountedSolutions
) -> Iterate:
    """A step of the trust region as a line of the history."""
    theta, solves = scaling.theta(step.z), store.solves
    return Iterate(
        start,
        number,
        number + 1,
        setup.sign * scaling.objective * float(step.values[0]),
        scaling.objective * float(np.linalg.norm(step.jacobian[0])),
        tuple(quantities_at(setup, theta, store).tolist()),
        tuple(theta.tolist()),
        FemStep(step.ratio, step.radius, step.accepted, step.kkt, solves["forward"], solves["adjoint"]),
    )


def _proposed(
    setup: Setup, surrogate: Model, config: Optimizer, file: Path, report: Callable[[Iterate], None]
) -> Optimum:
    """What the surrogate alone finds; from the file where it is there."""
    left = _left_proposals(file)
    if left is not None:
        return left
    if isinstance(surrogate, CentredModel) and surrogate.spans:
        optimum = optimize_on_operator(setup, surrogate, config, report)
    else:
        limits = ROUGHLY if isinstance(surrogate, LearningModel) else {}
        optimum = optimize(setup, surrogate, config.model_copy(update={"method": "slsqp", **limits}), report)
    file.parent.mkdir(parents=True, exist_ok=True)
    searches = [asdict(s) | {"theta": s.theta.tolist(), "reason": s.reason.name} for s in optimum.searches]
    write_sealed(file, {"best": optimum.searches.index(optimum.best), "searches": searches})
    return optimum


def _left_proposals(file: Path) -> Optimum | None:
    """What an earlier run found; None where there is no file, or one that was cut or edited."""
    content = read_sealed(file)
    try:
        searches = tuple(_search(entry) for entry in content["searches"]) if content else ()
        return Optimum(searches[content["best"]], searches) if content else None
    except (KeyError, IndexError, TypeError, ValueError):  # of an earlier version
        return None


def _search(entry: dict) -> Search:
    """A search as it was before it was written; JSON has no numbers that are not finite."""
    history = tuple(
        Iterate(**i | {"quantities": tuple(i["quantities"]), "theta": tuple(i["theta"])}) for i in entry["history"]
    )
    objective, violation = (math.nan if entry[key] is None else entry[key] for key in ("objective", "violation"))
    return Search(
        entry["start"], np.array(entry["theta"]), objective, violation, ExitReason[entry["reason"]], history
    )
