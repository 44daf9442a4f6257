"""What a program does with a study: models of it, its optimum, the certificate of a design."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

from numpy.typing import ArrayLike
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shapewright.studies.certify.certificate import certify as certificate_of
from shapewright.studies.certify.export import export_cad
from shapewright.studies.certify.model import Certificate
from shapewright.studies.optimize.optimizer import Iterate, Optimum
from shapewright.studies.optimize.optimizer import optimize as search
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel, SurrogateModel, design_of
from shapewright.studies.problem.operators import StudyOperator, open_operator
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.surrogates import open_surrogate
from shapewright.studies.schema.describe import found, kind
from shapewright.studies.schema.learning import ShapeSurrogate
from shapewright.studies.schema.study import Optimizer, PretrainedOperator, StudyModel
from shapewright.studies.schema.value import Study
from shapewright.studies.schema.yaml_source import StudyError
from shapewright.studies.schema.yaml_text import WEIGHTS
from shapewright.surrogate.models.weights_file import read_weights


@dataclass(frozen=True)
class SLSQP:
    """Sequential least-squares quadratic programming, from several starts.

    Attributes:
        starts: start designs: the study's and random ones; the best result is kept.
        seed: of the random ones.
        max_iterations: from each start.
        tolerance: relative change of the scaled objective at which a search has converged.
    """

    name: ClassVar[str] = "slsqp"
    starts: int = 8
    seed: int = 0
    max_iterations: int = 200
    tolerance: float = 1e-8


@dataclass(frozen=True)
class TrustConstr(SLSQP):
    """The interior-point method of scipy, from several starts; see :class:`SLSQP`."""

    name: ClassVar[str] = "trust_constr"


@dataclass(frozen=True)
class TrustRegion(SLSQP):
    """The surrogate, corrected by finite elements at every centre, after a search by SLSQP on the surrogate alone.

    Attributes:
        kkt_tolerance: KKT residual by the finite-element gradient at which it has converged.
        max_solves: largest number of finite-element solutions.
        radius: half the width of the first box, relative to the bounds.
        least_radius: at which it gives up.
    """

    name: ClassVar[str] = "trust_region"
    kkt_tolerance: float = 5e-3
    max_solves: int = 60
    radius: float = 0.1
    least_radius: float = 1e-5


def fem(study: Study[StudyModel]) -> FemModel:
    """Finite elements with their adjoint, on the mesh that moves with the design.

    Raises:
        StudyError: names the key.
    """
    return FemModel(build_setup(_study(study)))


def surrogate(study: Study[StudyModel], weights: str | Path | None = None, device: str = "cpu") -> SurrogateModel:
    """A trained surrogate of a study.

    Args:
        study: with the shape, physics, objective and constraints that the weights were trained for.
        weights: their file, whose card says of which size the network is; those that the study names if left out.
        device: cpu or cuda.

    Raises:
        StudyError: the study names no weights.
        SurrogateFileError: no such file, or trained for another study: says what differs.
    """
    _study(study)
    if device not in ("cpu", "cuda"):
        raise StudyError(f"device: found {found(device)}; expected cpu or cuda")
    if weights is not None:
        path = Path(weights).resolve()
        network = read_weights(path)[1]["trained_for"]["surrogate"]
        study = study.updated(surrogate=ShapeSurrogate.model_validate(network | {"weights": str(path)}))
    if study.model.surrogate.weights is None:
        raise study.error("surrogate.weights", "nothing", "a file of weights; or give surrogate(study, weights=...)")
    setup = build_setup(study)
    network, card = open_surrogate(setup, study.folder / study.model.surrogate.weights, device)
    return SurrogateModel(setup, network, card.box)


@dataclass(frozen=True)
class Operator:
    """An operator for all shapes of a physics, for any study that lies within its card; made by :func:`operator`."""

    choice: PretrainedOperator
    device: str = "cpu"

    def of(self, study: Study[StudyModel]) -> StudyOperator:
        """It as a model of a study.

        Raises:
            StudyError: no such operator, or the study lies outside its card: says by how much.
        """
        return open_operator(build_setup(study.updated(model=self.choice)), self.choice, self.device)


def operator(
    name: str | Path,
    gradient: Literal["lagrangian", "through_operator"] = "lagrangian",
    device: str = "cpu",
) -> Operator:
    """An operator for all shapes, which takes the place of a :func:`surrogate` and needs neither samples nor training.

    Args:
        name: of one that ships, such as ``"poisson_2d"``, or a file of weights.
        gradient: of the Lagrangian with the predicted fields held, or of the predicted functionals exactly.
        device: cpu or cuda.
    """
    file = str(Path(name).resolve()) if str(name).endswith(WEIGHTS) else str(name)
    return Operator(PretrainedOperator(operator=file, gradient=gradient), device)


def optimize(
    study: Study[StudyModel],
    method: SLSQP | None = None,
    *,
    model: FemModel | SurrogateModel | Operator,
    folder: str | Path | None = None,
    report: Callable[[Iterate], None] = lambda iterate: None,
) -> Optimum:
    """The optimum of a study on a model of it.

    Args:
        study: that the model is of.
        method: :class:`SLSQP`, :class:`TrustConstr` or :class:`TrustRegion`; the study's own if left out.
        model: made by :func:`fem`, :func:`surrogate` or :func:`operator`.
        folder: where a trust region keeps its solutions, and goes on from them; they are thrown away if left out.
        report: called with every iterate.

    Raises:
        StudyError: the model is of another study, or the method does not go with it.
    """
    of_study = model.of(_single(study)) if isinstance(model, Operator) else model
    driver = "fem" if isinstance(model, FemModel) else "surrogate"
    setup = _by_method(_setup_of(_single(study), of_study), _method(method), driver)
    config = setup.study.model.optimizer
    if config.method != "trust_region":
        return search(setup, of_study, config, report)
    cheap = None if isinstance(of_study, FemModel) else of_study
    with TemporaryDirectory() if folder is None else nullcontext(folder) as kept:
        store = SolutionStore(setup, Path(kept))
        cheap = cheap.knowing(store) if isinstance(cheap, StudyOperator) else cheap
        return search_by_trust_region(setup, cheap, config, store, Path(kept) / "starts.json", report)


def certify(
    study: Study[StudyModel],
    theta: ArrayLike,
    *,
    model: SurrogateModel | Operator | None = None,
    method: SLSQP | None = None,
    folder: str | Path | None = None,
) -> Certificate:
    """The finite-element certificate of a design, on its CAD file read back.

    Args:
        study: that the design is of.
        theta: (P,) design.
        model: surrogate or operator that found it; None where finite elements did.
        method: that found it; the study's own if left out.
        folder: for CAD, meshes and fields; they are thrown away if left out.

    Raises:
        StudyError: a design of another length, or with values that are not finite; a model of another study.
    """
    if model is not None and not isinstance(model, SurrogateModel | Operator):
        expected = "the surrogate or operator that found the design, or none where finite elements did"
        raise StudyError(f"model: found {kind(model)}; expected {expected}")
    of_study = model.of(_single(study)) if isinstance(model, Operator) else model
    setup = build_setup(_single(study)) if of_study is None else _setup_of(study, of_study)
    setup = _by_method(setup, _method(method), "fem" if model is None else "surrogate")
    design = design_of(setup, theta)
    with TemporaryDirectory() if folder is None else nullcontext(folder) as kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        exported = export_cad(setup, design, Path(kept))
        return certificate_of(setup, design, exported, Path(kept), of_study)


def _study(study: Study[StudyModel]) -> Study[StudyModel]:
    if not isinstance(study, Study):
        expected = "a Study, such as shapewright.load('study.yaml') returns"
        raise StudyError(f"study: found {kind(study)}; expected {expected}")
    return study


def _single(study: Study[StudyModel]) -> Study[StudyModel]:
    if _study(study).model.front is not None:
        expected = "one objective; shapewright.run(study, folder) makes the whole front"
        raise study.error("objectives", "a front", expected)
    return study


def _method(method: SLSQP | None) -> SLSQP | None:
    if method is None or isinstance(method, SLSQP):
        return method
    model = "; write model=... before a model" if isinstance(method, FemModel | SurrogateModel | Operator) else ""
    expected = "SLSQP(), TrustConstr() or TrustRegion(), each with its options"
    raise StudyError(f"method: found {kind(method)}; expected {expected}{model}")


def _setup_of(study: Study[StudyModel], model: FemModel | SurrogateModel | StudyOperator) -> Setup:
    """The model's setup; refused where it is of another study."""
    _study(study)
    if not isinstance(model, FemModel | SurrogateModel | StudyOperator):
        expected = "what shapewright.fem(study), shapewright.surrogate(study) or shapewright.operator(name) returns"
        raise StudyError(f"model: found {kind(model)}; expected {expected}")
    own = model.setup.study
    for section in ("geometry", "physics", "objective", "constraints"):
        if getattr(own.model, section) != getattr(study.model, section):
            raise StudyError(f"model: found one of another study, whose {section} differs; expected one of this study")
    return replace(model.setup, study=study.updated(surrogate=own.model.surrogate))


def _by_method(setup: Setup, method: SLSQP | None, driver: str) -> Setup:
    """The setup whose study says by what it is searched."""
    data: dict[str, Any] = setup.study.model.optimizer.model_dump() | {"on": driver}
    if method is not None:
        data = {"method": method.name, "on": driver, **asdict(method)}
    try:
        section = Optimizer.model_validate(data)
    except ValidationError as error:
        raise StudyError(f"method {data['method']}: {'; '.join(map(_fault, error.errors()))}") from None
    return replace(setup, study=setup.study.updated(optimizer=section))


def _fault(error: ErrorDetails) -> str:
    option, value = ".".join(map(str, error["loc"])) or "method", error["input"]
    return f"{option}: {'' if isinstance(value, dict) else f'found {value!r:.60}: '}{error['msg']}"
