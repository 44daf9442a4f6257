"""Load cases of a study: the problem with all of them, and the functionals over them.

A case is a parameter of the problem that is one in this case and zero in the others: what stands under a case is
multiplied by its parameter, so that one residual, one matrix and one solver serve all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from shapewright.geometries.family.family import Family
from shapewright.geometries.fields.names import normal
from shapewright.geometries.fields.problem import (
    CaseFunctional,
    Dirichlet,
    Function,
    Functional,
    Natural,
    Problem,
    ProblemError,
)
from shapewright.solvers.fem.load_cases import smooth_maximum
from shapewright.studies.problem.boundary_data import boundary_conditions_of, sources_of
from shapewright.studies.problem.functionals import objective_key, objectives_of
from shapewright.studies.problem.patches import patches_of
from shapewright.studies.problem.scatter import scenario_cases, scenarios_of
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.named import Tagged, formula_name, in_case
from shapewright.studies.schema.scatter import Scatter
from shapewright.studies.schema.study import Combined, StudyModel, name_of


@dataclass(frozen=True)
class Selected:
    """The sum of formulas, each times a parameter that is one in its load case and zero in the others."""

    parts: tuple[tuple[str, Function], ...]

    def __call__(self, ops: Any, q: Mapping[str, Any]) -> Any:
        """See :data:`problem.Function`."""
        return sum(q[selector] * function(ops, q) for selector, function in self.parts)


def selector_of(case: str) -> str:
    """The problem's parameter that is one in this case."""
    return f"case_{case}"


def with_cases(study: Study[Any], family: Tagged, problem: Problem) -> Problem:
    """The problem with the study's load cases or scenarios, if it has any; ``problem`` has what holds in all of them.

    Raises:
        StudyError: names file, line and key.
    """
    section, cases = cases_of(study)
    scatter = scatter_of(study)
    if scatter is not None:
        _by_finite_elements(study, "scatter", "scenarios")
        weights = {name: scenario.weight for name, scenario in scenarios_of(scatter).items()}
        functionals = tuple(_functionals(study, problem, weights))
        assert isinstance(family, Family)  # solids know no scatter
        scenarios, offset_on = scenario_cases(study, family)
        return replace(problem, functionals=functionals, cases=scenarios, offset_on=offset_on)
    if not cases:
        _no_combination(study)
        return problem
    if isinstance(study.model, StudyModel):
        _by_finite_elements(study, "physics.cases", "load cases")
    weights = dict.fromkeys(cases, 1.0 / len(cases))
    selectors = {case: selector_of(case) for case in cases}
    physics = problem.physics
    components, coordinates = physics.components, physics.coordinates
    everywhere = (*coordinates, *components, *(c.name for c in physics.coefficients), *normal(physics.dimension))
    natural, sources, dirichlet = list(problem.natural), [], []
    for case, entry in cases.items():
        key = f"{section}.{case}"
        formula_name(study, key, case)
        for condition in boundary_conditions_of(study, family, f"{key}.natural", entry.natural, components, everywhere):
            component, tag, function = condition
            natural.append(Natural(component, tag, Selected(((selectors[case], function),))))
        sources.append(sources_of(study, f"{key}.source", entry.source, components, coordinates))
        dirichlet.append(_supported(study, family, problem, case))
    patches = patches_of(study, family, components, {case: selector_of(case) for case in cases})
    names = list(selectors.values())
    try:
        return replace(
            problem,
            natural=tuple(natural),
            sources=_chosen(problem.sources, sources, names),
            dirichlet=tuple(
                Dirichlet(d.component, d.tag, _value(d, dirichlet, names)) for d in problem.dirichlet
            ),
            patches=(*problem.patches, *patches),
            functionals=tuple(_functionals(study, problem, weights)),
            parameters={name: float(name == names[0]) for name in names},
            cases={case: {name: float(name == own) for name in names} for case, own in selectors.items()},
        )
    except ProblemError as error:
        raise study.error(section, "conditions that contradict each other", str(error)) from error


def cases_of(study: Study[Any]) -> tuple[str, Mapping[str, Any]]:
    """Key of the load cases of a study, and the cases by name."""
    model = study.model
    return ("physics.cases", model.physics.cases) if isinstance(model, StudyModel) else ("cases", model.cases)


def scatter_of(study: Study[Any]) -> Scatter | None:
    """What scatters in a study; None in one of a solid, which knows no scatter."""
    return study.model.scatter if isinstance(study.model, StudyModel) else None


def _by_finite_elements(study: Study[StudyModel], key: str, what: str) -> None:
    """Refuse models of a planar study that know a single case."""
    if study.model.operator is not None:
        raise study.error("model", f"an operator with {key}", f"fem or auto: an operator knows no {what}")
    if study.model.optimizer.on != "fem" and not study.model.undecided:
        expected = f"fem: a surrogate does not learn {what}; or none of {key}"
        raise study.error("optimizer.on", f"'{study.model.optimizer.on}' with {key}", expected)


def _no_combination(study: Study[Any]) -> None:
    """Refuse what only load cases have."""
    beside = ", or of scatter" if isinstance(study.model, StudyModel) else ""
    cases = cases_of(study)[0]
    expected = f"the name of a functional; mean, sum and worst are of the load cases in {cases}{beside}"
    for index, objective in enumerate(objectives_of(study)):
        if isinstance(objective.given, Combined):
            raise study.error(objective_key(study, index), f"'{objective.name}'", expected)
    for index, entry in enumerate(study.model.constraints):
        if isinstance(entry.quantity, Combined):
            raise study.error(f"constraints.{index}.quantity", f"'{entry.name}'", expected)
        if entry.case is not None:
            expected = f"none where there is no {cases_of(study)[0]}"
            raise study.error(f"constraints.{index}.case", f"'{entry.case}'", expected)


