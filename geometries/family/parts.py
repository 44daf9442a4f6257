"""What a geometry family consists of: named parameters, boundary curves, and the map between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.family.spline import Curve, LoopQuadrature, loop_matrix

LARGEST = 1e30
"""Largest size of a parameter, whose square and cube do not overflow."""


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
        if max(abs(self.lower), abs(self.upper)) > LARGEST:
            raise FamilyError(
                f"parameter '{self.name}': bounds [{self.lower}, {self.upper}] must not be larger than {LARGEST:g}"
            )
        if not self.lower <= self.default <= self.upper:
            raise FamilyError(
                f"parameter '{self.name}': default {self.default} is outside its bounds [{self.lower}, {self.upper}]"
            )


@dataclass(frozen=True)
class Rays:
    """A loop of one closed curve that every ray from ``centre`` crosses once, in all designs.

    Attributes:
        loop: its index.
        centre: where the rays begin.
        limit: distance from the centre at which the motion has died away: 0 for an outer boundary that moves the
            whole inside, the radius of a free ring around a hole.
    """

    loop: int
    centre: tuple[float, float]
    limit: float = 0.0


@dataclass(frozen=True)
class FamilyParts:
    """A parametric planar domain bounded by B-spline loops, not yet checked.

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
        rays: loops whose motion is carried along rays, which does not fold where a harmonic extension would; with
            any, all other loops must stay where they are.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    loops: tuple[tuple[Curve, ...], ...]
    control_points: Callable[[Tensor], Tensor]
    part: int = 0
    stiffening: float = 0.0
    grading: float = 1.0
    rays: tuple[Rays, ...] = ()

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
