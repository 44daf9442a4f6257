"""The operator for all shapes that a study names, opened; refused where the study lies outside what it was made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from shapewright.studies.problem.flow_models import FlowModel
from shapewright.studies.problem.known_solutions import KnownSolution
from shapewright.studies.problem.linear_physics import FLOW_PHYSICS, PHYSICS, PHYSICS_OF
from shapewright.studies.problem.models import Array, Model
from shapewright.studies.problem.operator_fit import operator_novelty, unfit
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.shape_models import OperatorModel
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.study import PretrainedOperator, StudyModel
from shapewright.surrogate.models.flow_operator import FlowOperator
from shapewright.surrogate.models.shape_operator import ShapeOperator
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard, load_shape_operator
from shapewright.surrogate.models.weights_file import SurrogateFileError

FOLDER = Path(__file__).resolve().parents[1] / "operators"
OPERATORS = {name: FOLDER / f"{name}.safetensors" for name in ("poisson_2d", "elasticity_2d")}
"""Shipped operators."""


@dataclass(frozen=True)
class Outside:
    """How far a problem lies outside the population that an operator was trained on.

    Attributes:
        share: the largest distance of a descriptor from the population's range, in shares of that; zero inside.
        descriptor: which one; None inside.
    """

    share: float
    descriptor: str | None

    def __str__(self) -> str:
        if self.descriptor is None:
            return "novelty 0, all descriptors are within its range"
        return f"novelty {self.share:.2g}, {self.descriptor} is outside its range by that share of it"


class Solutions(Protocol):
    """Finite-element solutions of a study so far."""

    def spans(self) -> Sequence[KnownSolution]:
        """With adjoints and tangents along all parameters."""


@dataclass(frozen=True)
class StudyOperator:
    """An operator for all shapes as a study's surrogate.

    Attributes:
        model: its fields, functionals and gradients on the study's mesh.
        card: of its weights.
        path: their file.
    """

    model: OperatorModel | FlowModel
    card: ShapeOperatorCard
    path: Path

    @property
    def setup(self) -> Setup:
        """The study, built."""
        return self.model.setup

    @property
    def name(self) -> str:
        """That its card gives it."""
        return self.card.operator

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        return self.model.evaluate(theta)

    def fields(self, theta: Tensor) -> Tensor:
        """(N, c) fields of one design (P,), float64."""
        return self.model.fields(theta)

    @property
    def solutions(self) -> Callable[[], Sequence[Any]]:
        """See :class:`models.LearningModel`."""
        return self.model.solutions

    @property
    def spans(self) -> bool:
        """See :class:`models.CentredModel`."""
        return self.model.spans

    def around(self, theta: Array) -> Model:
        """See :class:`models.CentredModel`."""
        return self.model.around(theta)

    def knowing(self, store: Solutions) -> StudyOperator:
        """It with finite-element solutions of other designs of the study, asked for anew at every call."""
        return replace(self, model=replace(self.model, solutions=store.spans))

    def outside(self, theta: Tensor) -> Outside:
        """How far the problem of a design (P,) lies outside the population."""
        distances: Mapping[str, float] = operator_novelty(self.model.setup, self.card, theta)
        name = max(distances, key=lambda descriptor: distances[descriptor])
        return Outside(distances[name], name if distances[name] > 0 else None)


def load_operator_for(setup: Setup, name: str) -> tuple[ShapeOperator, ShapeOperatorCard]:
    """A shipped operator by its name, or that of a file, relative to the study's folder.

    Raises:
        StudyError: there is none, or its file cannot be read.
    """
    path = OPERATORS.get(name, setup.study.folder / name)
    if name not in OPERATORS and path.suffix != ".safetensors":
        raise setup.study.error("model.operator", f"'{name}'", f"{', '.join(OPERATORS)}, or a .safetensors file")
    if not path.is_file():
        raise setup.study.error("model.operator", f"'{name}', but no file {path}", "an operator that is there")
    try:
        return load_shape_operator(path, {**PHYSICS, **FLOW_PHYSICS})
    except SurrogateFileError as error:
        raise StudyError(f"{setup.study.location('model.operator')}: model.operator: {error}") from error


def operator_path(study: Study[StudyModel], name: str) -> Path:
    """File of an operator that ships, by its name, or of one beside the study."""
    return OPERATORS.get(name, study.folder / name)


def open_operator(setup: Setup, choice: PretrainedOperator, device: str = "cpu") -> StudyOperator:
    """The operator, for a study that lies within its card.

    Raises:
        StudyError: no such operator, or the study lies outside its card: names all reasons, with what is allowed.
    """
    network, card = load_operator_for(setup, choice.operator)
    reasons = unfit(setup, card)
    if reasons:
        where = f"{setup.study.location('model.operator')}: model.operator"
        raise StudyError(f"{where}: found {choice.operator}, which does not fit this study: {'; '.join(reasons)}")
    network = network.to(device).requires_grad_(False)
    model: OperatorModel | FlowModel = OperatorModel(setup, network, choice.gradient)
    if isinstance(network, FlowOperator):
        model = FlowModel(setup, network=network, gradient=choice.gradient)
    return StudyOperator(model, card, operator_path(setup.study, choice.operator))


def fitting_operator(setup: Setup, device: str = "cpu") -> StudyOperator | str:
    """The operator that the study names, or the shipped one that serves its physics; or why there is none that fits."""
    named = setup.study.model.model
    physics = setup.problem.physics.name
    shipped = [name for name in OPERATORS if physics in PHYSICS_OF[name]]
    if not isinstance(named, PretrainedOperator) and not shipped:
        return f"no operator serves physics '{physics}'"
    choice = named if isinstance(named, PretrainedOperator) else PretrainedOperator(operator=shipped[0])
    try:
        return open_operator(setup, choice, device)
    except StudyError as error:
        return str(error).partition("model.operator: ")[2]
