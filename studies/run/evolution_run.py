"""Stage ``learn`` of an evolution study: train on the equation's residual, measure against resolved solutions."""

from __future__ import annotations

from shapewright.studies.files import content_key
from shapewright.studies.problem.evolution_setup import EvolutionSetup
from shapewright.studies.run.learn import Learner, OperatorErrors
from shapewright.studies.run.stage import Inputs, Results, Run, plain
from shapewright.studies.run.training_log import TrainingLog
from shapewright.surrogate.models.evolution import EvolutionOperator
from shapewright.surrogate.training.evolution_training import squared_errors, train_evolution
from shapewright.surrogate.training.loop import Progress


def _inputs(run: Run[EvolutionSetup], results: Results | None = None) -> Inputs:
    model = run.setup.study.model
    return {
        "": run.setup.trained_for(),
        "training": model.training.model_dump(mode="json"),
        "evaluation": model.evaluation.model_dump(mode="json"),
    }


def _train(run: Run[EvolutionSetup], network: EvolutionOperator) -> tuple[list[Progress], float]:
    """History and seconds; solutions for other initial data than those that measure errors choose the weights."""
    setup = run.setup
    log = TrainingLog(run, content_key("learn", *plain(_inputs(run))))
    config = setup.training_config()
    history = train_evolution(network, setup.population, setup.validation, config, log.checkpoint, log.step)
    return history, log.seconds


def _errors(run: Run[EvolutionSetup], network: EvolutionOperator) -> OperatorErrors:
    """Errors over space and time, by the points of the grid along x."""
    errors, points = squared_errors(network, run.setup.held_out).double(), run.setup.study.model.evaluation.points
    return OperatorErrors(*({points: float(of())} for of in (errors.mean, errors.median, errors.max)))


LEARNER = Learner(_inputs, _train, _errors)
"""Training on the equation's residual."""
