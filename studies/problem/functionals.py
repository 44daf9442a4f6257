"""The functionals of a study: its objective and those under a condition, built-in ones and the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from shapewright.geometries.fields.names import LIFTING, derivatives, normal
from shapewright.geometries.fields.problem import unit_in
from shapewright.solvers.physics.catalogue import Function, Functional, Physics
from shapewright.studies.schema.expressions import Expression
from shapewright.studies.schema.fingerprint import object_text
from shapewright.studies.schema.loader import DesignStudy
from shapewright.studies.schema.named import Tagged, formula, free_name, known_tag, names_of_functionals
from shapewright.studies.schema.study import Integral, Objective, OnRegion, below, name_of


def functionals_of(
    study: DesignStudy, family: Tagged, physics: Physics, geometric: Iterable[str]
) -> tuple[Functional, ...]:
    """The objective, then the functionals that stand under a condition, each once, in the order of the study.

    ``geometric`` are the quantities of the shape; a condition on one of them needs no functional, and one on an
    unknown name is refused by :func:`conditions.conditions_of`.

    Raises:
        StudyError: names file, line and key.
    """
    own = dict(_own(study, family, physics))
    known = {functional.name: functional for functional in physics.functionals}
    found: dict[str, Functional] = {}
    for index, model in enumerate(objectives_of(study)):
        key, name = objective_key(study, index), model.functional_name
        if name not in own and name not in known:
            choices = ", ".join([*known, *own])
            raise study.error(key, f"'{name}'", f"one of {choices}, or {{name: ..., integrand: ...}}")
        found.setdefault(name, own.get(name) or _built_in(study, family, key, known[name]))
    for index, entry in enumerate(study.model.constraints):
        name = name_of(entry.functional)
        if name in found or (name in geometric and name not in own):
            continue
        if name in own:
            found[name] = own[name]
        elif name in known:
            key = f"constraints.{index}.quantity{below(entry.quantity)}"
            found[name] = _built_in(study, family, key, known[name])
    return tuple(found.values())


def objectives_of(study: DesignStudy) -> tuple[Objective, ...]:
    """The objective, or both of a front."""
    return study.model.objectives or (study.model.objective,)


def objective_key(study: DesignStudy, index: int = 0) -> str:
    """The key under which the objective stands, or one of those of a front."""
    section = "objective" if study.model.objectives is None else f"objectives.{index}"
    return f"{section}.maximize" if objectives_of(study)[index].sign < 0 else f"{section}.minimize"


def functional_data(study: DesignStudy, name: str) -> str | dict[str, object]:
    """A functional of the study as plain data: a built-in one's name, or all of one's own."""
    for _, given in given_functionals(study):
        if name_of(given) == name and not isinstance(given, str):
            return object_text(given) if isinstance(given, Functional) else given.model_dump(mode="json")
    return name


def given_functionals(study: DesignStudy) -> Iterator[tuple[str, str | Integral | OnRegion | Functional]]:
    """Key of each objective's functional and of every constraint's quantity, with what the study gives there."""
    for index, objective in enumerate(objectives_of(study)):
        yield objective_key(study, index) + objective.below, objective.functional
    for index, entry in enumerate(study.model.constraints):
        yield f"constraints.{index}.quantity{below(entry.quantity)}", entry.functional


def own_integrals(study: DesignStudy) -> Iterator[tuple[str, Integral]]:
    """Key and definition of every integral of the user's own."""
    for key, given in given_functionals(study):
        if isinstance(given, Integral):
            yield key, given


def _own(study: DesignStudy, family: Tagged, physics: Physics) -> Iterator[tuple[str, Functional]]:
    taken = names_of_functionals(physics)
    for key, given in given_functionals(study):
        if isinstance(given, OnRegion):
            yield name_of(given), _on_region(study, family, physics, key, given)
        elif isinstance(given, Functional) and given in physics.functionals:
            yield given.name, _built_in(study, family, key, given)
        elif not isinstance(given, str):
            free_name(study, f"{key}.name", given.name, taken)
            taken[given.name] = f"the integral under {key}; say quantity: {given.name} to refer to it"
            if isinstance(given, Integral):
                yield given.name, _integral(study, family, physics, key, given)
            else:
                yield given.name, _object(study, family, physics, key, given)


