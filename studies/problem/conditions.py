"""The conditions of a study, and the scale of each, so that no verdict depends on a unit of length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from shapewright.geometries.design.measures import Quantity, quantities_of
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.design.solid_map import SolidMap
from shapewright.geometries.fields.names import COORDINATES
from shapewright.geometries.fields.problem import Problem
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.load_cases import CaseSolution, solver_of
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.problem.case_maps import CaseMaps
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.named import in_case
from shapewright.studies.schema.study import Combined, Constraint, ConstraintKind, StudyModel

NEGLIGIBLE = 1e-9
"""A target, or a value at the start, below this share of the natural scale of its quantity is zero but for rounding."""
POSITIONS = tuple(f"centroid_{name}" for name in COORDINATES)
"""Quantities whose zero is where the origin happens to be."""


ACTIVE = 1e-4
"""An inequality that is met by less than this share of its scale counts as active, for optimizers and certificate."""


@dataclass(frozen=True)
class Condition:
    """A condition on a quantity of the design, its target a number.

    Attributes:
        name: quantity and kind, such as ``area equals``.
        quantity: a name of :data:`measures.QUANTITIES`, or of a functional.
        kind: equals, at_least or at_most.
        target: in the quantity's unit.
        tolerance: violation that counts as satisfied, relative to ``scale``.
        unit: of the quantity, spelt out.
        functional: its index among the problem's functionals; None for a geometric quantity.
        scale: size of the target, or what replaces it where that is zero, in the quantity's unit; positive.
        entry: its index in the study's list; conditions on a functional of several load cases share one.
    """

    name: str
    quantity: str
    kind: ConstraintKind
    target: float
    tolerance: float
    unit: str
    functional: int | None = None
    scale: float = 1.0
    entry: int = 0

    @property
    def allowed(self) -> float:
        """Largest violation that counts as satisfied, in the quantity's unit."""
        return self.tolerance * self.scale

    def active(self, value: float) -> bool:
        """Whether it holds the design at ``value`` of the quantity."""
        return self.kind == "equals" or -self.violation(value) < ACTIVE * self.scale

    def violation(self, value: float) -> float:
        """By how much ``value`` misses the target; zero or less when it does not."""
        gap = value - self.target
        return abs(gap) if self.kind == "equals" else (-gap if self.kind == "at_least" else gap)

    def satisfied(self, value: float) -> bool:
        """Whether the violation is within the tolerance."""
        return self.violation(value) <= self.allowed


def conditions_of(
    study: Study[StudyModel], shape_map: ShapeMap, problem: Problem, initial: Tensor
) -> tuple[Condition, ...]:
    """Every condition of a planar study with its target as a number, and its scale; errors as of :func:`conditions_on`.
    """
    family = shape_map.family
    outline = family.outline(family.control_points(initial).detach().numpy(), family.part)
    size = float(np.ptp(outline, axis=0).max())
    return conditions_on(study, quantities_of(shape_map), shape_map, problem, initial, size)


def conditions_on(
    study: Study[Any],
    quantities: Mapping[str, Quantity],
    shape_map: ShapeMap | SolidMap,
    problem: Problem,
    initial: Tensor,
    size: float,
) -> tuple[Condition, ...]:
    """Every condition of a study with its target as a number, and its scale.

    Args:
        study: with the conditions.
        quantities: of the shape, by name.
        shape_map, problem: of the study.
        initial: (P,) start design.
        size: of the part, in the study's length unit.

    Raises:
        StudyError: a quantity that is not known, or a target that only a solution at the start tells where there is
            none.
    """
    start = _Start(quantities, shape_map, problem, initial, size)
    found: list[Condition] = []
    for index, entry in enumerate(study.model.constraints):
        quantity = quantities.get(entry.name)
        if quantity is None:
            found += _on_functional(study, start, index)
            continue
        if entry.case is not None:
            raise study.error(f"constraints.{index}.case", f"'{entry.case}'", "none for a quantity of the shape")
        unit = quantity.unit.replace("length", study.model.geometry.length_unit)
        given = None if entry.target == "initial" else float(entry.target)
        target, scale = _geometric(entry.name, quantity, given, start)
        found.append(_condition(entry, entry.name, target, unit, None, scale, index))
    return tuple(found)