def _supported(
    study: Study[Any], family: Tagged, problem: Problem, case: str
) -> dict[tuple[str, str], Function]:
    """Prescribed values of one case, all where the common ones are too."""
    section, cases = cases_of(study)
    key = f"{section}.{case}.dirichlet"
    entries, components = cases[case].dirichlet, problem.physics.components
    found = boundary_conditions_of(study, family, key, entries, components, problem.physics.coordinates)
    supports = {(d.component, d.tag) for d in problem.dirichlet}
    for component, tag, _ in found:
        if (component, tag) not in supports:
            expected = "values on supports that physics.dirichlet prescribes: all cases have the same"
            raise study.error(key, f"a value of '{component}' on '{tag}'", expected)
    return {(component, tag): function for component, tag, function in found}


def _value(common: Dirichlet, cases: Sequence[Mapping[tuple[str, str], Function]], names: Sequence[str]) -> Function:
    own = [case.get((common.component, common.tag)) for case in cases]
    if not any(own):
        return common.value
    return Selected(tuple((name, value or common.value) for name, value in zip(names, own, strict=True)))


def _chosen(
    common: Mapping[str, Function], cases: Sequence[Mapping[str, Function]], names: Sequence[str]
) -> dict[str, Function]:
    """Sources, of which those of a case replace the common ones of their component."""
    found = dict(common)
    for component in dict.fromkeys(c for case in cases for c in case):
        parts = [case.get(component, common.get(component)) for case in cases]
        found[component] = Selected(
            tuple((name, part) for name, part in zip(names, parts, strict=True) if part is not None)
        )
    return found


def _functionals(study: Study[Any], problem: Problem, weights: Mapping[str, float]) -> Iterator[CaseFunctional]:
    """The objectives over all cases, whatever stands under a condition over all of them, and each in its cases.

    ``weights`` are those of the cases in a mean.
    """
    cases, scatters = list(weights), scatter_of(study) is not None
    known = {functional.name: functional for functional in problem.functionals}
    wanted: dict[str, set[str]] = {}
    for index, objective in enumerate(objectives_of(study)):
        key, given = objective_key(study, index), objective.given
        if not isinstance(given, Combined):
            name = objective.name
            what, ways = ("scenarios", "mean") if scatters else ("load cases", "sum")
            expected = f"{{{ways}: {name}}} or {{worst: {name}}}, which say what counts of the {what}"
            raise study.error(key, f"'{name}'", expected)
        yield _combined(study, key, known, given, objective.sign, weights)
        wanted.setdefault(objective.functional_name, set()).update(cases)
    yielded = {objective.name for objective in objectives_of(study)}
    for index, entry in enumerate(study.model.constraints):
        name = name_of(entry.functional)
        if entry.case is not None:
            _known_case(study, f"constraints.{index}.case", entry.case, cases)
        if name in known:
            wanted.setdefault(name, set()).update([entry.case] if entry.case else cases)
        if isinstance(entry.quantity, Combined) and entry.name not in yielded and name in known:
            yielded.add(entry.name)
            sign = -1 if entry.kind == "at_least" else 1
            yield _combined(study, f"constraints.{index}.quantity", known, entry.quantity, sign, weights)
    for name, own in wanted.items():
        for position, case in enumerate(cases):
            if case in own:
                yield _over(known[name], in_case(name, case), partial(_pick, position))


def _combined(
    study: Study[Any],
    key: str,
    known: Mapping[str, Functional],
    given: Combined,
    sign: int,
    weights: Mapping[str, float],
) -> CaseFunctional:
    """A functional over all cases; the worst is the largest where ``sign`` is 1, the least where it is -1."""
    if given.sum is not None and scatter_of(study) is not None:
        raise study.error(key, f"'{name_of(given)}'", "mean or worst: scenarios of scatter have weights of their own")
    for case in given.weights:
        _known_case(study, f"{key}.weights.{case}", case, list(weights))
    of = known[name_of(given.functional)]
    own = {case: given.weights.get(case, 1.0) for case in weights} if given.sum is not None else weights
    return _over(of, name_of(given), partial(_combine, given, tuple(own.values()), sign))


def _known_case(study: Study[Any], key: str, case: str, cases: Sequence[str]) -> None:
    if case not in cases:
        what = "load case" if scatter_of(study) is None else "scenario"
        raise study.error(key, f"'{case}'", f"a {what}: {', '.join(cases)}")


def _over(functional: Functional, name: str, combine: Any) -> CaseFunctional:
    given = {f.name: getattr(functional, f.name) for f in fields(Functional)}
    given |= {"name": name, "maximum_of": None, "bounds": None}
    return CaseFunctional(**given, of=functional.name, combine=combine)


def _pick(position: int, values: Any) -> Any:
    return values[position]


def _combine(combined: Combined, weights: Sequence[float], sign: int, values: Any) -> Any:
    """The objective of values (K,): their weighted sum, or the smooth maximum (minimum of what is maximized)."""
    if combined.worst is None:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))
    return sign * smooth_maximum(sign * values, combined.sharpness)
