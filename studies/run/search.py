"""Stage ``optimize``: the optimum on the surrogate or operator, by a trust region with FEM, or by FEM alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from shapewright.studies.certify.export import shape_data
from shapewright.studies.files import content_key, file_key, write_json, write_text
from shapewright.studies.optimize.optimizer import Iterate, Optimum, optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import StudyOperator
from shapewright.studies.problem.setup import Setup
from shapewright.studies.run.failed_search import check_optimum
from shapewright.studies.run.multistart import optimize_on_engine
from shapewright.studies.run.optimum import FoundOptimum, found_optimum, history_table, read_optimum, write_optimum
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage
from shapewright.studies.run.train import SURROGATE, Operator, Surrogate
from shapewright.studies.schema.study import Combined

FILES = ("optimum.json", "history.csv", "shapes.json")


@dataclass(frozen=True)
class _Searched:
    """Result of a search, its finite-element solves by kind, and the files of its solutions."""

    optimum: Optimum
    solves: Mapping[str, int]
    solved: tuple[str, ...] = ()


def search_inputs(setup: Setup) -> dict[str, Any]:
    """Where a search begins, and what it has to meet.

    What is maximized is searched under the key of the first release, which did not tell it from what is minimized.
    """
    given = setup.study.model.objective.given
    return {
        "start": setup.initial.tolist(),
        "constraints": [vars(constraint) for constraint in setup.constraints],
        **({"objective": "minimize"} if setup.sign > 0 else {}),
        **({"over cases": given.model_dump(exclude_defaults=True)} if isinstance(given, Combined) else {}),
    }


def _inputs(run: Run[Setup], results: Results) -> Inputs:
    setup, surrogate = run.setup, results.get(SURROGATE)
    config = setup.study.model.optimizer
    by_trust_region = surrogate is not None and config.method == "trust_region"
    return {
        "model": _model_key(surrogate),
        **physical_inputs(setup),
        **search_inputs(setup),
        "optimizer": config.model_dump(),
        **(_recorded(setup) if by_trust_region else {}),
    }


def _model_key(model: Surrogate | Operator | None) -> str:
    """What stands for the model that is searched."""
    if model is None:
        return "fem"
    key = file_key(model.path)
    return key if isinstance(model, Surrogate) else f"{key} {model.model.model.gradient}"


def _recorded(setup: Setup) -> dict[str, Any]:
    """How many tangents are recorded with every solution of a trust region, and along what; none without infill."""
    study = setup.study.model
    if study.infill is None:
        return {}
    return {"sampling.tangents": study.sampling.tangents, "sampling.directions": study.sampling.directions}


def _make(run: Run[Setup], results: Results, key: str) -> Output:
    setup, surrogate, workspace = run.setup, results.get(SURROGATE), run.workspace
    config = setup.study.model.optimizer

    def report(i: Iterate) -> None:
        limit = config.max_iterations if i.fem is None else config.max_solves
        stage = "optimize" if i.fem is None else "FEM in the loop"
        # the last line of a search, at its end, is no iteration
        run.report(stage, min(i.iteration, limit), limit, f"start {i.start}: {i.objective:.6g}")

    if config.method == "trust_region":
        found = _by_trust_region(run, surrogate, report)
    elif surrogate is None:
        found = _by_fem(run, report)
    else:
        found = _Searched(optimize(setup, surrogate.model, config, report), {"forward": 0, "adjoint": 0})
    check_optimum(setup, found.optimum)
    best = torch.from_numpy(found.optimum.best.theta)
    write_text(workspace.path("history.csv"), history_table(setup, found.optimum))
    shapes = {"initial": shape_data(setup, setup.initial), "optimum": shape_data(setup, best)}
    write_json(workspace.path("shapes.json"), {"unit": setup.study.model.geometry.length_unit, **shapes})
    content = found_optimum(setup, found.optimum, found.solves, found.solved)
    write_optimum(workspace.path("optimum.json"), content)
    return Output((*FILES, *found.solved))


def _by_fem(run: Run[Setup], report: Callable[[Iterate], None]) -> _Searched:
    """Finite elements alone; on the study's engine if it names one."""
    if run.setup.study.model.engine is not None:
        return _Searched(*optimize_on_engine(run.setup, run.workspace.folder, report))
    model = FemModel(run.setup)
    optimum = optimize(run.setup, model, run.setup.study.model.optimizer, report)
    return _Searched(optimum, model.counts)


def _by_trust_region(
    run: Run[Setup], surrogate: Surrogate | Operator | None, report: Callable[[Iterate], None]
) -> _Searched:
    """The trust region; solutions and what the surrogate proposed are files of their own, so that a run resumes."""
    setup, config, recorded = run.setup, run.setup.study.model.optimizer, _recorded(run.setup)
    solutions = content_key("centres", *physical_inputs(setup).values(), *recorded.values())
    folder = run.workspace.path(f"centres/{solutions}")
    store = SolutionStore(setup, folder, recorded.get("sampling.tangents", 0))
    asked = config.model_dump(include={"max_iterations", "tolerance", "starts", "seed"})
    starts = content_key("starts", _model_key(surrogate), *search_inputs(setup).values(), asked)
    model = None if surrogate is None else surrogate.model
    if isinstance(model, StudyOperator):
        model = model.knowing(store)
    optimum = search_by_trust_region(setup, model, config, store, folder / f"starts-{starts}.json", report)
    solved = tuple(str(file.relative_to(run.workspace.folder)) for file in store.files)
    return _Searched(optimum, dict(store.solves), solved)


def _read(run: Run[Setup], results: Results, record: object) -> FoundOptimum:
    return read_optimum(run.workspace.path("optimum.json"))


OPTIMIZE = Stage("optimize", (SURROGATE,), _inputs, _make, _read)
