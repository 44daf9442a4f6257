"""Geometry families: named parameters, the boundary curves they move, and how to load one."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geometries.family_checks import fault
from geometries.spline import Curve, LoopQuadrature, loop_matrix


class FamilyError(ValueError):
    """A family that cannot be built: unknown name, wrong options, boundary curves that do not join."""


@dataclass(frozen=True)
class Parameter:
    """A design variable with its bounds, in the unit named (``length`` is the study's length unit)."""

    name: str
    default: float
    lower: float
    upper: float
    unit: str = "length"
    description: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower < self.upper):
            raise FamilyError(
                f"parameter '{self.name}': bounds [{self.lower}, {self.upper}] must be finite and not cross"
            )
        if not self.lower <= self.default <= self.upper:
            raise FamilyError(
                f"parameter '{self.name}': default {self.default} is outside its bounds [{self.lower}, {self.upper}]"
            )


@dataclass(frozen=True)
class Family:
    """A parametric planar domain bounded by B-spline loops.

    Attributes:
        name, description: for people.
        parameters: the design variables, in the order of ``theta``.
        loops: boundary loops, the outer one first, holes after it; each counter-clockwise, its
            curves in order, the last control point of an open curve being the first of the next in
            every design.
        control_points: differentiable map from theta (..., P) to the control points (..., n, 2) of
            all curves of all loops in order.
        part: index of the loop that bounds the part which is designed and exported: a hole, or 0 for
            the domain itself if it has none.
        stiffening: exponent k of the weight distance^-k of the harmonic extension around that loop.
        grading: cell size far from that loop over the cell size at it.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    loops: tuple[tuple[Curve, ...], ...]
    control_points: Callable[[Tensor], Tensor]
    part: int = 0
    stiffening: float = 0.0
    grading: float = 1.0

    def __post_init__(self) -> None:
        found = fault(self)
        if found:
            raise FamilyError(f"family '{self.name}': {found}")

    @property
    def default(self) -> Tensor:
        """(P,) float64 default design."""
        return torch.tensor([parameter.default for parameter in self.parameters], dtype=torch.float64)

    @property
    def reference(self) -> Tensor:
        """(P,) float64 middle of the bounds: the design whose mesh is moved to every other."""
        return self.bounds.mean(-1)

    @property
    def bounds(self) -> Tensor:
        """(P, 2) float64 lower and upper bounds."""
        return torch.tensor([[p.lower, p.upper] for p in self.parameters], dtype=torch.float64)

    @cached_property
    def curves(self) -> tuple[Curve, ...]:
        """All curves in the order of their control points."""
        return tuple(curve for loop in self.loops for curve in loop)

    @cached_property
    def loop_slices(self) -> tuple[slice, ...]:
        """Rows of the control points that belong to each loop."""
        slices, start = [], 0
        for loop in self.loops:
            stop = start + sum(curve.count for curve in loop)
            slices.append(slice(start, stop))
            start = stop
        return tuple(slices)

    @cached_property
    def part_quadrature(self) -> LoopQuadrature:
        """Quadrature along the part's loop."""
        return LoopQuadrature(self.loops[self.part])

    def part_points(self, theta: Tensor) -> Tensor:
        """(..., m, 2) control points of the part's loop."""
        return self.control_points(theta)[..., self.loop_slices[self.part], :]

    def outline(
        self, control_points: NDArray[np.float64], loop: int, samples_per_span: int = 32
    ) -> NDArray[np.float64]:
        """(S, 2) points around one loop for control points (n, 2) of the family, for drawing and exact predicates."""
        return loop_matrix(self.loops[loop], samples_per_span) @ control_points[self.loop_slices[loop]]

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the boundary regions in order of first appearance."""
        return tuple(dict.fromkeys(curve.tag for curve in self.curves))


def builtin_families() -> dict[str, Callable[..., Family]]:
    """Constructors of the shipped families by name."""
    from geometries.body_in_channel import body_in_channel
    from geometries.closed_bar import closed_bar

    return {"closed_bar": closed_bar, "body_in_channel": body_in_channel}


def load_family(spec: str, options: Mapping[str, Any], folder: Path) -> Family:
    """Build the family ``spec``: a shipped name, or ``file.py:Name`` with the file relative to ``folder``.

    ``Name`` is a callable that takes the options as keywords and returns a :class:`Family`, or a Family itself.

    Raises:
        FamilyError: says what was found and what is allowed.
    """
    if ":" in spec:
        constructor: Any = _from_file(spec, folder)
    else:
        families = builtin_families()
        if spec not in families:
            shipped = ", ".join(families)
            raise FamilyError(f"unknown family '{spec}'; shipped are {shipped}, or your own as my_shapes.py:Name")
        constructor = families[spec]
    if isinstance(constructor, Family):
        if options:
            raise FamilyError(f"family '{spec}' takes no options, found {sorted(options)}")
        return constructor
    if not callable(constructor):
        raise FamilyError(f"'{spec}' is a {type(constructor).__name__}; allowed is a function that returns a Family")
    allowed = inspect.signature(constructor).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values())
    unknown = sorted(set(options) - set(allowed))
    if unknown and not takes_any:
        raise FamilyError(f"family '{spec}': unknown option {unknown}; allowed are {list(allowed)}")
    try:
        family = constructor(**options)
    except FamilyError:
        raise
    except Exception as error:
        raise FamilyError(f"family '{spec}' with options {dict(options)}: {error}") from error
    if not isinstance(family, Family):
        raise FamilyError(f"'{spec}' returned {type(family).__name__}; allowed is a geometries.family.Family")
    return family


def _from_file(spec: str, folder: Path) -> object:
    file, _, name = spec.rpartition(":")
    path = (folder / file).resolve()
    if not path.is_file():
        raise FamilyError(f"family '{spec}': there is no file {path}")
    module_spec = importlib.util.spec_from_file_location(f"user_family_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise FamilyError(f"family '{spec}': {path} is not a Python file (*.py)")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses in the file look themselves up there
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise FamilyError(f"family '{spec}': {path} fails on import: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise FamilyError(f"family '{spec}': {path} defines no '{name}'")
    return getattr(module, name)