def _object(study: DesignStudy, family: Tagged, physics: Physics, key: str, given: Functional) -> Functional:
    """A functional that is a Python object, its regions and the names that it uses checked."""
    for tag in (given.on, given.lifting):
        if tag is not None:
            known_tag(study, f"{key}.on", tag, family.tags)
    lifting = () if given.lifting is None else (LIFTING, *derivatives(LIFTING, physics.dimension))
    names = (*_names(physics, given.on is not None), *lifting)
    formula(study, f"{key}.integrand", given.integrand, names)
    return _in_units(study, given)


def _on_region(study: DesignStudy, family: Tagged, physics: Physics, key: str, given: OnRegion) -> Functional:
    """A functional of the physics on the region that the study names."""
    known_tag(study, f"{key}.on", given.on, family.tags)
    able = {functional.name: functional for functional in physics.functionals if functional.region_as is not None}
    if given.name not in able:
        choices = f"one of {', '.join(able)}" if able else f"none, as no functional of '{physics.name}' needs a region"
        raise study.error(f"{key}.name", f"'{given.name}'", f"{choices}; or an integrand beside it")
    return replace(_in_units(study, able[given.name].at(given.on)), name=name_of(given))


def _integral(study: DesignStudy, family: Tagged, physics: Physics, key: str, wanted: Integral) -> Functional:
    names = _names(physics, wanted.on is not None)
    if wanted.on is not None:
        known_tag(study, f"{key}.on", wanted.on, family.tags)
    integrand = formula(study, f"{key}.integrand", wanted.integrand, names)
    if isinstance(integrand, Expression) and _vanishes(integrand, integrand.names):
        found = f"'{wanted.integrand}', which is zero whatever the shape"
        raise study.error(f"{key}.integrand", found, "a formula that is not")
    return Functional(wanted.name, integrand, wanted.unit, "", wanted.on)


def _names(physics: Physics, on_boundary: bool) -> tuple[str, ...]:
    """Quantities that an integrand may use."""
    slopes = [slope for component in physics.components for slope in derivatives(component, physics.dimension)]
    names = (*physics.coordinates, *physics.components, *slopes, *(c.name for c in physics.coefficients))
    return (*names, *normal(physics.dimension)) if on_boundary else names


def _vanishes(integrand: Function, names: Iterable[str]) -> bool:
    """Whether a formula is zero at points of either sign and any size."""
    size = torch.logspace(-2, 3, 60, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    q = {name: size * torch.randn(60, generator=generator, dtype=torch.float64) for name in sorted(names)}
    return not torch.as_tensor(integrand(torch, q)).any()


FIRST_REGIONS = {"drag": "body", "lift": "body", "pumping_power": "inlet", "inlet_pressure": "inlet"} | {
    "peak_hoop_stress": "hole", "ks_hoop_stress": "hole", "top_force": "top"
}  # fmt: skip
"""Regions that the bare names of functionals mean, in families that have them; others are said by the study."""


def _built_in(study: DesignStudy, family: Tagged, key: str, functional: Functional) -> Functional:
    """A functional of the physics, its unit spelt out, on the region that its bare name means if it needs one."""
    if functional.region_as is not None:
        region = FIRST_REGIONS.get(functional.name, family.tags[0] if len(family.tags) == 1 else None)
        if region not in family.tags:
            found = f"'{functional.name}' without a boundary region"
            expected = f"{{name: {functional.name}, on: REGION}} with a boundary region: {', '.join(family.tags)}"
            raise study.error(key, found, expected)
        functional = functional.at(region)
    for tag in (functional.on, functional.lifting):
        if tag is not None:
            known_tag(study, key, tag, family.tags)
    return _in_units(study, functional)


def _in_units(study: DesignStudy, functional: Functional) -> Functional:
    return replace(functional, unit=unit_in(functional.unit, study.model.geometry.length_unit))
