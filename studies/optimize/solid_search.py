"""The optimum of a solid on one mesh: a trust region on the reduced basis of its solutions, or SLSQP on solutions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.files import written_whole
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.load_cases import CaseSolution, fields_of, solver_of, tangents_of
from shapewright.solvers.fem.solver import FemSolution
from shapewright.solvers.reduced.basis import ReducedSolver
from shapewright.studies.optimize.correction import Array
from shapewright.studies.optimize.optimizer import Iterate, Search, search_from
from shapewright.studies.optimize.trust_region import Region, Step, minimize_by_trust_region, restore
from shapewright.studies.optimize.trust_region_search import (
    SAME,
    iterate_of,
    quantities_at,
    scaling_at,
    trust_region_problem,
)
from shapewright.studies.problem.constraints import worst_violation
from shapewright.studies.problem.models import designs_of, no_answers, unfolded
from shapewright.studies.problem.solid_setup import SolidSetup
from shapewright.studies.schema.study import Optimizer
from shapewright.surrogate.training.dataset import read_arrays

TANGENTS = 24
"""Directions, at most, along which the solutions are differentiated for the basis; all parameters where they are no
more. Beyond that random ones, after the gradients of the functionals."""
NOISE = 1e-9
"""Of finite-element values, whose linear systems may be solved by iteration."""
AT_START = 128
"""The same for the first design, about which nothing else is known."""
INNER_TOLERANCE, INNER_ITERATIONS = 1e-7, 80
"""Of the search of a step on the reduced basis: it costs a tenth of a solution, and has a hundred parameters."""
STEP = 0.25
"""Share of the bounds by which tangents are scaled: a typical step, so that modes count by what they contribute."""


@dataclass(frozen=True)
class Solved:
    """A design solved by finite elements.

    Attributes:
        values: (1, J) functionals.
        gradients: (1, J, P) by the adjoint.
        snapshots: (S, N, c) fields of each case, then scaled tangents.
    """

    values: Tensor
    gradients: Tensor
    snapshots: Array


class Arrays(TypedDict):
    """What the file of a solution holds."""

    theta: Array
    values: Array
    gradients: Array
    snapshots: NDArray[np.float32]
    linear_solver: NDArray[np.str_]


class SolidStore:
    """Finite-element solutions on demand, with adjoint gradients and tangents; each its own file, solved once.

    Args:
        setup: study on one mesh.
        folder: of the files; what lies there is not solved again, but counted.
        tangents: whether tangents are recorded.
    """

    def __init__(self, setup: SolidSetup, folder: Path, tangents: bool = True) -> None:
        self.setup, self.folder = setup, folder
        self.solves: Counter[str] = Counter(forward=0, adjoint=0, tangent=0)
        self.solved: dict[bytes, Solved | None] = {}
        """By design, in the order of the solves; None where there is no answer."""
        self.linear_solver = ""
        self._tangents = tangents
        self._solver = solver_of(setup.problem, setup.shape_map.mesh)

    def __call__(self, theta: Array) -> Solved | None:
        """The solution at a design (P,); None where there is no answer."""
        lower, upper = self.setup.family.bounds.numpy().T
        key = np.round((theta - lower) / (upper - lower) / SAME).astype(np.int64).tobytes()
        if key not in self.solved:
            self.solved[key] = self._solve(np.array(theta), self._file(key))
        return self.solved[key]

    def snapshots(self) -> list[Array]:
        """Of each design solved so far, (S, N, c)."""
        return [found.snapshots for found in self.solved.values() if found is not None]

    @property
    def files(self) -> list[Path]:
        """Those of the solutions asked for, in their order."""
        return [self._file(key) for key, found in self.solved.items() if found is not None]

    def _file(self, key: bytes) -> Path:
        return self.folder / f"{hashlib.sha256(key).hexdigest()[:16]}.npz"

    def _solve(self, theta: Array, file: Path) -> Solved | None:
        design = torch.from_numpy(theta)
        if not unfolded(self.setup, design[None])[0]:
            return None
        arrays = self._left(file, theta) or self._made(design, file)
        if arrays is None:
            return None
        self.linear_solver = str(arrays["linear_solver"])
        cases = max(1, len(self.setup.problem.cases))
        self.solves.update(forward=1, adjoint=cases, tangent=(len(arrays["snapshots"]) - cases) // cases)
        values, gradients = (torch.from_numpy(part)[None] for part in (arrays["values"], arrays["gradients"]))
        return Solved(values, gradients, arrays["snapshots"].astype(np.float64))

    def _made(self, design: Tensor, file: Path) -> Arrays | None:
        setup = self.setup
        try:
            solution = self._solver.solve(setup.shape_map.nodes(design).numpy())
            names = [functional.name for functional in setup.problem.functionals]
            gradients = torch.stack(
                [setup.shape_map.pull_back(design, torch.from_numpy(solution.gradient(name))) for name in names]
            )
        except SolveError:
            return None
        arrays: Arrays = {
            "theta": design.numpy(),
            "values": np.array([solution.values[name] for name in names]),
            "gradients": gradients.numpy(),
            # single precision, so that a run that is resumed goes on from the same numbers
            "snapshots": self._snapshots(design, solution, gradients).astype(np.float32),
            "linear_solver": np.array(_method(solution)),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part, part.open("wb") as open_file:
            np.savez(open_file, **arrays)
        return arrays

    def _snapshots(self, design: Tensor, solution: FemSolution | CaseSolution, gradients: Tensor) -> Array:
        """(S, N, c) fields of each case, then their tangents along some directions, times a typical step."""
        name = self.setup.problem.physics.fields[0].name
        found = [fields[name] for fields in fields_of(solution)]
        if self._tangents:
            velocities = [self.setup.shape_map.velocity(design, d).numpy() for d in self._directions(gradients)]
            found += [one.fields[name] for case in tangents_of(solution, velocities) for one in case]
        return np.stack(found)

    def _directions(self, gradients: Tensor) -> Tensor:
        """(T, P) design directions, a typical step long."""
        bounds = self.setup.family.bounds
        span, count = bounds[:, 1] - bounds[:, 0], len(bounds)
        if count <= (TANGENTS if self.solved else AT_START):
            return STEP * torch.diag(span)
        generator = torch.Generator().manual_seed(len(self.solved))
        drawn = torch.randn(TANGENTS, count, generator=generator, dtype=torch.float64)
        steep = gradients * span
        drawn[: len(steep)] = steep[:TANGENTS]
        return STEP * np.sqrt(count / 3) * drawn / drawn.norm(dim=-1, keepdim=True).clamp_min(1e-300) * span

    def _left(self, file: Path, theta: Array) -> Arrays | None:
        """What an earlier run left of a design; None where there is no whole solution of it."""
        arrays = read_arrays(file)
        names = {"theta", "values", "gradients", "snapshots", "linear_solver"}
        if arrays is None or arrays.keys() != names or arrays["theta"].shape != theta.shape:
            return None
        span = (self.setup.family.bounds[:, 1] - self.setup.family.bounds[:, 0]).numpy()
        near = bool((np.abs(arrays["theta"] - theta) <= 2 * SAME * span).all())
        fits = arrays["snapshots"].shape[1:2] == (len(self.setup.shape_map.mesh.nodes),)
        return cast(Arrays, arrays) if near and fits and np.isfinite(arrays["values"]).all() else None


def _method(solution: FemSolution | CaseSolution) -> str:
    first = solution if isinstance(solution, FemSolution) else next(iter(solution.cases.values()))
    return first.linear_solver


class ReducedModel:
    """All functionals of a study in the span of its solutions so far; see :class:`models.Model`."""

    def __init__(self, setup: SolidSetup, store: SolidStore) -> None:
        self.setup, self._store = setup, store
        self._solver = ReducedSolver(setup.problem, setup.shape_map.mesh)
        self._taken = 0
        self.evaluations = 0

    @property
    def solutions(self) -> Callable[[], Sequence[Array]]:
        """Snapshots by design, by which the trust region knows that this model learns."""
        return self._store.snapshots

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        self._learn()
        theta = designs_of(self.setup, theta)
        values, gradients = no_answers(self.setup, theta)
        for index in np.flatnonzero(unfolded(self.setup, torch.from_numpy(theta))):
            values[index], gradients[index] = self._functionals(torch.from_numpy(theta[index]))
        return values, gradients

    def _learn(self) -> None:
        found = self._store.snapshots()
        for snapshots in found[self._taken :]:
            self._solver.add(list(snapshots))
        self._taken = len(found)

    def _functionals(self, theta: Tensor) -> tuple[Array, Array]:
        self.evaluations += 1
        shape_map, names = self.setup.shape_map, [f.name for f in self.setup.problem.functionals]
        solution = self._solver.solve(shape_map.nodes(theta).numpy())
        gradients = [shape_map.pull_back(theta, torch.from_numpy(solution.gradient(name))).numpy() for name in names]
        return np.array([solution.values[name] for name in names]), np.stack(gradients)


def search_on_mesh(
    setup: SolidSetup, store: SolidStore, start: Array, report: Callable[[Iterate], None] = lambda iterate: None
) -> Search:
    """The optimum on the mesh of the setup from a start design (P,), by what the study's optimizer says."""
    config = setup.study.model.optimizer
    if config.model == "fem":
        return _by_finite_elements(setup, store, start, report)
    unit = scaling_at(setup, None)
    start = unit.theta(restore(trust_region_problem(setup, None, store, unit), unit.z(start)))
    solution = store(start)
    scaling = scaling_at(setup, solution)
    problem = replace(
        trust_region_problem(setup, ReducedModel(setup, store), store, scaling),
        noise=NOISE, inner_tolerance=INNER_TOLERANCE, inner_iterations=INNER_ITERATIONS,
    )  # fmt: skip
    region = Region(config.radius, config.least_radius, tolerance=config.kkt_tolerance, budget=config.max_solves)
    history: list[Iterate] = []

    def record(step: Step) -> None:
        if np.isfinite(step.values).all():
            history.append(iterate_of(setup, scaling, 0, len(history), step, store))
            report(history[-1])

    found = minimize_by_trust_region(problem, scaling.z(start), region, record)
    theta = scaling.theta(found.centre.z)
    violation = worst_violation(setup, quantities_at(setup, theta, store))
    objective = setup.sign * scaling.objective * float(found.centre.values[0])
    return Search(0, theta, objective, violation, found.reason, tuple(history))


class _Stored:
    """The solutions of a store as a model; see :class:`models.Model`."""

    def __init__(self, setup: SolidSetup, store: SolidStore) -> None:
        self._setup, self._store = setup, store

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        values, gradients = no_answers(self._setup, theta)
        for index, design in enumerate(theta):
            found = self._store(design)
            if found is not None:
                values[index], gradients[index] = found.values[0].numpy(), found.gradients[0].numpy()
        return values, gradients


def _by_finite_elements(
    setup: SolidSetup, store: SolidStore, start: Array, report: Callable[[Iterate], None]
) -> Search:
    """SLSQP with a finite-element solution at every design that it asks for."""
    config = setup.study.model.optimizer
    asked = Optimizer(
        on="fem", method="slsqp", starts=1, max_iterations=config.max_iterations, tolerance=config.tolerance,
        kkt_tolerance=config.kkt_tolerance,
    )  # fmt: skip
    return search_from(setup, start[None], _Stored(setup, store), asked, report).best
