"""What a study written in Python is made of: a design, a problem, conditions; each gives data as a study file has them.

Formulas may be numbers, text, or Python functions ``f(ops, q)`` of a namespace of elementary functions and of the named
quantities; families, physics and functionals may be objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shapewright.geometries.family.family import Family
from shapewright.geometries.fields.problem import Functional, Physics
from shapewright.solvers.physics.catalogue import PHYSICS, load_physics
from shapewright.studies.schema.describe import Key, found
from shapewright.studies.schema.yaml_source import StudyError

Formula = float | str | Callable[..., Any]
ByComponent = Formula | Mapping[str, Formula]
Conditions = Mapping[Any, Any] | Sequence[Mapping[str, Any]]
Quantity = str | Functional | Mapping[str, Any]


@dataclass(frozen=True)
class Design:
    """A parametric shape.

    Attributes:
        family: such as ``shapewright.families.closed_bar(control_points=8)``; a family of one's own, or the name of
            one in a file, ``"my_shapes.py:Nozzle"``.
        mesh_size: target cell size of the reference mesh, in the length unit.
        options: of a family that is given by its name.
        bounds: parameter -> (lower, upper) where they differ from the family's.
        initial: parameter -> start value where it differs from the family's.
        fixed: parameter -> value, of those that are no design variables.
        length_unit: m, cm or mm.
        thickness: depth to which the part is extruded into a solid; None for a face.
    """

    family: Family | str
    mesh_size: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict, kw_only=True)
    initial: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    fixed: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    length_unit: str = field(default="m", kw_only=True)
    thickness: float | None = field(default=None, kw_only=True)

    def section(self) -> dict[str, Any]:
        """Content of ``geometry``; a shipped family stands there by its name and options.

        Raises:
            StudyError: names the argument.
        """
        if not isinstance(self.family, Family | str):
            raise _not_made("Design(family)", self.family, "a Family or its name")
        names = "mesh_size", "bounds", "initial", "fixed", "length_unit", "thickness"
        content = {name: _plain(getattr(self, name)) for name in names}
        family, options = self.family, self.options
        if isinstance(family, Family):
            if options:
                raise StudyError("Design(options=...): found options beside a family that is made; expected none")
            if family.origin is not None:
                family, options = family.origin
        return content | {"family": family, "options": _plain(options)}


@dataclass(frozen=True)
class Problem:
    """The boundary-value problem of a study.

    Values are numbers, formulas as text, or functions f(ops, q). Of a physics with one component a bare value will do,
    of one with several it is a mapping from components.

    Attributes:
        physics: such as ``shapewright.physics.poisson(dimension=2)``; a physics of one's own, its name, or that of one
            in a file, ``"my_physics.py:Name"``.
        source: per component.
        dirichlet: region, or tuple of regions, -> prescribed values; or a list of entries as in a study file.
        natural: the same for flux . n.
        coefficients: coefficient of the physics -> value.
        pins: component -> region on one corner of which it is zero.
        slip: regions without friction.
        cases: load case -> {natural: ..., source: ..., dirichlet: ...} beside what stands above.
    """

    physics: Physics | str
    source: ByComponent | None = field(default=None, kw_only=True)
    dirichlet: Conditions = field(default=(), kw_only=True)
    natural: Conditions = field(default=(), kw_only=True)
    coefficients: Mapping[str, Formula] = field(default_factory=dict, kw_only=True)
    pins: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    slip: str | Sequence[str] = field(default=(), kw_only=True)
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True)

    def section(self, folder: Path) -> dict[str, Any]:
        """Content of ``physics``; a shipped physics stands there by its name.

        Raises:
            StudyError: names the argument.
        """
        components = self._components(folder)
        for argument in ("coefficients", "pins", "cases"):
            _check_mapping(f"Problem({argument}=...)", getattr(self, argument))
        for of_case, case in self.cases.items():
            _check_mapping(f"Problem(cases=...) '{of_case}'", case)
        physics = self.physics
        shipped = isinstance(physics, Physics) and PHYSICS.get(physics.name) is physics
        name = physics.name if isinstance(physics, Physics) and shipped else physics
        return {
            "name": name,
            "coefficients": _plain(self.coefficients),
            **_loads("Problem", self.source, self.dirichlet, self.natural, components),
            "pins": [{"component": component, "on": region} for component, region in self.pins.items()],
            "slip": [self.slip] if isinstance(self.slip, str) else list(self.slip),
            "cases": {name: self._case(name, case, components) for name, case in self.cases.items()},
        }

    def _components(self, folder: Path) -> tuple[str, ...]:
        if isinstance(self.physics, Physics):
            return self.physics.components
        if not isinstance(self.physics, str):
            raise _not_made("Problem(physics)", self.physics, "a Physics or its name")
        try:
            return load_physics(self.physics, folder).components
        except ValueError as error:
            raise StudyError(f"Problem(physics): {error}") from error

    @staticmethod
    def _case(name: str, case: Mapping[str, Any], components: tuple[str, ...]) -> dict[str, Any]:
        others = {key: value for key, value in case.items() if key not in ("source", "dirichlet", "natural")}
        given = case.get("source"), case.get("dirichlet", ()), case.get("natural", ())
        return _loads(f"Problem(cases) '{name}'", *given, components) | others


def _not_made(where: str, value: Any, expected: str) -> StudyError:
    """Error of a family or physics of another kind; a function that makes one was not called."""
    name = getattr(value, "__name__", None) if callable(value) else None
    what, hint = (found(value), "") if name is None else (f"the function {name}", f"; write {name}(...)")
    return StudyError(f"{where}: found {what}; expected {expected}{hint}")


def _check_mapping(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise StudyError(f"{where}: found {found(value)}; expected a mapping from names")


def _loads(
    where: str, source: Any, dirichlet: Conditions, natural: Conditions, components: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "source": {} if source is None else _by_component(f"{where}: source", source, components),
        "dirichlet": _conditions(f"{where}: dirichlet", dirichlet, components),
        "natural": _conditions(f"{where}: natural", natural, components),
    }


def _by_component(where: str, value: Any, components: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if len(components) != 1:
        names = ", ".join(components)
        raise StudyError(f"{where}: found {found(value)}; expected a mapping from components: {names}")
    return {components[0]: value}


def _conditions(where: str, given: Conditions, components: tuple[str, ...]) -> list[dict[str, Any]]:
    """Entries as in a study file."""
    if not isinstance(given, Mapping):
        entries = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
        if not all(isinstance(entry, Mapping) for entry in entries) or (not entries and given not in ((), [])):
            expected = "a mapping from regions to values, such as {'wall': 0.0}, or a list of entries with 'on'"
            raise StudyError(f"{where}: found {found(given)}; expected {expected}")
        return [_plain(entry) for entry in entries]
    return [
        {"on": list(region) if isinstance(region, tuple) else region}
        | _plain(_by_component(f"{where} on {region!r}", value, components))
        for region, value in given.items()
    ]


def _plain(value: Any) -> Any:
    """Mappings as dictionaries and tuples as lists, as a file has them; other objects as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def equals(quantity: Quantity, value: float | str, tolerance: float | None = None, case: str | None = None) -> dict:
    """The condition that a quantity has a value, or its value at the start (``"initial"``).

    Args:
        quantity: of the shape, such as area; a functional of the physics; an integral of one's own,
            ``{"name": ..., "integrand": ...}``; or a :class:`Functional`.
        value: in the quantity's unit.
        tolerance: violation that counts as satisfied, relative to the value.
        case: load case in which a functional has to meet it; None for each.
    """
    return _condition("equals", quantity, value, tolerance, case)


