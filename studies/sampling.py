"""Finite-element solutions of quasi-random designs, with tangents and adjoint gradients; each its own file."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor

from geometries.files import written_whole
from geometries.quantities import jacobian, valid_designs
from solvers.errors import SolveError
from solvers.fem import FemSolution, FemSolver
from studies.loader import Study
from studies.setup import Setup, build_setup
from surrogate.dataset import Dataset, read_arrays

LEAST_JACOBIAN = 0.05
"""Designs whose map is closer to folding than this are not sampled."""


LEAST_VALID = 1e-3
"""Share of valid shapes among the designs drawn below which no more are."""

ENOUGH_DRAWN = 20_000
"""Designs by which that share is told."""


class SamplingError(RuntimeError):
    """Designs cannot be drawn or solved."""


@dataclass(frozen=True)
class Sample:
    """One solved design: theta (P,), nodal fields (N, c), functionals (J,), gradients (J, P), tangents (T, ...)."""

    theta: NDArray[np.float64]
    solution: NDArray[np.float32]
    values: NDArray[np.float64]
    gradients: NDArray[np.float64]
    directions: NDArray[np.float64]
    tangents: NDArray[np.float32]


def draw_designs(setup: Setup, count: int, seed: int) -> Tensor:
    """(count, P) Sobol designs in the parameter box that are valid shapes.

    Raises:
        SamplingError: fewer than one design in a thousand is valid, told by the first 20,000.
    """
    bounds = setup.family.bounds
    sobol = qmc.Sobol(len(bounds), seed=seed)
    found: list[Tensor] = []
    drawn = 0
    while sum(map(len, found)) < count:
        if drawn >= ENOUGH_DRAWN and sum(map(len, found)) < LEAST_VALID * drawn:
            raise SamplingError(
                f"{setup.study.place('geometry.bounds')}: geometry.bounds: only {sum(map(len, found))} of {drawn}"
                f" designs drawn within the bounds are valid shapes; expected {LEAST_VALID:.1%} of them at least:"
                " narrow geometry.bounds, or the options of the family that set its own bounds"
            )
        unit = torch.from_numpy(sobol.random(64))
        drawn += len(unit)
        theta = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * unit
        theta = theta[jacobian(setup.shape_map, theta) > LEAST_JACOBIAN]
        found.append(theta[torch.from_numpy(valid_designs(setup.shape_map, theta))])
    return torch.cat(found)[:count]


def random_directions(setup: Setup, count: int, tangents: int, seed: int) -> Tensor:
    """(count, T, P) design directions of unit length in parameters scaled to their bounds.

    They are isotropic, or single parameters drawn for each design, without repetition as long as there are any left:
    ``sampling.directions`` of the study says which.
    """
    generator = torch.Generator().manual_seed(seed)
    bounds = setup.family.bounds
    if setup.study.model.sampling.directions == "axes":
        ranks = torch.rand(count, len(bounds), generator=generator).argsort(-1)
        order = ranks[:, torch.arange(tangents) % len(bounds)]
        direction = torch.nn.functional.one_hot(order, len(bounds)).to(bounds)
    else:
        direction = torch.randn(count, tangents, len(bounds), generator=generator, dtype=torch.float64)
        direction = direction / direction.norm(dim=-1, keepdim=True)
    return direction * (bounds[:, 1] - bounds[:, 0])


def stack_fields(solution: FemSolution, setup: Setup) -> NDArray[np.float64]:
    """(N, c) nodal fields of a solution in the order of the physics' components."""
    return np.concatenate([solution.fields[field.name] for field in setup.problem.physics.fields], -1)


def solve_design(setup: Setup, solver: FemSolver, theta: Tensor, directions: Tensor) -> Sample:
    """Solve one design (P,), with the gradients of all functionals and the tangents along directions (T, P)."""
    solution = solver.solve(setup.shape_map.nodes(theta).numpy())
    names = [functional.name for functional in setup.problem.functionals]
    gradients = [setup.shape_map.pull_back(theta, torch.from_numpy(solution.gradient(name))) for name in names]
    shape = (0, *stack_fields(solution, setup).shape)
    tangents = np.zeros(shape, np.float32)
    if len(directions):
        moved = [solution.tangent(setup.shape_map.velocity(theta, d).numpy()) for d in directions]
        fields = setup.problem.physics.fields
        tangents = np.stack([np.concatenate([m.fields[f.name] for f in fields], -1) for m in moved]).astype(np.float32)
    return Sample(
        theta.numpy(),
        stack_fields(solution, setup).astype(np.float32),
        np.array([solution.values[name] for name in names]),
        torch.stack(gradients).numpy(),
        directions.numpy(),
        tangents,
    )


