"""The certificate's entries of load cases: values and levels of each, the true worst, and their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from shapewright.solvers.fem.load_cases import CaseSolution
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.certify.convergence import Refined, extrapolated
from shapewright.studies.certify.export import field_arrays
from shapewright.studies.certify.model import CaseResult, Cases, Level, Worst
from shapewright.studies.problem.samples import stack_fields
from shapewright.studies.problem.scatter import scenarios_of
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.named import in_case
from shapewright.studies.schema.study import Combined


def describe_cases(setup: Setup, refined: Refined, at_start: Mapping[str, float]) -> Cases | None:
    """The objective's functional in each load case on the re-read CAD; None of a study without cases.

    ``at_start`` are the functionals of the start design.
    """
    given = setup.study.model.objective.given
    if not setup.problem.cases:
        return None
    assert isinstance(given, Combined)  # the set-up refuses cases without it
    name = setup.study.model.objective.functional_name
    scatter = setup.study.model.scatter
    weights = {case: given.weights.get(case, 1.0) for case in setup.problem.cases}
    if given.mean is not None:
        weights = dict.fromkeys(weights, 1.0 / len(weights))
        weights |= {} if scatter is None else {name: own.weight for name, own in scenarios_of(scatter).items()}
    each = {case: _case(setup, refined, at_start, in_case(name, case), case, weights[case]) for case in weights}
    if given.worst is not None:
        each = {case: result.model_copy(update={"weight": None}) for case, result in each.items()}
    return Cases(functional=name, each=each, worst=None if given.worst is None else _worst(setup, refined, given, each))


def _case(
    setup: Setup, refined: Refined, at_start: Mapping[str, float], name: str, case: str, weight: float
) -> CaseResult:
    (functional,) = (f for f in setup.problem.functionals if f.name == name)
    limit, levels = extrapolated(refined, functional, at_start[name]), refined.levels[name]
    return CaseResult(
        weight=weight,
        scenario=None if setup.study.model.scatter is None else dict(setup.problem.cases[case]),
        fem=levels[-1].value,
        fem_levels=tuple(Level(**asdict(level)) for level in levels),
        fem_extrapolated=limit.value,
        observed_order=limit.order,
        discretization_error=limit.error,
        grid_convergence_index=limit.gci,
        extrapolation=limit.note,
    )


def _worst(setup: Setup, refined: Refined, given: Combined, each: Mapping[str, CaseResult]) -> Worst:
    values = np.array([case.fem for case in each.values()], dtype=np.float64)
    worst = int(np.argmax(setup.sign * values))
    smooth = refined.levels[setup.problem.objective.name][-1].value
    return Worst(
        case=list(each)[worst],
        value=float(values[worst]),
        sharpness=given.sharpness,
        smooth_off=setup.sign * (float(values[worst]) - smooth),
        smooth_off_at_most=float(np.sqrt(np.mean(values**2)) * np.log(len(values)) / given.sharpness),
    )


def case_arrays(setup: Setup, solution: FemSolution | CaseSolution) -> dict[str, NDArray[np.float64]]:
    """Nodal fields of every load case by name, for VTU; none of a study without cases, or of many scenarios."""
    if not isinstance(solution, CaseSolution) or setup.study.model.scatter is not None:
        return {}
    arrays: dict[str, NDArray[np.float64]] = {}
    for case, own in solution.cases.items():
        arrays |= field_arrays(setup, stack_fields(own, setup), f"fem_{case}")
    return arrays
