"""Scenarios of a study whose loads, coefficients or boundary scatter, as load cases of its problem.

A scenario is a value of each variable and a distance by which the boundary is moved outward. Means are sums over the
points of a Gauss rule (W. Gautschi, *Orthogonal Polynomials* (2004), section 1.4.2), exact for polynomials of degree 2n
- 1 in each variable, or over a scrambled Sobol sequence (A. B. Owen, J. Complexity 14 (1998) 466).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from scipy.stats import norm, qmc

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.offset import moving_tags
from shapewright.geometries.fields.problem import OFFSET
from shapewright.solvers.physics.catalogue import Physics
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.named import formula_name, free_name, known_tag, names_in_formulas
from shapewright.studies.schema.scatter import Scatter, Variable
from shapewright.studies.schema.study import StudyModel

MOST = 200
"""Scenarios of a study, each a finite-element solve a design."""


@dataclass(frozen=True)
class Scenario:
    """Values of all variables, and the weight in a mean.

    Attributes:
        values: variable, or ``offset``, -> value.
        weight: in the mean; zero of the nominal scenario where the rule does not have it.
    """

    values: Mapping[str, float]
    weight: float


def variables_of(scatter: Scatter) -> dict[str, Variable]:
    """All that scatters by name, the offset last."""
    return {**scatter.variables, **({} if scatter.offset is None else {OFFSET: scatter.offset})}


def scenarios_of(scatter: Scatter) -> dict[str, Scenario]:
    """Scenarios by name; the first, ``nominal``, has the mean value of each variable."""
    variables = variables_of(scatter)
    nominal = {name: variable.mean for name, variable in variables.items()}
    if scatter.rule == "nominal":
        return {"nominal": Scenario(nominal, 1.0)}
    drawn = _gauss(variables, scatter.points) if scatter.rule == "gauss" else _sobol(variables, scatter)
    known = [s for s in drawn if all(math.isclose(s.values[n], nominal[n], abs_tol=1e-12) for n in nominal)]
    first = known[0] if known else Scenario(nominal, 0.0)
    others = [scenario for scenario in drawn if scenario is not first]
    return {"nominal": first} | {f"s{number:02d}": scenario for number, scenario in enumerate(others, start=1)}


def case_names(model: StudyModel) -> list[str]:
    """Names of the load cases of a study, or of its scenarios."""
    return list(model.physics.cases if model.scatter is None else scenarios_of(model.scatter))


def _gauss(variables: Mapping[str, Variable], points: int) -> list[Scenario]:
    rules = [_rule(variable, points) for variable in variables.values()]
    return [
        Scenario(dict(zip(variables, (value for value, _ in chosen), strict=True)), math.prod(w for _, w in chosen))
        for chosen in product(*rules)
    ]


def _rule(variable: Variable, points: int) -> list[tuple[float, float]]:
    """Points and weights of one distribution."""
    if variable.values is not None:
        return [(value, 1.0 / len(variable.values)) for value in variable.values]
    if variable.normal is not None:
        (mean, deviation), (at, weights) = variable.normal, hermegauss(points)
        values = mean + deviation * at
    else:
        assert variable.uniform is not None
        (lower, upper), (at, weights) = variable.uniform, leggauss(points)
        values = lower + (upper - lower) * (at + 1) / 2
    return list(zip(values.tolist(), (weights / weights.sum()).tolist(), strict=True))


def _sobol(variables: Mapping[str, Variable], scatter: Scatter) -> list[Scenario]:
    unit = qmc.Sobol(len(variables), seed=scatter.seed).random_base2(max(0, math.ceil(math.log2(scatter.samples))))
    pairs = zip(variables.values(), unit[: scatter.samples].T, strict=True)
    columns = [_quantiles(variable, column) for variable, column in pairs]
    weight = 1.0 / scatter.samples
    return [Scenario(dict(zip(variables, row, strict=True)), weight) for row in np.stack(columns, -1).tolist()]


def _quantiles(variable: Variable, unit: np.ndarray) -> np.ndarray:
    if variable.values is not None:
        return np.array(variable.values)[(unit * len(variable.values)).astype(int)]
    if variable.normal is not None:
        return norm.ppf(unit, *variable.normal)
    assert variable.uniform is not None
    lower, upper = variable.uniform
    return lower + (upper - lower) * unit


def parameters_of(study: Study[StudyModel], physics: Physics) -> dict[str, float]:
    """Parameters of the problem that formulas may use, with their mean values; none of a study without scatter.

    Raises:
        StudyError: a name that formulas cannot use, or that something else has.
    """
    scatter = study.model.scatter
    if scatter is None:
        return {}
    for name in scatter.variables:
        key = f"scatter.variables.{name}"
        formula_name(study, key, name)
        free_name(study, key, name, {**names_in_formulas(physics), OFFSET: "the offset of the boundary"})
    return {name: variable.mean for name, variable in variables_of(scatter).items()}


def scenario_cases(study: Study[StudyModel], family: Family) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """A case for each scenario, its values of the problem's parameters, and the boundary regions that are offset.

    Raises:
        StudyError: load cases, an unknown region, or too many scenarios.
    """
    scatter = study.model.scatter
    assert scatter is not None
    if study.model.physics.cases:
        expected = "one of them; a load that scatters is a formula of a variable of scatter"
        raise study.error("scatter", "it beside physics.cases", expected)
    scenarios = scenarios_of(scatter)
    if len(scenarios) > MOST:
        expected = f"at most {MOST}: fewer scatter.points, or rule: sobol with scatter.samples"
        raise study.error("scatter", f"{len(scenarios)} scenarios", expected)
    tags: tuple[str, ...] = ()
    if scatter.offset is not None:
        tags = scatter.offset.tags or moving_tags(family)
        for tag in tags:
            known_tag(study, "scatter.offset.on", tag, family.tags)
    return {name: dict(scenario.values) for name, scenario in scenarios.items()}, tags