def _solve_in_worker(study: Study, theta: NDArray[np.float64], directions: NDArray[np.float64]) -> Sample:
    with _ONE_AT_A_TIME:
        setup, solver = _cached(study)
        return solve_design(setup, solver, torch.from_numpy(theta), torch.from_numpy(directions))


_ONE_AT_A_TIME = threading.Lock()  # threads of an executor share the solver below, and gmsh, which bear one
_CACHE: dict[tuple[Path, str], tuple[Setup, FemSolver]] = {}  # of a worker: the study it works on


def _cached(study: Study) -> tuple[Setup, FemSolver]:
    key = study.path, study.model.model_dump_json()
    if key not in _CACHE:
        _CACHE.clear()
        setup = build_setup(study)
        _CACHE[key] = setup, FemSolver(setup.problem, setup.shape_map.mesh)
    return _CACHE[key]


def local_executor(workers: int) -> ProcessPoolExecutor:
    """Processes on this machine, one thread each: two threads a process only get in each other's way."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker)


def _prepare_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """A worker whose parent was killed would wait for ever for work."""
    wait([sentinel])
    os._exit(1)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """For what is started here: Ctrl-C reaches the whole process group, and only the parent answers it."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def solve_designs(
    study: Study,
    theta: Tensor,
    directions: Tensor,
    folder: Path,
    executor: Executor,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Solve designs (S, P), in any ``concurrent.futures.Executor``; those whose file is there are not solved again.

    Raises:
        SamplingError: names the design that could not be solved; the others stay on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index:06d}.npz" for index in range(len(theta))]
    left = (_load(*entry) for entry in zip(files, theta.numpy(), directions.numpy(), strict=True))
    samples = {index: found for index, found in enumerate(left) if found is not None}
    report(len(samples), len(theta))
    futures: dict[Future[Sample], int] = {}
    try:
        with _interrupts_ignored():
            for index in range(len(theta)):
                if index not in samples:
                    design = theta[index].numpy(), directions[index].numpy()
                    futures[executor.submit(_solve_in_worker, study, *design)] = index
        for future in as_completed(futures):
            index = futures[future]
            samples[index] = _result(future, index, theta[index])
            _save(files[index], samples[index])
            report(len(samples), len(theta))
    except BrokenExecutor as error:
        raise SamplingError(
            f"a worker process ended before its time ({error}); if memory ran out, lower sampling.workers"
        ) from error
    finally:
        for future in futures:
            future.cancel()
    return _collect([samples[index] for index in range(len(theta))])


def _result(future: Future[Sample], index: int, theta: Tensor) -> Sample:
    try:
        return future.result()
    except SolveError as error:
        design = ", ".join(f"{value:.6g}" for value in theta.tolist())
        raise SamplingError(f"design {index} ({design}) cannot be solved: {error}") from error


def _save(path: Path, sample: Sample) -> None:
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, **vars(sample))


def _load(path: Path, theta: NDArray[np.float64], directions: NDArray[np.float64]) -> Sample | None:
    """The sample in a file; None where there is none, not a whole one, or one of another design."""
    arrays = read_arrays(path)
    if arrays is None or arrays.keys() != {field.name for field in fields(Sample)}:
        return None
    sample = Sample(**arrays)
    asked = np.array_equal(sample.theta, theta) and np.array_equal(sample.directions, directions)
    shapes = (sample.gradients.shape, sample.tangents.shape)
    expected = ((*sample.values.shape, len(theta)), (len(directions), *sample.solution.shape))
    numbers = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays.values())
    return sample if asked and numbers and shapes == expected else None


def _collect(samples: Sequence[Sample]) -> Dataset:
    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    return Dataset(*(stacked(name) for name in ("theta", "solution", "values", "gradients", "directions", "tangents")))
