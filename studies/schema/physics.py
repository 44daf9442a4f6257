"""Sections of a study file about its boundary-value problem: equations, boundary conditions, loads and their cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, Strict, model_serializer, model_validator

from shapewright.studies.schema.base import Formula, Interval, Name, Names, PhysicsObject, Positive, Section, fault


class BoundaryCondition(Section):
    """Values of components on a boundary region, such as {on: wall, u: 0}."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Formula] = Field(init=False)

    on: Name | Names
    """Boundary region, or a list of them."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Boundary regions, always as a tuple."""
        return (self.on,) if isinstance(self.on, str) else self.on

    @property
    def values(self) -> dict[str, float | str | Callable[..., Any]]:
        """Component -> number, formula or Python function."""
        return dict(self.__pydantic_extra__)

    @model_validator(mode="after")
    def _names_a_component(self) -> Self:
        if not self.__pydantic_extra__:
            raise fault("", "found no component; expected at least one with its value, such as u: 0")
        return self


class Patch(Section):
    """A narrow patch of a boundary region."""

    at: Interval
    """Its middle [x, y], length unit: the nearest point of the region at the start design, which then moves with it."""
    width: Positive
    """Distance from the middle at which the load has fallen to zero, length unit."""


class NaturalCondition(BoundaryCondition):
    """A flux on a boundary region, or the total of one on a narrow patch of it."""

    patch: Patch | None = None
    """Where a load acts whose total is given; left out for a flux along the whole region."""
    total: dict[Name, float] = Field(default_factory=dict)
    """With patch: component -> integral of its flux . n over it, exact on every shape, such as {u: 0, v: -10}."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before there were patches: what weights were trained for holds these data."""
        return {k: v for k, v in handler(self).items() if k not in ("patch", "total") or self.patch is not None}

    @model_validator(mode="after")
    def _names_a_component(self) -> Self:
        if self.patch is None and self.total:
            raise fault("total", "found it without patch; expected patch: {at: [x, y], width: ...} beside it")
        if self.patch is not None and (self.values or not self.total):
            found = f"patch with {', '.join(self.values)}" if self.values else "patch without total"
            raise fault("", f"found {found}; expected patch and total, such as {{v: -10}}, and nothing else")
        if self.patch is not None and isinstance(self.on, tuple) and len(self.on) > 1:
            raise fault("on", f"found {len(self.on)} regions; expected one, on which the patch lies")
        if self.patch is None and not self.values:
            raise fault("", "found no component; expected at least one with its value, such as u: 0")
        return self


class Physics(Section):
    """The boundary-value problem."""

    name: Name | PhysicsObject
    """Equations such as poisson or plane_stress (`shapewright list` shows their components, coefficients and units), or
    my_physics.py:Name beside this file."""
    coefficients: dict[Name, Formula] = Field(default_factory=dict)
    """Parameters of the physics where they differ from its defaults: a number or a formula of x and y."""
    source: Formula | dict[Name, Formula] = Field(default_factory=dict)
    """Source per component, a number or a formula of x and y; a bare value if there is one component only."""
    dirichlet: Annotated[tuple[BoundaryCondition, ...], Strict(False)] = ()
    """Prescribed values: a number or a formula of x and y; where regions meet, the later entry holds."""
    natural: Annotated[tuple[NaturalCondition, ...], Strict(False)] = ()
    """Prescribed flux . n: a number or a formula of x, y, nx, ny, components and their derivatives; or total on a
    patch."""
    pins: Annotated[tuple[Pinned, ...], Strict(False)] = ()
    """Components whose level is fixed at a point."""
    slip: Annotated[tuple[Name, ...], Strict(False)] = ()
    """Boundary regions without friction: no velocity or displacement along the normal, no force along the tangent."""
    cases: dict[Name, LoadCase] = Field(default_factory=dict)
    """Load cases by name; what stands above holds in all of them."""

    @model_serializer(mode="wrap")
    def _without_cases_that_are_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before there were cases: what weights were trained for holds these data."""
        return {key: value for key, value in handler(self).items() if key != "cases" or value}


class LoadCase(Section):
    """What one load case has beside what holds in all; supports are the same in all of them."""

    natural: Annotated[tuple[NaturalCondition, ...], Strict(False)] = ()
    """Prescribed flux . n, added to that of all cases."""
    source: Formula | dict[Name, Formula] = Field(default_factory=dict)
    """Source per component, in place of that of all cases."""
    dirichlet: Annotated[tuple[BoundaryCondition, ...], Strict(False)] = ()
    """Prescribed values in place of those of all cases, on supports that these have too."""


class Pinned(Section):
    """A component that the equations determine only up to a constant."""

    component: Name
    """Such as the pressure of an enclosed flow."""
    on: Name
    """Boundary region on one corner of which it is zero."""
