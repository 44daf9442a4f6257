"""The file of an evolution study as pydantic models: initial data that vary, and an operator for what becomes of them.

``python -m shapewright.studies.schema.evolution_study`` writes ``studies/evolution_schema.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shapewright.studies.schema.base import Count, Positive, Section, Seed, fault, schema_text
from shapewright.studies.schema.learning import FreshInstances, Surrogate

SCHEMA_FILE = Path(__file__).parents[1] / "evolution_schema.json"


class BurgersEquation(Section):
    """u_t + u u_x = viscosity u_xx on the periodic unit interval, t in [0, 1]."""

    name: Literal["burgers"]
    """Which equation."""
    viscosity: Positive = 0.01
    """Factor of u_xx."""


class InitialData(Section):
    """A Gaussian random field of mean zero; see :class:`periodic_functions.GaussianRandomField`."""

    length: Positive = 2.0
    """Correlation length, in radii of the circle."""
    deviation: Positive = 1.0
    """Standard deviation at every point."""
    waves: Count = 8
    """Highest wave number."""


class EvolutionTraining(FreshInstances):
    """How the operator learns; see :class:`evolution_training.EvolutionTrainingConfig`."""

    derivatives: Literal["exact", "differences", "fourier"] = "exact"
    """How derivatives in the residual are formed."""
    collocation: Annotated[int, Field(ge=4)] = 32
    """Points of the regular grid per axis; its offset in x and t is random."""
    preconditioned: bool = True
    """Make small the error that the residual stands for, else the residual itself."""
    batch: Count = 4
    """Fresh initial data per step."""
    learning_rate: Positive = 3e-3
    """Largest learning rate of the schedule."""


class Evaluation(Section):
    """Resolved solutions for unseen initial data, to measure errors."""

    held_out: Count = 32
    """How many."""
    points: Count = 128
    """Points along x and intervals along t at which they are compared."""
    resolution: Count = 1024
    """Points in x of the spectral solution, a multiple of ``points``."""
    seed: Seed = 999_999_937
    """Seed of the initial data; training draws with seeds far from it."""

    @model_validator(mode="after")
    def _resolution_holds_points(self) -> Self:
        if self.resolution % self.points:
            raise fault("resolution", f"found {self.resolution}; expected a multiple of points, {self.points}")
        return self


class EvolutionStudyModel(Section):
    """An evolution study: initial data that vary, and an operator from them to the solution."""

    kind: Literal["evolution"]
    """Sets these files apart from design and operator studies."""
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", json_schema_extra={"format": "file-name"})
    ]
    """Name of the study and of its output folder: letters, digits, _ . -"""
    description: str = ""
    """What the study is about."""
    equation: BurgersEquation
    initial: InitialData = Field(default_factory=InitialData)
    surrogate: Surrogate = Field(default_factory=Surrogate)
    training: EvolutionTraining = Field(default_factory=EvolutionTraining)
    evaluation: Evaluation = Field(default_factory=Evaluation)


def json_schema_text() -> str:
    """What ``evolution_schema.json`` holds."""
    return schema_text(EvolutionStudyModel)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
