"""From a checked evolution study to the objects that its training and its evaluation work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from shapewright.studies.problem.burgers_reference import reference
from shapewright.studies.schema.evolution_study import EvolutionStudyModel
from shapewright.studies.schema.loader import Study, load_study
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.evolution import EvolutionOperator
from shapewright.surrogate.models.periodic_functions import GaussianRandomField
from shapewright.surrogate.training.evolution_training import EvolutionSolutions, EvolutionTrainingConfig


@dataclass(frozen=True)
class EvolutionSetup:
    """An evolution study ready to run."""

    study: Study[EvolutionStudyModel]

    @property
    def population(self) -> GaussianRandomField:
        """What initial data are drawn from."""
        return GaussianRandomField(**self.study.model.initial.model_dump())

    @cached_property
    def held_out(self) -> EvolutionSolutions:
        """Resolved solutions for unseen initial data, to measure errors.

        Raises:
            StudyError: the resolution does not resolve them.
        """
        return self._solutions(self.study.model.evaluation.seed)

    @cached_property
    def validation(self) -> EvolutionSolutions:
        """Resolved solutions for as many other initial data, by which the best weights are chosen.

        Raises:
            StudyError: the resolution does not resolve them.
        """
        return self._solutions(self.study.model.evaluation.seed + 2)

    def trained_for(self) -> dict[str, Any]:
        """Everything that the weights depend on, as plain data."""
        model = self.study.model
        network = model.surrogate.model_dump(mode="json", exclude={"weights"})
        return {**model.model_dump(mode="json", include={"equation", "initial"}), "surrogate": network}

    def _solutions(self, seed: int) -> EvolutionSolutions:
        model = self.study.model
        evaluation = model.evaluation
        initial = self.population.draw(evaluation.held_out, seed)
        x = torch.arange(evaluation.resolution, dtype=torch.float64) / evaluation.resolution
        try:
            fields = reference(initial.values(x).numpy(), model.equation.viscosity, evaluation.points)
        except ValueError as error:
            raise self.study.error("evaluation.resolution", f"{evaluation.resolution}: {error}", "more") from error
        return EvolutionSolutions(initial, torch.from_numpy(fields))

    def network(self) -> EvolutionOperator:
        """The study's operator with fresh weights, in float32.

        Raises:
            StudyError: the latent grid is too small for the radius.
        """
        model = self.study.model.surrogate
        torch.manual_seed(self.study.model.training.seed)
        config = OperatorConfig(model.width, model.hidden, model.modes_per_axis, model.layers, model.mollifier)
        try:
            return EvolutionOperator(config, model.grid, model.radius, 2 * self.study.model.initial.deviation).float()
        except ValueError as error:
            raise self.study.error("surrogate.grid", f"{list(model.grid)}: {error}", "a finer grid") from error

    def training_config(self) -> EvolutionTrainingConfig:
        """The study's training section as the trainer takes it."""
        model = self.study.model
        return EvolutionTrainingConfig(**model.training.model_dump(), viscosity=model.equation.viscosity)


def load_evolution_study(path: str | Path, overrides: Sequence[str] = ()) -> EvolutionSetup:
    """Read and check an evolution study; see :func:`loader.load_study`."""
    return EvolutionSetup(load_study(path, tuple(overrides), EvolutionStudyModel))
