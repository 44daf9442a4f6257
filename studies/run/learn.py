"""Stage ``learn`` of studies that train an operator for all instances of a problem: training, errors, card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from shapewright.studies.files import write_json
from shapewright.studies.problem.surrogates import hardware
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage, run_stages
from shapewright.studies.schema.evolution_study import EvolutionStudyModel
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.operator_study import OperatorStudyModel
from shapewright.surrogate.models.model_card import OperatorCard
from shapewright.surrogate.models.weights_file import (
    Operator,
    SurrogateFileError,
    half_precision,
    load_operator,
    save_operator,
)
from shapewright.surrogate.training.allocator import keep_freed_memory
from shapewright.surrogate.training.loop import Progress

WEIGHTS = "operator.safetensors"
ERRORS = "operator.json"


class LearningSetup(Protocol):
    """A study that trains an operator, built."""

    @property
    def study(self) -> Study[OperatorStudyModel | EvolutionStudyModel]:
        """As loaded."""
        ...

    def network(self) -> Operator:
        """The operator with fresh weights."""
        ...

    def trained_for(self) -> dict[str, Any]:
        """Everything that the weights depend on, as plain data."""
        ...


@dataclass(frozen=True)
class OperatorErrors:
    """Errors of an operator on unseen instances.

    Attributes:
        mean, median, worst: number of points -> squared relative error over the instances.
    """

    mean: dict[int, float]
    median: dict[int, float]
    worst: dict[int, float]

    @property
    def by_points(self) -> dict[str, float]:
        """Means as a card holds them."""
        return {str(points): error for points, error in self.mean.items()}


@dataclass(frozen=True)
class LearntOperator:
    """A trained operator and its card."""

    network: Any
    card: OperatorCard


@dataclass(frozen=True)
class Learner[S: LearningSetup]:
    """How the operator of one kind of study is trained and measured.

    Attributes:
        inputs: all that weights and errors depend on.
        train: trains a network in place; the history, and the seconds that it took.
        errors: of a network on unseen instances.
        hashed: the key of the inputs, if not as that of every stage.
    """

    inputs: Callable[[Run[S], Results], Inputs]
    train: Callable[[Run[S], Any], tuple[list[Progress], float]]
    errors: Callable[[Run[S], Any], OperatorErrors]
    hashed: Callable[[Stage[LearntOperator], Inputs], str] | None = None

    @cached_property
    def stage(self) -> Stage[LearntOperator]:
        """The operator trained and measured; ``operator.json`` holds history and errors."""
        return Stage("learn", (), self.inputs, self._make, self._read, hashed=self.hashed)

    def stages(self, model: OperatorStudyModel | EvolutionStudyModel) -> tuple[Stage[LearntOperator], ...]:
        """Those of a study: none where it names trained weights."""
        return (self.stage,) if model.surrogate.weights is None else ()

    def learn(self, run: Run[S]) -> LearntOperator:
        """Train, or open the weights that the study names or an earlier run of it left.

        The card of weights that the study names has the errors that they have here.

        Raises:
            StudyError, TrainingError, SurrogateFileError,
                SolveError.
        """
        keep_freed_memory()
        study, weights = run.setup.study, run.setup.study.model.surrogate.weights
        if weights is None:
            return run_stages(run, (self.stage,), self.stage)[self.stage]
        network = run.setup.network()
        try:
            card = load_operator(study.folder / weights, network, run.setup.trained_for())
        except SurrogateFileError as error:
            key = "surrogate.weights"
            raise SurrogateFileError(f"{study.location(key)}: {key}: {error}") from error
        errors = self.errors(run, network.to(run.device))
        _write_errors(run, [], errors)
        return LearntOperator(network, replace(card, squared_relative_error=errors.by_points))

    def _make(self, run: Run[S], results: Results, key: str) -> Output:
        setup = run.setup
        network = setup.network().to(run.device)
        history, seconds = self.train(run, network)
        half_precision(network)  # errors are those of the weights as they are saved
        errors = self.errors(run, network)
        _write_errors(run, history, errors)
        card = OperatorCard(
            trained_for=setup.trained_for(),
            training=setup.study.model.training.model_dump(mode="json"),
            squared_relative_error=errors.by_points,
            hardware=hardware(run.device),
            seconds=round(seconds, 1),
        )
        save_operator(run.workspace.path(WEIGHTS), network, card)
        return Output((WEIGHTS, ERRORS), seconds=seconds)

    def _read(self, run: Run[S], results: Results, record: object) -> LearntOperator:
        network = run.setup.network()
        card = load_operator(run.workspace.path(WEIGHTS), network, run.setup.trained_for())
        return LearntOperator(network.to(run.device), card)


def _write_errors(run: Run[Any], history: list[Progress], errors: OperatorErrors) -> None:
    content = {"history": [asdict(entry) for entry in history], "errors": asdict(errors)}
    write_json(run.workspace.path(ERRORS), content)
