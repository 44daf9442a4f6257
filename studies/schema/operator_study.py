"""The file of an operator study as pydantic models: a problem whose instances are all to be learnt.

``python -m shapewright.studies.schema.operator_study`` writes ``studies/operator_schema.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from shapewright.studies.schema.base import (
    Count,
    Formula,
    Interval,
    Name,
    NotNegative,
    Positive,
    Section,
    fault,
    schema_text,
)
from shapewright.studies.schema.learning import FreshInstances, Surrogate
from shapewright.studies.schema.physics import Physics
from shapewright.studies.schema.study import Geometry

SCHEMA_FILE = Path(__file__).parents[1] / "operator_schema.json"


class Number(Section):
    """How a number varies from instance to instance."""

    uniform: Interval | None = None
    """Uniform between two bounds."""
    normal: Annotated[tuple[float, Positive], Strict(False)] | None = None
    """Normal with mean and standard deviation."""

    @model_validator(mode="after")
    def _one_distribution(self) -> Self:
        if (self.uniform is None) == (self.normal is None):
            found = "neither" if self.uniform is None else "both"
            raise fault("", f"found {found} of uniform and normal; expected one of them")
        if self.uniform is not None and self.uniform[0] >= self.uniform[1]:
            raise fault("uniform", f"found {list(self.uniform)}; expected [lower, upper] with lower < upper")
        return self


class PhysicsTraining(FreshInstances):
    """How the operator learns from the physics; see :class:`physics_training.PhysicsTrainingConfig`."""

    loss: Literal["energy", "weak_residual"] = "energy"
    """What is made small: the energy of the physics, or its weak residual in the dual norm."""
    weights: dict[Name, Formula] = Field(default_factory=dict)
    """Of weak_residual: factor of each component's equation, a number or a formula of the instance's numbers."""
    solutions: Annotated[int, Field(ge=0)] = 0
    """Finite-element solutions to learn from beside the physics."""
    solution_weight: NotNegative = 1.0
    """Weight of the squared relative error on them."""
    solution_batch: Count = 4
    """Solutions per step."""
    points: Annotated[tuple[Count, Count], Strict(False)] = (300, 1500)
    """Least and largest number of points of the input clouds, drawn anew for each step."""
    meshes: Count = 4
    """Meshes of slightly different cell sizes that take turns, so that no quadrature points can be learnt by heart."""
    quadrature: Count = 1
    """Sixths of the points of the quadrature rule in each cell; their positions are drawn anew for each step."""

    @model_validator(mode="after")
    def _points_in_order(self) -> Self:
        if self.points[0] > self.points[1]:
            raise fault("points", f"found {list(self.points)}; expected [least, largest]")
        return self


class Evaluation(Section):
    """Finite-element solutions of unseen instances, to measure errors."""

    held_out: Count = 32
    """How many."""
    mesh_size: Positive = 0.05
    """Cell size of their mesh, length unit."""
    points: Annotated[tuple[Count, ...], Strict(False), Field(min_length=1)] = (100, 300, 1000, 5000)
    """Sizes of input clouds at which the error is reported."""
    seed: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Seed of the instances; those of training have larger ones."""


class OperatorStudyModel(Section):
    """An operator study: shapes, sources and boundary values that vary, and an operator that solves them all."""

    kind: Literal["operator"]
    """Sets these files apart from design studies."""
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", json_schema_extra={"format": "file-name"})
    ]
    """Name of the study and of its output folder: letters, digits, _ . -"""
    description: str = ""
    """What the study is about."""
    geometry: Geometry
    instances: dict[Name, Number] = Field(default_factory=dict)
    """Numbers that formulas of the physics may use, and how they vary; shapes vary uniformly within their bounds."""
    physics: Physics
    surrogate: Surrogate = Field(default_factory=Surrogate)
    training: PhysicsTraining = Field(default_factory=PhysicsTraining)
    evaluation: Evaluation = Field(default_factory=Evaluation)


def json_schema_text() -> str:
    """What ``operator_schema.json`` holds."""
    return schema_text(OperatorStudyModel)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
