"""Section of a study file about scatter: loads, coefficients and manufacturing that are not known exactly."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from shapewright.studies.schema.base import Count, Interval, Name, Names, Section, Seed, fault


class Variable(Section):
    """A number that is not known exactly, by its distribution."""

    normal: Interval | None = None
    """[mean, standard deviation] of a normal distribution."""
    uniform: Interval | None = None
    """[lower, upper] of a uniform distribution."""
    values: Annotated[tuple[float, ...], Strict(False), Field(min_length=2)] | None = None
    """Values that are equally likely, such as [0.5, 1.0, 1.5]."""

    @property
    def mean(self) -> float:
        """Of the distribution."""
        if self.normal is not None:
            return self.normal[0]
        given = self.uniform or self.values
        assert given is not None  # the validator below has seen to it
        return sum(given) / len(given)

    @model_validator(mode="after")
    def _one_distribution(self) -> Self:
        found = [name for name in ("normal", "uniform", "values") if getattr(self, name) is not None]
        if len(found) != 1:
            told = " and ".join(found) or "none"
            raise fault("", f"found {told} of normal, uniform and values; expected one of them")
        if self.normal is not None and self.normal[1] <= 0:
            raise fault("normal", f"found the standard deviation {self.normal[1]:g}; expected one above 0")
        if self.uniform is not None and self.uniform[0] >= self.uniform[1]:
            raise fault("uniform", f"found {list(self.uniform)}; expected [lower, upper] with lower < upper")
        return self


class Offset(Variable):
    """Distance by which manufacturing moves the boundary outward, length unit; positive where the domain grows."""

    on: Name | Names | None = None
    """Boundary regions that it moves; those that the design variables move if left out."""

    @property
    def tags(self) -> tuple[str, ...] | None:
        """Boundary regions as a tuple; None if left out."""
        return (self.on,) if isinstance(self.on, str) else self.on


class Scatter(Section):
    """What is not known exactly; the objective is then {mean: ...} or {worst: ...} over its scenarios."""

    variables: dict[Name, Variable] = Field(default_factory=dict)
    """Name -> distribution; formulas of physics may use the name, as in {on: tip, u: "sin(angle)"}."""
    offset: Offset | None = None
    """Of the boundary along its outward normal."""
    rule: Literal["gauss", "sobol", "nominal"] = "gauss"
    """Scenarios: all combinations of Gauss points or values of each; a Sobol sequence; or the mean values alone."""
    points: Annotated[int, Field(ge=1, le=9)] = 3
    """Of gauss: points of each distribution; an odd number has the mean value among them."""
    samples: Count = 16
    """Of sobol: scenarios, all of equal weight."""
    seed: Seed = 0
    """Of sobol: seed of its scrambling."""
    compare: bool = True
    """Whether the optimum for the mean values alone is sought, too, and put beside this one."""

    @model_validator(mode="after")
    def _something_scatters(self) -> Self:
        if not self.variables and self.offset is None:
            raise fault("", "found neither variables nor offset; expected at least one of them")
        if self.rule != "gauss" and self.points != Scatter.model_fields["points"].default:
            raise fault("points", f"found it with rule {self.rule}; expected gauss")
        if self.rule != "sobol" and (self.samples, self.seed) != (16, 0):
            raise fault("samples", f"found samples or seed with rule {self.rule}; expected sobol")
        return self
