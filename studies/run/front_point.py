"""Stage of one design of a front: its search, CAD and certificate, in a folder of its own.

The folder is that of an ordinary study, so that `shapewright status` and `shapewright verify` take it as such.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from shapewright.studies.certify.checks import cad_checks
from shapewright.studies.certify.export import shape_data
from shapewright.studies.certify.verdict_model import Check
from shapewright.studies.certify.verdicts import least_residual
from shapewright.studies.files import content_key, write_json, write_text
from shapewright.studies.optimize.optimizer import Iterate, Optimum, optimize
from shapewright.studies.optimize.shared_solutions import SharedSolutions, take_up
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.front import LOOSE, Array, Limit, end_study, front_of, limited_study
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import open_operator
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.failed_search import check_optimum
from shapewright.studies.run.optimum import FoundOptimum, found_optimum, history_table, read_optimum, write_optimum
from shapewright.studies.run.resolved import RUN, write_study
from shapewright.studies.run.search import FILES, OPTIMIZE, search_inputs
from shapewright.studies.run.stage import Output, Results, Run, Stage, run_stages
from shapewright.studies.run.train import SURROGATE
from shapewright.studies.run.validate import CERTIFICATE, EXPORT, FIELD_FILES, VALIDATE, leave_card
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.study import StudyModel


@dataclass(frozen=True)
class Found:
    """What the stage of a design leaves in its record.

    Attributes:
        parameters: name -> value.
        values: (2,) both objectives in their own units, by finite elements on the moved mesh.
        limit: under which it was sought; None at an end.
        slope: change of the objective that was sought per unit of the limit; None at an end.
        kkt: KKT residual by finite elements.
        violation: of the constraints on the moved mesh, over their tolerances.
        solves: finite-element solves of the search, by kind.
        solved: files of the solutions that the search asked for.
        failed: checks of a design without a whole certificate that fail, in words.
    """

    parameters: dict[str, float]
    values: tuple[float, float]
    limit: Limit | None
    slope: float | None
    kkt: float
    violation: float
    solves: dict[str, int]
    solved: tuple[str, ...]
    failed: tuple[str, ...] = ()

    @property
    def theta(self) -> Array:
        """(P,) design."""
        return np.array(list(self.parameters.values()))

    @classmethod
    def of_data(cls, data: dict[str, Any]) -> Found:
        """Of plain data, as a record holds them."""
        limit = None if data["limit"] is None else Limit(**data["limit"])
        tuples = {name: tuple(data[name]) for name in ("values", "solved", "failed")}
        return cls(**{**data, **tuples, "limit": limit})


@dataclass(frozen=True)
class Task:
    """A design that is to be found.

    Attributes:
        number: on the front, from 1.
        limit: on one objective; None at an end.
        wanted: 0 or 1, objective that is optimized.
        start: (P,) design from which the search begins.
        whole: whether it is to have a whole certificate.
        known: files of solutions that searches before asked for.
    """

    number: int
    limit: Limit | None
    wanted: int
    start: Array
    whole: bool
    known: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Of its files, below that of the front."""
        return f"points/{self.number:02d}"


def find(run: Run[Setup], task: Task, common: SolutionStore) -> tuple[Found, tuple[str, ...]]:
    """Search, export and certify a design.

    Args:
        run: of the front.
        task: what is to be found.
        common: solutions of all searches of the front.

    Returns:
        what was found, and the names of all files that it left.

    Raises:
        OptimizationError: at an end, where no start led to a valid design.
    """
    front = run.setup
    name = f"{front.study.model.name}-{task.number:02d}"
    study = end_study(front.study, task.wanted) if task.limit is None else limited_study(front.study, task.limit, name)
    setup = build_setup(study)
    searched = _search(run, setup, task, common)
    if task.limit is None:
        check_optimum(setup, searched.optimum)
    found = _found(front, setup, task, searched)
    if task.limit is None:  # so that the certificate evaluates the other objective, too
        certified = build_setup(limited_study(front.study, _beyond(front.study, task.wanted, found), name))
        searched = replace(searched, optimum=_with_columns(searched.optimum, setup, certified))
        setup = certified
    workspace = Workspace(run.workspace.path(task.folder))
    workspace.folder.mkdir(parents=True, exist_ok=True)
    left = run.workspace.path(RUN)
    write_study(setup.study, workspace, json.loads(left.read_text(encoding="utf-8")) if left.is_file() else {})
    content = found_optimum(setup, searched.optimum, searched.solves, ())
    _forget_others(workspace, content)
    stage = _searched_stage(setup, searched, content)
    stages = (*((SURROGATE,) if setup.study.model.operator is not None else ()), stage, EXPORT, VALIDATE)
    own = Run(setup, workspace, run.device)
    results = run_stages(own, stages, VALIDATE if task.whole else EXPORT)
    files = ["resolved.yaml", *FILES, *results[EXPORT].files]
    if task.whole:
        leave_card(own, results)
        files += [CERTIFICATE, *FIELD_FILES]
    else:
        part = setup.family.part_points(content.theta).numpy()
        checks = cad_checks(results[EXPORT], float(np.ptp(part, axis=0).max()))
        found = replace(found, failed=tuple(_failures(setup, found, checks)))
    return found, (*(f"{task.folder}/{file}" for file in files), *found.solved)


@dataclass(frozen=True)
class _Searched:
    """Result of a search.

    Attributes:
        optimum: with the functionals that the front's problem has at it.
        values, gradients: (J,) and (J, P) of the front's problem at the design.
        solves: by kind.
        solved: files of the solutions asked for.
    """

    optimum: Optimum
    values: Array
    gradients: Array
    solves: dict[str, int]
    solved: tuple[str, ...] = ()


