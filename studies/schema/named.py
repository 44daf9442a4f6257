"""Names in a study that must be known, names that must be free, and formulas with the location of their key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, Protocol

import torch
from torch import Tensor

from shapewright.geometries.design.measures import QUANTITIES
from shapewright.geometries.fields.problem import Physics
from shapewright.studies.schema.base import Section
from shapewright.studies.schema.expressions import CONSTANTS, FUNCTIONS, Expression, ExpressionError, parse
from shapewright.studies.schema.loader import Study, StudyError


@dataclass(frozen=True)
class PythonFormula:
    """A formula that is a Python function f(ops, q).

    Attributes:
        function: the formula.
        names: quantities that it uses.
    """

    function: Callable[[Any, Mapping[str, Any]], Any]
    names: frozenset[str]

    def __call__(self, ops: Any, q: Mapping[str, Any]) -> Any:
        """See :data:`problem.Function`."""
        return self.function(ops, q)


class Tagged(Protocol):
    """Named boundary regions, which are all that a boundary-value problem asks of a family."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the regions."""


class _Asked(dict[str, Tensor]):
    """Quantities that record which of them are asked for."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: torch.tensor([0.3, 0.7], dtype=torch.float64) for name in names})
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        value = super().__getitem__(name)
        self.names.add(name)
        return value


def formula(
    study: Study[Section], key: str, value: float | str | Callable[..., Any], names: Iterable[str]
) -> Expression | PythonFormula:
    """A number, a formula or a Python function of ``names`` as a function; StudyError at ``key`` if it is none."""
    if not isinstance(value, str) and callable(value):
        return _python_formula(study, key, value, tuple(names))
    try:
        return parse(value, names, key)
    except ExpressionError as error:
        raise StudyError(f"{study.location(key)}: {error}") from error


def _python_formula(
    study: Study[Section], key: str, function: Callable[[Any, Mapping[str, Any]], Any], names: tuple[str, ...]
) -> PythonFormula:
    """The function with the names that it asks for; it is called once."""
    asked = _Asked(names)
    what = getattr(function, "__qualname__", "the function")
    try:
        function(torch, asked)
    except KeyError as error:
        raise study.error(key, f"{what}, which asks for {error}", f"a function of {', '.join(names)}") from error
    except Exception as error:
        found = f"{what}, which raises {type(error).__name__}: {error}"
        raise study.error(key, found, "a function f(ops, q) of torch or UFL and of named quantities") from error
    return PythonFormula(function, frozenset(asked.names))


def known_component(study: Study[Section], key: str, name: str, components: tuple[str, ...]) -> None:
    """Refuse what is no component of the physics."""
    if name not in components:
        raise study.error(key, f"'{name}'", f"a component: {', '.join(components)}")


def known_tag(study: Study[Section], key: str, tag: str, tags: tuple[str, ...]) -> None:
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


def free_name(study: Study[Section], key: str, name: str, taken: Mapping[str, str]) -> None:
    """Refuse a name of the user's own that is taken: which of the two were meant would be a matter of chance."""
    if name in taken:
        raise study.error(key, f"'{name}', the name of {taken[name]}", "a name that nothing else has")


def formula_name(study: Study[Section], key: str, name: str) -> None:
    """Refuse a name that no formula could use."""
    if not (name.isascii() and name.isidentifier()) or iskeyword(name):
        raise study.error(key, f"'{name}'", "a name of letters, digits and _ that formulas can use, such as beta1")


def in_case(name: str, case: str) -> str:
    """Name of a functional in one load case."""
    return f"{name} ({case})"
