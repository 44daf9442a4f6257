"""Vectors and tensors of formulas in any dimension: tuples of components, in torch, in UFL or of plain numbers.

A vector is a tuple of d components, a tensor a tuple of its rows. A :class:`Space` takes them from the named quantities
of a formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import ProblemError

Vector = Sequence[Any]
Tensor2 = Sequence[Vector]
Quantities = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """Euclidean space of a ``dimension``, whose coordinates and derivatives have the names of :mod:`fields.names`."""

    dimension: int

    def __post_init__(self) -> None:
        if self.dimension not in (2, 3):
            raise ProblemError(f"the dimension of a physics is {self.dimension}; allowed are 2 and 3")

    @property
    def axes(self) -> range:
        """Indices of the coordinates."""
        return range(self.dimension)

    def normal(self, q: Quantities) -> Vector:
        """Outward unit normal of the boundary."""
        return tuple(q[name] for name in names.normal(self.dimension))

    def grad(self, q: Quantities, name: str) -> Vector:
        """Gradient of a scalar quantity."""
        return tuple(q[slope] for slope in names.derivatives(name, self.dimension))

    def jacobian(self, q: Quantities, components: Sequence[str]) -> Tensor2:
        """Gradient of a vector field: rows by component, columns by coordinate."""
        return tuple(self.grad(q, component) for component in components)

    def div(self, q: Quantities, components: Sequence[str]) -> Any:
        """Divergence of a vector field."""
        return trace(self.jacobian(q, components))

    def sym_grad(self, q: Quantities, components: Sequence[str]) -> Tensor2:
        """Symmetric part of the gradient of a vector field."""
        gradient = self.jacobian(q, components)
        return tuple(tuple((gradient[i][j] + gradient[j][i]) / 2 for j in self.axes) for i in self.axes)


def values(q: Quantities, components: Sequence[str]) -> Vector:
    """The quantities ``components`` as a vector."""
    return tuple(q[component] for component in components)


def dot(a: Vector, b: Vector) -> Any:
    """a . b."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def squared(a: Vector) -> Any:
    """|a|^2."""
    return sum(x**2 for x in a)


def scaled(factor: Any, a: Vector) -> Vector:
    """factor * a."""
    return tuple(factor * x for x in a)


def contract(a: Tensor2, b: Tensor2) -> Any:
    """a : b."""
    return sum(x * y for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True))


def squared_norm(a: Tensor2) -> Any:
    """a : a."""
    return sum(x**2 for row in a for x in row)


def trace(a: Tensor2) -> Any:
    """Sum of the diagonal."""
    return sum(row[i] for i, row in enumerate(a))


def determinant(a: Tensor2) -> Any:
    """Of a tensor in one to three dimensions."""
    if len(a) == 1:
        return a[0][0]
    if len(a) == 2:
        return a[0][0] * a[1][1] - a[0][1] * a[1][0]
    return dot(a[0], cofactor(a)[0])


def cofactor(a: Tensor2) -> Tensor2:
    """det(a) a^-T, the derivative of the determinant, in two or three dimensions."""
    if len(a) == 2:
        return (a[1][1], -a[1][0]), (-a[0][1], a[0][0])
    return cross(a[1], a[2]), cross(a[2], a[0]), cross(a[0], a[1])


def cross(a: Vector, b: Vector) -> Vector:
    """a x b in three dimensions."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