def _search(run: Run[Setup], setup: Setup, task: Task, common: SolutionStore) -> _Searched:
    """By the trust region on shared solutions, or by scipy on finite elements alone."""
    config = setup.study.model.optimizer
    begun = replace(setup, initial=torch.from_numpy(task.start))

    def report(i: Iterate) -> None:
        run.report(f"point {task.number}", 0, 1, f"{i.objective:.6g}")

    if config.method != "trust_region":
        starts, fem = config.starts if task.limit is None else 1, FemModel(begun)
        optimum = optimize(begun, fem, config.model_copy(update={"starts": starts}), report)
        values, gradients, _ = FemModel(run.setup).functionals(optimum.theta)
        return _Searched(optimum, values, gradients, dict(fem.counts))
    if front_of(run.setup.study)[1].share:
        take_up(common, task.known)
    else:
        common = SolutionStore(run.setup, common.folder / f"alone-{task.number:02d}", common.tangents)
    store, choice = SharedSolutions(begun, common, task.start), setup.study.model.operator
    model = None if choice is None else open_operator(begun, choice, run.device).knowing(store)
    sought = content_key("starts", task.number, search_inputs(begun), config.model_dump())
    optimum = search_by_trust_region(begun, model, config, store, common.folder / f"starts-{sought}.json", report)
    solution = common(optimum.theta)
    if solution is None:  # no answer where it ended
        count = len(run.setup.problem.functionals)
        values, gradients = np.full(count, np.nan), np.full((count, len(task.start)), np.nan)
    else:
        values, gradients = solution.values[0].numpy(), solution.gradients[0].numpy()
    solved = tuple(str(file.relative_to(run.workspace.folder)) for file in store.files)
    return _Searched(optimum, values, gradients, dict(store.solves), solved)


def _found(front: Setup, setup: Setup, task: Task, searched: _Searched) -> Found:
    """Objectives, first-order conditions and slope of the front at the design that was found."""
    best = searched.optimum.best
    names = [functional.name for functional in front.problem.functionals]
    rows = [names.index(functional.name) for functional in setup.problem.functionals]
    functionals = searched.values[rows], searched.gradients[rows]
    gradient = torch.from_numpy(functionals[1][0])
    slope, residual = None, math.nan
    if bool(gradient.isfinite().all()):
        stationary = stationarity(setup, torch.from_numpy(best.theta), gradient, gradient, functionals)
        residual = stationary.residual
        slope = None if task.limit is None else stationary.multipliers.get(setup.constraints[-1].name, 0.0)
    first, second = (float(searched.values[names.index(o.name)]) for o in front_of(front.study)[0])
    return Found(
        parameters={p.name: v for p, v in zip(setup.family.parameters, best.theta.tolist(), strict=True)},
        values=(first, second),
        limit=task.limit,
        slope=slope,
        kkt=residual,
        violation=best.violation,
        solves=searched.solves,
        solved=searched.solved,
    )


def _with_columns(optimum: Optimum, searched: Setup, certified: Setup) -> Optimum:
    """The optimum with a history of the conditions of its certificate; no number where the search did not know one."""
    names = [condition.name for condition in searched.constraints]
    columns = [names.index(c.name) if c.name in names else -1 for c in certified.constraints]

    def filled(iterate: Iterate) -> Iterate:
        known = (*iterate.quantities, math.nan)
        return replace(iterate, quantities=tuple(known[column] for column in columns))

    searches = [replace(one, history=tuple(map(filled, one.history))) for one in optimum.searches]
    return Optimum(searches[optimum.searches.index(optimum.best)], tuple(searches))


def _beyond(study: Study[StudyModel], wanted: int, found: Found) -> Limit:
    """A limit that holds nothing, on the objective that an end does not optimize."""
    objectives, front = front_of(study)
    other = 1 - wanted
    value = found.values[other]
    return Limit(other, value + objectives[other].sign * LOOSE * front.tolerance * abs(value))


def _searched_stage(setup: Setup, searched: _Searched, content: FoundOptimum) -> Stage[FoundOptimum]:
    """The stage ``optimize`` of a design whose search has ended."""

    def make(run: Run[Setup], results: Results, key: str) -> Output:
        write_text(run.workspace.path("history.csv"), history_table(setup, searched.optimum))
        shapes = {"initial": shape_data(setup, setup.initial), "optimum": shape_data(setup, content.theta)}
        write_json(run.workspace.path("shapes.json"), {"unit": setup.study.model.geometry.length_unit, **shapes})
        write_optimum(run.workspace.path("optimum.json"), content)
        return Output(FILES)

    return replace(OPTIMIZE, make=make, read=lambda run, results, record: content)


def _forget_others(workspace: Workspace, found: FoundOptimum) -> None:
    """Remove what stages left of another design, which the inputs of an ordinary study do not tell from this one."""
    try:
        same = read_optimum(workspace.path("optimum.json")) == found
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        same = False
    if not same:
        workspace.clear()


def _failures(setup: Setup, found: Found, cad: Sequence[Check]) -> list[str]:
    _, limit, _ = least_residual(setup.study.model)
    checks = [
        Check.of("KKT residual", found.kkt, "<=", limit, "by finite elements on the moved mesh"),
        Check.of("constraints", found.violation, "<=", 1.0, "largest violation on the moved mesh, over its tolerance"),
        *cad,
    ]
    return [check.reason for check in checks if not check.satisfied]
