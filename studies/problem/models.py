"""What an optimizer can be driven by: functionals and their design gradients, by surrogate or by FEM."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.load_cases import CaseSolution, solver_of
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.problem.design_setup import DesignSetup
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.describe import kind
from shapewright.studies.schema.yaml_source import StudyError
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.models.design_surrogate import DesignSurrogate

Array = NDArray[np.float64]


class OutsideBoxWarning(UserWarning):
    """A surrogate is asked about a design outside its training box; the certificate says so too."""


class Model(Protocol):
    """All functionals of a batch of designs; the first is the objective."""

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """(B, J) values and (B, J, P) gradients for designs (B, P); rows of NaN where there is no answer."""


@runtime_checkable
class LearningModel(Model, Protocol):
    """A model that takes up finite-element solutions of the study as they come."""

    @property
    def solutions(self) -> Callable[[], Sequence[Any]]:
        """Solutions so far, in their order."""


@runtime_checkable
class CentredModel(LearningModel, Protocol):
    """A model that is cheaper about a centre."""

    @property
    def spans(self) -> bool:
        """Whether it takes solutions with adjoints and tangents."""

    def around(self, theta: Array) -> Model:
        """The model about a design (P,): there it is this one, elsewhere what is dear is held."""


@dataclass(frozen=True)
class SurrogateModel:
    """The surrogate, differentiated exactly in reverse mode; any number of designs at once."""

    setup: Setup
    surrogate: DesignSurrogate
    box: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Parameter -> bounds of the training designs; a query outside them warns, once for each parameter."""
    _warned: set[str] = field(default_factory=set, repr=False)

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`Model`."""
        theta = designs_of(self.setup, theta)
        for name, message in outside_box(self.setup, theta, self.box).items():
            if name not in self._warned:
                self._warned.add(name)
                warnings.warn(message, OutsideBoxWarning, stacklevel=2)
        values, gradients = no_answers(self.setup, theta)
        valid = unfolded(self.setup, torch.from_numpy(theta))
        if valid.any():
            values[valid], gradients[valid] = self._functionals(theta[valid])
        return values, gradients

    def _functionals(self, theta: Array) -> tuple[Array, Array]:
        designs = torch.from_numpy(theta).to(next(self.surrogate.parameters()))
        try:
            values, gradients = self.surrogate.value_and_gradient(designs)
        except OutsideGridError:
            if len(theta) == 1:
                return no_answers(self.setup, theta)
            alone = [self._functionals(design[None]) for design in theta]  # the others do have an answer
            return np.concatenate([a[0] for a in alone]), np.concatenate([a[1] for a in alone])
        return values.cpu().double().numpy(), gradients.cpu().double().numpy()

    def fields(self, theta: ArrayLike | Tensor) -> Tensor:
        """(N, c) fields of one design (P,), float64 on the CPU."""
        theta = design_of(self.setup, theta)
        like = next(self.surrogate.parameters())
        with torch.no_grad():
            return self.surrogate.fields(theta.to(like)[None])[1][0].cpu().double()


class FemModel:
    """The finite-element solver with its adjoint, on the mapped mesh; counts its solves."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.solver = solver_of(setup.problem, setup.shape_map.mesh)
        self.solves: Counter[str] = Counter(forward=0, adjoint=0)

    def solve(self, theta: ArrayLike | Tensor) -> FemSolution | CaseSolution:
        """Solution at a design (P,)."""
        theta = design_of(self.setup, theta)
        self.solves["forward"] += max(1, len(self.setup.problem.cases))
        return self.setup.maps.solve(self.solver, theta)

    def value_and_gradient(self, theta: ArrayLike | Tensor) -> tuple[float, Tensor, FemSolution | CaseSolution]:
        """Objective, its gradient (P,) by the adjoint, and the solution."""
        theta = design_of(self.setup, theta)
        solution = self.solve(theta)
        name = self.setup.problem.objective.name
        return solution.values[name], self._gradient(theta, solution, name), solution

    def functionals(self, theta: ArrayLike | Tensor) -> tuple[Array, Array, FemSolution | CaseSolution]:
        """(J,) functionals of a design (P,), their (J, P) gradients by as many adjoints, and the solution."""
        theta = design_of(self.setup, theta)
        solution = self.solve(theta)
        names = [functional.name for functional in self.setup.problem.functionals]
        gradients = np.stack([self._gradient(theta, solution, name).numpy() for name in names])
        return np.array([solution.values[name] for name in names]), gradients, solution

    def _gradient(self, theta: Tensor, solution: FemSolution | CaseSolution, name: str) -> Tensor:
        before = solution.adjoints if isinstance(solution, CaseSolution) else 0
        gradient = self.setup.maps.gradient(theta, solution, name)
        self.solves["adjoint"] += solution.adjoints - before if isinstance(solution, CaseSolution) else 1
        return gradient

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`Model`."""
        theta = designs_of(self.setup, theta)
        values, gradients = no_answers(self.setup, theta)
        for index in np.flatnonzero(unfolded(self.setup, torch.from_numpy(theta))):
            try:
                values[index], gradients[index], _ = self.functionals(torch.from_numpy(theta[index]))
            except SolveError:
                continue
        return values, gradients

    @property
    def counts(self) -> Mapping[str, int]:
        """Solves so far by kind."""
        return dict(self.solves)


def design_of(setup: DesignSetup, theta: ArrayLike | Tensor) -> Tensor:
    """A design (P,) as a tensor.

    Raises:
        StudyError: not as many finite numbers as the study has parameters.
    """
    names = [parameter.name for parameter in setup.family.parameters]
    try:
        design = theta if isinstance(theta, Tensor) else torch.from_numpy(np.array(theta, dtype=np.float64))
    except (TypeError, ValueError):
        design = None
    if design is None or design.shape != (len(names),) or not design.isfinite().all():
        what = f"{theta!r:.200}" if design is not None else kind(theta)
        hint = "; write theta=best.theta" if hasattr(theta, "theta") else ""
        raise StudyError(f"theta: found {what}; expected {len(names)} finite numbers: {', '.join(names)}{hint}")
    return design


def designs_of(setup: DesignSetup, theta: ArrayLike) -> Array:
    """Designs (B, P) as an array, which may hold NaN.

    Raises:
        StudyError: of another shape.
    """
    count = len(setup.family.parameters)
    try:
        designs = np.asarray(theta, dtype=np.float64)
    except (TypeError, ValueError):
        raise StudyError(f"theta: found {kind(theta)}; expected designs (B, {count})") from None
    if designs.ndim != 2 or designs.shape[1] != count:
        one = "; write theta[None] for one design" if designs.shape == (count,) else ""
        raise StudyError(f"theta: found an array of shape {designs.shape}; expected designs (B, {count}){one}")
    return designs


def no_answers(setup: DesignSetup, theta: Array) -> tuple[Array, Array]:
    count = len(setup.problem.functionals)
    return np.full((len(theta), count), np.nan), np.full((len(theta), count, theta.shape[1]), np.nan)


def outside_box(setup: Setup, theta: Array, box: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """A message for each parameter of designs (B, P) that lies outside what a surrogate was trained on."""
    messages = {}
    for parameter, values in zip(setup.family.parameters, theta.T, strict=True):
        lower, upper = box.get(parameter.name, (-np.inf, np.inf))
        margin = 1e-9 * (parameter.upper - parameter.lower)
        outside = values[(values < lower - margin) | (values > upper + margin)]
        if len(outside):
            messages[parameter.name] = _outside(parameter.name, outside[0], lower, upper)
    for name, value in setup.study.model.geometry.fixed.items():
        lower, upper = box.get(name, (-np.inf, np.inf))
        if not lower <= value <= upper:
            messages[name] = _outside(name, value, lower, upper)
    return messages


def _outside(name: str, value: float, lower: float, upper: float) -> str:
    return f"{name} = {value:.6g} is outside [{lower:g}, {upper:g}], what the surrogate was trained on"


def unfolded(setup: DesignSetup, theta: Tensor) -> NDArray[np.bool_]:
    """(B,) whether the map of each design (B, P) keeps every cell the right way round."""
    nodes = setup.shape_map.nodes(theta)
    return (bernstein_jacobians(setup.shape_map.mesh, nodes).flatten(1).amin(1) > 0).numpy()