def _condition(
    entry: Constraint, quantity: str, target: float, unit: str, position: int | None, scale: float, index: int
) -> Condition:
    name = f"{quantity} {entry.kind.replace('_', ' ')}"
    return Condition(name, quantity, entry.kind, target, entry.tolerance, unit, position, scale, index)


def _on_functional(study: Study[Any], start: _Start, index: int) -> Iterator[Condition]:
    """The condition on a functional, or one for each load case that it holds in."""
    entry, problem = study.model.constraints[index], start.problem
    positions = {functional.name: position for position, functional in enumerate(problem.functionals)}
    cases = [entry.case] if entry.case is not None else list(problem.cases)
    given = None if entry.target == "initial" else float(entry.target)
    each = bool(problem.cases) and not isinstance(entry.quantity, Combined)
    for name in [in_case(entry.name, case) for case in cases] if each else [entry.name]:
        if name not in positions:
            of_physics = ", ".join(functional.name for functional in problem.physics.functionals)
            expected = f"one of {', '.join(start.quantities)}, or of the physics {of_physics}"
            raise study.error(f"constraints.{index}.quantity", f"'{entry.name}'", expected)
        try:
            target, scale = _functional(name, given, start)
        except SolveError as error:
            raise study.error(
                f"constraints.{index}.{entry.kind}",
                f"{entry.target}, whose scale is that of the start, where finite elements fail ({error})",
                "another start, or a target other than 0 and initial",
            ) from error
        yield _condition(entry, name, target, problem.functionals[positions[name]].unit, positions[name], scale, index)


def scale_of(target: float, at_start: Callable[[], float], natural: Callable[[], float]) -> float:
    """Size of a target; where that is zero, of the quantity at the start; where that is zero too, its natural scale."""
    size = abs(target)
    least = NEGLIGIBLE * natural()
    for candidate in (lambda: size, lambda: abs(at_start()), natural):
        found = candidate()
        if found > least:
            return found if found == size else float(f"{found:.6g}")  # not its rounding, which differs by machine
    return 1.0


@dataclass(frozen=True)
class _Start:
    """Scales from the start design; it is solved at the first use."""

    quantities: Mapping[str, Quantity]
    shape_map: ShapeMap | SolidMap
    problem: Problem
    initial: Tensor
    size: float

    @property
    def maps(self) -> CaseMaps:
        """To the nodes of all cases."""
        return CaseMaps(self.problem, self.shape_map)

    @cached_property
    def solution(self) -> FemSolution | CaseSolution:
        """By finite elements."""
        return self.maps.solve(solver_of(self.problem, self.shape_map.mesh), self.initial)

    def change(self, name: str) -> float:
        """Size of a functional's gradient by the parameters in shares of their ranges."""
        low, high = self.shape_map.bounds.T
        return float((self.maps.gradient(self.initial, self.solution, name) * (high - low)).norm())


def _geometric(name: str, quantity: Quantity, given: float | None, start: _Start) -> tuple[float, float]:
    """Target and scale; a position is relative to the part's size, wherever the origin lies."""
    at_start = float(quantity.evaluate(start.shape_map, start.initial))  # type: ignore[arg-type]
    target = at_start if given is None else given
    if name in POSITIONS:
        return target, max(abs(target), start.size)
    power = {"1": 0, "length": 1, "length^2": 2, "length^3": 3}[quantity.unit]
    return target, scale_of(target, lambda: at_start, lambda: start.size**power)


def _functional(name: str, given: float | None, start: _Start) -> tuple[float, float]:
    """Target and scale; the natural one is how much the functional changes over the ranges of the parameters."""
    if given:
        return given, abs(given)
    at_start = start.solution.values[name]
    target = at_start if given is None else given
    return target, scale_of(target, lambda: at_start, lambda: start.change(name))
