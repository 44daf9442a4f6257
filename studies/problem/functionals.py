"""The functionals of a study: its objective and those under a condition, built-in ones and the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from shapewright.geometries.family.family import Family
from shapewright.geometries.fields.names import derivatives, normal
from shapewright.geometries.fields.problem import unit_in
from shapewright.solvers.physics.catalogue import Function, Functional, Physics
from shapewright.studies.schema.expressions import Expression
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.named import formula, free_name, known_tag, names_of_functionals
from shapewright.studies.schema.study import Integral


def functionals_of(study: Study, family: Family, physics: Physics, geometric: Iterable[str]) -> tuple[Functional, ...]:
    """The objective, then the functionals that stand under a condition, each once, in the order of the study.

    ``geometric`` are the quantities of the shape; a condition on one of them needs no functional, and one on a name
    that nothing has is left to whoever makes the conditions.

    Raises:
        StudyError: names file, line and key.
    """
    own = dict(_own(study, family, physics))
    known = {functional.name: functional for functional in physics.functionals}
    model = study.model.objective
    key, name = objective_key(study), model.functional_name
    if name not in own and name not in known:
        choices = ", ".join([*known, *own])
        raise study.error(key, f"'{name}'", f"one of {choices}, or {{name: ..., integrand: ...}}")
    found = {name: own.get(name) or _built_in(study, family, key, known[name])}
    for index, entry in enumerate(study.model.constraints):
        if entry.name in found or (entry.name in geometric and entry.name not in own):
            continue
        if entry.name in own:
            found[entry.name] = own[entry.name]
        elif entry.name in known:
            key = f"constraints.{index}.quantity"
            found[entry.name] = _built_in(study, family, key, known[entry.name])
    return tuple(found.values())


def objective_key(study: Study) -> str:
    """The key under which the objective stands."""
    return "objective.maximize" if study.model.objective.sign < 0 else "objective.minimize"


def functional_data(study: Study, name: str) -> str | dict[str, object]:
    """A functional of the study as plain data: a built-in one's name, or all of one's own."""
    for _, integral in own_integrals(study):
        if integral.name == name:
            return integral.model_dump(mode="json")
    return name


def own_integrals(study: Study) -> Iterator[tuple[str, Integral]]:
    """Key and definition of every integral of the user's own."""
    model = study.model
    if isinstance(model.objective.functional, Integral):
        yield objective_key(study) + model.objective.below, model.objective.functional
    for index, entry in enumerate(model.constraints):
        if isinstance(entry.quantity, Integral):
            yield f"constraints.{index}.quantity", entry.quantity


def _own(study: Study, family: Family, physics: Physics) -> Iterator[tuple[str, Functional]]:
    taken = names_of_functionals(physics)
    for key, integral in own_integrals(study):
        free_name(study, f"{key}.name", integral.name, taken)
        taken[integral.name] = f"the integral under {key}; say quantity: {integral.name} to refer to it"
        yield integral.name, _integral(study, family, physics, key, integral)


def _integral(study: Study, family: Family, physics: Physics, key: str, wanted: Integral) -> Functional:
    slopes = [slope for component in physics.components for slope in derivatives(component, physics.dimension)]
    names = (*physics.coordinates, *physics.components, *slopes, *(c.name for c in physics.coefficients))
    names += normal(physics.dimension) if wanted.on else ()
    if wanted.on is not None:
        known_tag(study, f"{key}.on", wanted.on, family.tags)
    integrand = formula(study, f"{key}.integrand", wanted.integrand, names)
    if isinstance(integrand, Expression) and _vanishes(integrand, integrand.names):
        found = f"'{wanted.integrand}', which is zero whatever the shape"
        raise study.error(f"{key}.integrand", found, "a formula that is not")
    return Functional(wanted.name, integrand, wanted.unit, "", wanted.on)


def _vanishes(integrand: Function, names: Iterable[str]) -> bool:
    """Whether a formula is zero at points of either sign and any size."""
    size = torch.logspace(-2, 3, 60, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    q = {name: size * torch.randn(60, generator=generator, dtype=torch.float64) for name in sorted(names)}
    return not torch.as_tensor(integrand(torch, q)).any()


def _built_in(study: Study, family: Family, key: str, functional: Functional) -> Functional:
    """A functional of the physics, its unit spelt out, if the family has its boundary regions."""
    for tag in (functional.on, functional.lifting):
        if tag is not None:
            known_tag(study, key, tag, family.tags)
    return replace(functional, unit=unit_in(functional.unit, study.model.geometry.length_unit))
