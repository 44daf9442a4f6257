"""What a planar study and one of a solid have in common, as the searches and the boundary-value problem ask for it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.design.solid_map import SolidMap
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.fields.problem import Problem
from shapewright.studies.problem.conditions import Condition


class Designs(Protocol):
    """Design parameters and their bounds."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """P of them."""

    @property
    def bounds(self) -> Tensor:
        """(P, 2) float64 lower and upper bounds."""


class DesignSetup(Protocol):
    """A study ready to be searched; see :class:`setup.Setup` and :class:`solid_setup.SolidSetup`."""

    @property
    def family(self) -> Designs:
        """Parameters and bounds."""

    @property
    def shape_map(self) -> ShapeMap | SolidMap:
        """From designs to the nodes of a mesh."""

    @property
    def problem(self) -> Problem:
        """The boundary-value problem with its functionals, the objective first."""

    @property
    def constraints(self) -> tuple[Condition, ...]:
        """Conditions on geometric quantities and on functionals."""

    @property
    def initial(self) -> Tensor:
        """(P,) start design."""

    @property
    def sign(self) -> int:
        """1 to minimize the objective, -1 to maximize it."""

    def quantity(self, name: str, theta: Tensor) -> Tensor:
        """Geometric quantity of designs theta (..., P)."""