def at_least(quantity: Quantity, value: float | str, tolerance: float | None = None, case: str | None = None) -> dict:
    """The condition that a quantity is no smaller than a value; see :func:`equals`."""
    return _condition("at_least", quantity, value, tolerance, case)


def at_most(quantity: Quantity, value: float | str, tolerance: float | None = None, case: str | None = None) -> dict:
    """The condition that a quantity is no larger than a value; see :func:`equals`."""
    return _condition("at_most", quantity, value, tolerance, case)


def _condition(
    kind: str, quantity: Quantity, value: float | str, tolerance: float | None, case: str | None
) -> dict[str, Any]:
    optional = {"tolerance": tolerance, "case": case}
    return {"quantity": quantity, kind: value} | {key: item for key, item in optional.items() if item is not None}


_ARGUMENTS: dict[Key, str] = {
    ("geometry", "family"): "Design(family)",
    ("physics", "name"): "Problem(physics)",
    ("objective",): "Study(maximize=..., minimize=... or objectives=...)",
    ("objective", "maximize"): "Study(maximize=...)",
    ("objective", "minimize"): "Study(minimize=...)",
}


@dataclass(frozen=True)
class Arguments:
    """Where each key of a study made in Python comes from: an argument."""

    name: str = "Study"

    def location(self, key: Key) -> tuple[int, str]:
        """Zero, and the argument that gave ``key``."""
        if self.name != "Study":  # a function whose arguments are the sections
            return 0, f"{self.name}({key[0]}=...)" if key else self.name
        for length in (2, 1):
            if key[:length] in _ARGUMENTS:
                return 0, _ARGUMENTS[key[:length]]
        if len(key) > 1 and key[0] in ("geometry", "physics"):
            return 0, f"{'Design' if key[0] == 'geometry' else 'Problem'}({key[1]}=...)"
        return 0, f"Study({key[0]}=...)" if key else "Study"
