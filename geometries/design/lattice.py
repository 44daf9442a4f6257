"""A lattice of control points around a solid, its uniform quintic B-splines, and the parameters that move it.

Along each axis the functions are cardinal B-splines of degree 5, four times continuously differentiable. Rows outside
the box move as the outermost row of it, so that the functions sum to 1 everywhere and a motion does not end at the box.
I. J. Schoenberg, *Cardinal Spline Interpolation* (1973); T. Sederberg, S. Parry, SIGGRAPH 20 (1986) 151.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.fields.names import COORDINATES
from shapewright.geometries.mesh.simplex import Array

REACH = 3
"""Half the support of a quintic cardinal B-spline, in rows."""

Rows = Literal["all"] | tuple[tuple[int, ...], ...]
"""Rows of an axis that move together: all of them, or groups of indices from 0."""


def cardinal(s: Tensor, derivative: int = 0) -> Tensor:
    """Quintic cardinal B-spline centred at 0, or its first derivative, at ``s`` in rows."""
    total = torch.zeros_like(s)
    for knot, share in ((3.0, 1.0), (2.0, -6.0), (1.0, 15.0)):
        inside = (knot - s.abs()).clamp_min(0)
        squared = inside * inside
        total = total + share * squared * squared * (1 if derivative else inside)
    return -total * torch.sign(s) / 24 if derivative else total / 120


@dataclass(frozen=True)
class Lattice:
    """Control points on a grid, and which of their coordinates move.

    Attributes:
        low, high: corners of the box; the first and the last row of each axis lie on its sides.
        points: rows along each axis.
        limit: largest motion of a control point along an axis, in the study's length unit.
        move: axes along which the control points move.
        symmetric: axes across whose middle plane of the box the motion is mirrored.
        ties: by axis, rows across it that move together.

    Raises:
        ShapeError: an attribute is out of range; the text says which, what was found and what is allowed.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    points: tuple[int, int, int]
    limit: float
    move: tuple[str, ...] = COORDINATES
    symmetric: tuple[str, ...] = ()
    ties: Mapping[str, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = self._fault()
        if found:
            raise ShapeError(f"lattice: {found}")

    def _fault(self) -> str | None:
        if not all(math.isfinite(a) and math.isfinite(b) and a < b for a, b in zip(self.low, self.high, strict=True)):
            return f"box from {self.low} to {self.high}; the first corner must be less than the second along each axis"
        if len(self.points) != 3 or any(count < 1 for count in self.points):
            return f"points {self.points}; allowed are three numbers of rows, 1 or more"
        if not (math.isfinite(self.limit) and self.limit > 0):
            return f"limit {self.limit}; allowed are positive lengths"
        for key, axes in (("move", self.move), ("symmetric", self.symmetric), ("ties", tuple(self.ties))):
            unknown = [axis for axis in axes if axis not in COORDINATES]
            if unknown or len(set(axes)) != len(axes):
                return f"{key}: {', '.join(map(str, axes))}; allowed are {', '.join(COORDINATES)}, each once"
        if not self.move:
            return f"move: found no axis; allowed are one or more of {', '.join(COORDINATES)}"
        for axis, rows in self.ties.items():
            count = self.points[COORDINATES.index(axis)]
            named = [row for group in rows for row in group] if rows != "all" else []
            if len(set(named)) != len(named) or any(row not in range(count) for row in named):
                allowed = f"'all' or groups of rows 0 to {count - 1}, each row once"
                return f"ties: rows {rows} of {axis}; allowed are {allowed}"
        return None

    @property
    def count(self) -> int:
        """Number of control points K."""
        return math.prod(self.points)

    @property
    def positions(self) -> Array:
        """(K, 3) positions of the control points at rest, the last axis running fastest."""
        axes = [
            np.linspace(a, b, n) if n > 1 else np.array([(a + b) / 2])
            for a, b, n in zip(self.low, self.high, self.points, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)

    def basis(self, points: Tensor) -> Tensor:
        """(n, K) values of the functions at points (n, 3); they are positive and sum to 1."""
        first, second, third = (self._along(axis, points[:, axis]) for axis in range(3))
        return _product(first, second, third)

    def basis_gradient(self, points: Tensor) -> Tensor:
        """(n, 3, K) their derivatives with respect to the position."""
        values = [self._along(axis, points[:, axis]) for axis in range(3)]
        slopes = [self._along(axis, points[:, axis], 1) for axis in range(3)]
        mixed = [[slopes[k] if k == axis else values[k] for k in range(3)] for axis in range(3)]
        return torch.stack([_product(*three) for three in mixed], 1)

    def _along(self, axis: int, x: Tensor, derivative: int = 0) -> Tensor:
        """(n, rows) functions of one coordinate (n,); those of rows outside the box go to the outermost rows."""
        count = self.points[axis]
        if count == 1:
            return (torch.zeros_like if derivative else torch.ones_like)(x)[:, None]
        spacing = (self.high[axis] - self.low[axis]) / (count - 1)
        row = ((x - self.low[axis]) / spacing).clamp(-REACH, count - 1 + REACH)
        centres = torch.arange(-2 * REACH + 1, count + 2 * REACH - 1, dtype=x.dtype, device=x.device)
        values = cardinal(row[:, None] - centres, derivative) / spacing**derivative
        outside = 2 * REACH - 1
        inner = values[:, outside : outside + count].clone()
        inner[:, 0] += values[:, :outside].sum(1)
        inner[:, -1] += values[:, outside + count :].sum(1)
        return inner

    @cached_property
    def reduction(self) -> tuple[Tensor, tuple[Parameter, ...]]:
        """(3 K, P) motion of each coordinate of each control point by parameter, and the P parameters.

        Coordinates tied to each other, or mirrored onto each other, are one parameter; what a mirror maps onto its own
        negative does not move. A parameter ``x_2_0_1`` moves row 2 of x, 0 of y and 1 of z along x.
        """
        sign, label = self._classes()
        free = [column for column in range(3 * self.count) if sign[column] and COORDINATES[column % 3] in self.move]
        first: dict[int, int] = {}
        for column in free:
            first.setdefault(int(label[column]), column)
        order = {known: index for index, known in enumerate(first)}
        matrix = torch.zeros(3 * self.count, len(first), dtype=torch.float64)
        for column in free:
            known = int(label[column])
            matrix[column, order[known]] = float(sign[column] * sign[first[known]])
        return matrix, tuple(self._parameter(column) for column in first.values())

    def _parameter(self, column: int) -> Parameter:
        rows = np.unravel_index(column // 3, self.points)
        name = "_".join([COORDINATES[column % 3], *(str(int(row)) for row in rows)])
        return Parameter(name, 0.0, -self.limit, self.limit, "length", "motion of a control point")

    def _classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(3 K,) sign of each coordinate in its class, 0 where it must not move, and (3 K,) the class."""
        total = 3 * self.count
        index = np.arange(total).reshape(*self.points, 3)
        pairs: list[tuple[int, int, bool]] = []
        for axis, name in enumerate(COORDINATES):
            rows = np.moveaxis(index, axis, 0)
            groups = self.ties.get(name, ())
            for group in (tuple(range(len(rows))),) if groups == "all" else groups:
                for row in group[1:]:
                    pairs += [(int(a), int(b), False) for a, b in zip(rows[group[0]].flat, rows[row].flat, strict=True)]
            if name in self.symmetric:
                pairs += [
                    (int(a), int(b), int(a) % 3 == axis) for a, b in zip(rows.flat, rows[::-1].flat, strict=True)
                ]
        # two copies of each coordinate, itself and its negative; a class that holds both of one is zero
        edges = [(a + s * total, b + (s ^ flip) * total) for (a, b, flip), s in product(pairs, (0, 1))]
        start, end = np.array(edges, dtype=np.int64).reshape(-1, 2).T
        graph = coo_matrix((np.ones(len(start)), (start, end)), shape=(2 * total, 2 * total))
        _, component = connected_components(graph, directed=False)
        plus, minus = component[:total], component[total:]
        return np.where(plus == minus, 0, np.where(plus < minus, 1, -1)), np.minimum(plus, minus)


def _product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return (first[:, :, None, None] * second[:, None, :, None] * third[:, None, None, :]).flatten(1)
