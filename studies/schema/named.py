"""Names in a study that must be known, names that must be free, and formulas with the place of their key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from keyword import iskeyword

from shapewright.geometries.design.measures import QUANTITIES
from shapewright.geometries.fields.problem import Physics
from shapewright.studies.schema.expressions import CONSTANTS, FUNCTIONS, Expression, ExpressionError, parse
from shapewright.studies.schema.loader import Study, StudyError


def formula(study: Study, key: str, value: float | str, names: Iterable[str]) -> Expression:
    """A number or a formula of ``names`` as a function; StudyError with the place of ``key`` if it is none."""
    try:
        return parse(value, names, key)
    except ExpressionError as error:
        raise StudyError(f"{study.location(key)}: {error}") from error


def known_component(study: Study, key: str, name: str, components: tuple[str, ...]) -> None:
    """Refuse what is no component of the physics."""
    if name not in components:
        raise study.error(key, f"'{name}'", f"a component: {', '.join(components)}")


def known_tag(study: Study, key: str, tag: str, tags: tuple[str, ...]) -> None:
    """Refuse what is no boundary region of the family."""
    if tag not in tags:
        raise study.error(key, f"'{tag}'", f"a boundary region: {', '.join(tags)}")


def names_in_formulas(physics: Physics) -> dict[str, str]:
    """Name -> what has it, of all that formulas may speak of."""
    return (
        {name: f"the function {name} of formulas" for name in FUNCTIONS}
        | {name: f"the constant {name} of formulas" for name in CONSTANTS}
        | dict.fromkeys(physics.quantities, f"a quantity of physics '{physics.name}'")
    )


def names_of_functionals(physics: Physics) -> dict[str, str]:
    """Name -> what has it, of all that a functional of one's own could be taken for."""
    return (
        names_in_formulas(physics)
        | dict.fromkeys(QUANTITIES, "a geometric quantity")
        | {functional.name: f"a functional of physics '{physics.name}'" for functional in physics.functionals}
    )


def free_name(study: Study, key: str, name: str, taken: Mapping[str, str]) -> None:
    """Refuse a name of the user's own that is taken: which of the two were meant would be a matter of chance."""
    if name in taken:
        raise study.error(key, f"'{name}', the name of {taken[name]}", "a name that nothing else has")


def formula_name(study: Study, key: str, name: str) -> None:
    """Refuse a name that no formula could use."""
    if not (name.isascii() and name.isidentifier()) or iskeyword(name):
        raise study.error(key, f"'{name}'", "a name of letters, digits and _ that formulas can use, such as beta1")


def in_case(name: str, case: str) -> str:
    """Name of a functional in one load case."""
    return f"{name} ({case})"
