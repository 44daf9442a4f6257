"""Stage ``compare``: the optimum under scatter beside the optimum for the mean values alone, scenario by scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from shapewright.solvers.fem.load_cases import CaseSolution
from shapewright.studies.certify.verdict_model import Entry, Number
from shapewright.studies.files import content_key, write_json
from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.scatter import scenarios_of
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.search import OPTIMIZE, search_inputs
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage

ROBUST = "robust.json"


class ScenarioResult(Entry):
    """The objective's functional of both designs in one scenario, by finite elements on the moved mesh."""

    values: dict[str, float]
    """Variable, or offset of the boundary, -> value."""
    weight: float
    """In the mean."""
    nominal: Number
    """Of the design that is best for the mean values alone."""
    robust: Number
    """Of the study's optimum."""


class DesignSummary(Entry):
    """A design over all scenarios."""

    parameters: dict[str, float]
    mean: Number
    deviation: Number
    """Standard deviation."""
    worst: Number
    """Largest of the scenarios, least of what is maximized."""
    worst_in: str
    """Scenario."""


class RobustResult(Entry):
    """Content of ``robust.json``."""

    functional: str
    unit: str
    sense: str
    scenarios: dict[str, ScenarioResult]
    nominal: DesignSummary
    """The design that is best for the mean values alone."""
    robust: DesignSummary
    """The study's optimum."""
    fem_solves: dict[str, int]
    """Of the search for the nominal design."""


def nominal_setup(setup: Setup) -> Setup:
    """The study for the mean values alone."""
    scatter = setup.study.model.scatter
    assert scatter is not None  # which a study of this stage has
    return build_setup(setup.study.updated(scatter=scatter.model_copy(update={"rule": "nominal", "compare": False})))


def _inputs(run: Run[Setup], results: Results) -> Inputs:
    config = run.setup.study.model.optimizer
    return {
        **physical_inputs(run.setup),
        **search_inputs(run.setup),
        "optimizer": config.model_dump(),
        "parameters": results[OPTIMIZE].theta.tolist(),
    }


def _make(run: Run[Setup], results: Results, key: str) -> Output:
    run.report("compare", 0, 1, "the optimum for the mean values alone")
    setup = nominal_setup(run.setup)
    config = setup.study.model.optimizer
    if config.method == "trust_region":
        folder = run.workspace.path(f"centres/{content_key('nominal', *physical_inputs(setup).values())}")
        store = SolutionStore(setup, folder)
        found, solves = search_by_trust_region(setup, None, config, store, folder / "starts.json"), store.solves
    else:
        model = FemModel(setup)
        found, solves = optimize(setup, model, config), model.solves
    designs = {"nominal": torch.from_numpy(found.theta), "robust": results[OPTIMIZE].theta}
    values = {name: _scenario_values(run.setup, theta) for name, theta in designs.items()}
    write_json(run.workspace.path(ROBUST), _result(run.setup, designs, values, dict(solves)).model_dump(mode="json"))
    run.report("compare", 1, 1, "")
    return Output((ROBUST,))


def _scenario_values(setup: Setup, theta: torch.Tensor) -> dict[str, float]:
    """Scenario -> objective's functional at a design (P,)."""
    solution = FemModel(setup).solve(theta)
    assert isinstance(solution, CaseSolution)  # scatter makes cases
    name = setup.study.model.objective.functional_name
    return {case: own.values[name] for case, own in solution.cases.items()}


def _result(
    setup: Setup,
    designs: Mapping[str, torch.Tensor],
    values: Mapping[str, Mapping[str, float]],
    solves: dict[str, int],
) -> RobustResult:
    scatter = setup.study.model.scatter
    assert scatter is not None
    scenarios = scenarios_of(scatter)
    names = [parameter.name for parameter in setup.family.parameters]

    def summary(name: str) -> DesignSummary:
        own = values[name]
        mean = sum(scenario.weight * own[case] for case, scenario in scenarios.items())
        variance = sum(scenario.weight * (own[case] - mean) ** 2 for case, scenario in scenarios.items())
        worst = max(own, key=lambda case: setup.sign * own[case])
        parameters = dict(zip(names, designs[name].tolist(), strict=True))
        return DesignSummary(
            parameters=parameters, mean=mean, deviation=variance**0.5, worst=own[worst], worst_in=worst
        )

    return RobustResult(
        functional=setup.study.model.objective.functional_name,
        unit=setup.problem.objective.unit,
        sense="minimize" if setup.sign > 0 else "maximize",
        scenarios={
            case: ScenarioResult(
                values=dict(scenario.values),
                weight=scenario.weight,
                nominal=values["nominal"][case],
                robust=values["robust"][case],
            )
            for case, scenario in scenarios.items()
        },
        nominal=summary("nominal"),
        robust=summary("robust"),
        fem_solves=solves,
    )


def read_robust(path: Path) -> RobustResult:
    """Read ``robust.json``.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is not what the stage wrote.
    """
    return RobustResult.model_validate(json.loads(path.read_text(encoding="utf-8")))


def _read(run: Run[Setup], results: Results, record: object) -> RobustResult:
    return read_robust(run.workspace.path(ROBUST))


COMPARE = Stage("compare", (OPTIMIZE,), _inputs, _make, _read, 1)
"""Both designs in every scenario."""
