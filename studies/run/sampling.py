"""Finite-element solutions of quasi-random designs, with tangents and adjoint gradients; each its own file."""

from __future__ import annotations

import hashlib
import io
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.files import written_whole
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.studies.problem.samples import Sample, SamplingError, random_directions, solve_design
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.engines import Engine, WorkerLostError
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.study import StudyModel
from shapewright.surrogate.training.dataset import Dataset, read_arrays

Report = Callable[[int, int], None]
"""Called with the number of designs that are solved, and of all."""
DIGEST = "sha256"
"""Array of a sample's file that tells whether the others are as they were written."""


def silent(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Work:
    """Designs that one task solves: their indices in the data set, theta (K, P), directions (K, T, P)."""

    indices: Sequence[int]
    theta: NDArray[np.float64]
    directions: NDArray[np.float64]


@dataclass(frozen=True)
class Solved:
    """One design of a task: the sample with what its file holds, or why it cannot be solved."""

    index: int
    sample: Sample | None = None
    content: bytes = b""
    error: str = ""


def solve_in_worker(study: Study[StudyModel], work: Work) -> list[Solved]:
    """Work of a worker that returns its samples."""
    return list(_solve(study, work))


def solve_into_files(study: Study[StudyModel], work: Work, folder: Path) -> list[Solved]:
    """What a worker does that shares the folder of samples: each is a file there as soon as it is solved.

    Returns:
        the designs that cannot be solved.
    """
    failed = []
    for solved in _solve(study, work):
        if solved.sample is None:
            failed.append(solved)
        else:
            path = _file(folder, solved.index)
            part = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.part")  # others may be at it
            part.write_bytes(solved.content)
            part.replace(path)
    return failed


def make_ready(study: Study[StudyModel]) -> None:
    """What a worker may do before there is work: all that is done once for a study."""
    with _ONE_AT_A_TIME, suppress(SolveError):
        setup, solver = _cached(study)
        theta = setup.family.default
        solve_design(setup, solver, theta, random_directions(setup, 1, 1, 0)[0].to(theta))


def _solve(study: Study[StudyModel], work: Work) -> Iterator[Solved]:
    for index, theta, directions in zip(work.indices, work.theta, work.directions, strict=True):
        with _ONE_AT_A_TIME:
            setup, solver = _cached(study)
            try:
                sample = solve_design(setup, solver, torch.from_numpy(theta), torch.from_numpy(directions))
            except SolveError as error:
                yield Solved(index, error=str(error))
                continue
        yield Solved(index, sample, _content(sample))


_ONE_AT_A_TIME = threading.Lock()  # threads of an executor share the solver below, and gmsh, which allow one
_CACHE: dict[tuple[Path, str], tuple[Setup, FemSolver]] = {}  # of a worker: the study it works on


def _cached(study: Study[StudyModel]) -> tuple[Setup, FemSolver]:
    key = study.path, study.model.model_dump_json()
    if key not in _CACHE:
        _CACHE.clear()
        setup = build_setup(study)
        _CACHE[key] = setup, FemSolver(setup.problem, setup.shape_map.mesh)
    return _CACHE[key]


class Designs(NamedTuple):
    """Designs to solve: theta (S, P), and the directions (S, T, P) of their tangents."""

    theta: Tensor
    directions: Tensor


def sample_designs(engine: Engine, designs: Designs, folder: Path, report: Report = silent) -> Dataset:
    """Solve designs on an engine, which is opened again where workers are lost; a design with a file is left alone.

    Raises:
        SamplingError: names the design that could not be solved; the others stay on disk. Also where workers are lost
            before any of them has solved a design.
    """
    while True:
        before = _count(folder)
        try:
            return _solve_all(engine, designs, folder, report)
        except WorkerLostError:
            if _count(folder) == before:
                raise
            engine.reopen()


def solve_designs(
    study: Study[StudyModel], designs: Designs, folder: Path, executor: Executor, report: Report = silent
) -> Dataset:
    """:func:`sample_designs` in any ``concurrent.futures.Executor``, which stays open."""
    return _solve_all(Engine(study, folder, executor), designs, folder, report)


def _solve_all(engine: Engine, designs: Designs, folder: Path, report: Report) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    theta, directions = (part.numpy() for part in designs)
    load = partial(_load, folder, theta, directions)
    samples = {index: found for index in range(len(theta)) if (found := load(index)) is not None}
    report(len(samples), len(theta))
    missing = [index for index in range(len(theta)) if index not in samples]
    size = 1 if engine.tasks is None else max(1, math.ceil(len(missing) / engine.tasks))
    futures: list[Future[list[Solved]]] = []
    try:
        function, shared = (solve_in_worker, ()) if engine.tasks is None else (solve_into_files, (folder,))
        parts = [missing[start : start + size] for start in range(0, len(missing), size)]
        works = (Work(own, theta[own], directions[own]) for own in parts)
        futures.extend(engine.submit((function, engine.study, work, *shared) for work in works) if parts else ())
        collect = _collect if engine.tasks is None else _follow
        for solved in collect(engine, futures, folder, missing, load):
            if solved.sample is None:
                values = ", ".join(f"{value:.6g}" for value in theta[solved.index].tolist())
                raise SamplingError(f"design {solved.index} ({values}) cannot be solved: {solved.error}")
            samples[solved.index] = solved.sample
            report(len(samples), len(theta))
    finally:
        for future in futures:
            future.cancel()
    return _stacked([samples[index] for index in range(len(theta))])


def _collect(
    engine: Engine,
    futures: Sequence[Future[list[Solved]]],
    folder: Path,
    missing: Sequence[int],
    load: Callable[[int], Sample | None],
) -> Iterator[Solved]:
    """Samples that workers return, each written to its file."""
    for _, results in engine.results(futures):
        for solved in results:
            if solved.sample is not None:
                with written_whole(_file(folder, solved.index)) as part:
                    part.write_bytes(solved.content)
            yield solved


def _follow(
    engine: Engine,
    futures: Sequence[Future[list[Solved]]],
    folder: Path,
    missing: Sequence[int],
    load: Callable[[int], Sample | None],
) -> Iterator[Solved]:
    """What workers write into the folder, as it comes; then what they could not solve."""
    open_, waiting = set(futures), set(missing)
    while True:
        _, open_ = wait(open_, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for index in sorted(waiting):
            sample = load(index)
            if sample is not None:
                waiting.remove(index)
                yield Solved(index, sample)
        if not open_:
            break
    for part in folder.glob("*.part"):  # of jobs that were killed
        part.unlink(missing_ok=True)
    results = [solved for future in futures for solved in engine.result(future)]
    yield from results
    if waiting - {solved.index for solved in results}:
        raise WorkerLostError(f"{folder}: {len(waiting)} samples that jobs have solved are not here; is it shared?")


LOOK_SECONDS = 1.0
"""Seconds between queries of the folder for samples that others write."""


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.npz"


def _count(folder: Path) -> int:
    return len(list(folder.glob("[0-9]*.npz")))


def _content(sample: Sample) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**vars(sample), DIGEST: _digest(vars(sample))}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _digest(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """(32,) SHA-256 of arrays and their names."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return np.frombuffer(total.digest(), dtype=np.uint8)


def _load(
    folder: Path, designs: NDArray[np.float64], their_directions: NDArray[np.float64], index: int
) -> Sample | None:
    """The sample of one of the designs; None without a file, or of another design, or not as it was written."""
    arrays, theta, directions = read_arrays(_file(folder, index)), designs[index], their_directions[index]
    digest = None if arrays is None else arrays.pop(DIGEST, None)  # files of earlier versions have none
    if arrays is None or arrays.keys() != {field.name for field in fields(Sample)}:
        return None
    if digest is not None and not np.array_equal(digest, _digest(arrays)):
        return None
    sample = Sample(**arrays)
    # directions are drawn anew where there are more designs; any serve, with the tangents along them
    asked = np.array_equal(sample.theta, theta) and sample.directions.shape == directions.shape
    shapes = (sample.gradients.shape, sample.tangents.shape)
    expected = ((*sample.values.shape, len(theta)), (len(directions), *sample.solution.shape))
    numbers = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays.values())
    return sample if asked and numbers and shapes == expected else None


def _stacked(samples: Sequence[Sample]) -> Dataset:
    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    return Dataset(*(stacked(name) for name in ("theta", "solution", "values", "gradients", "directions", "tangents")))
