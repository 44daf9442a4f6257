"""The starts of a search by finite elements alone, each a task of an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.studies.optimize.optimizer import Iterate, Optimum, Search, best_of, optimize, start_designs
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.engines import Engine, WorkerLostError
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.study import StudyModel

Found = tuple[Search, dict[str, int]]
"""The search from one start, and its finite-element solves by kind."""


def search_in_worker(study: Study[StudyModel], index: int, start: NDArray[np.float64]) -> Found:
    """Search from one start (P,), as a search from all starts does."""
    setup = replace(build_setup(study), initial=torch.from_numpy(start))
    model = FemModel(setup)
    alone = study.model.optimizer.model_copy(update={"starts": 1})
    search = optimize(setup, model, alone).best
    history = tuple(replace(iterate, start=index) for iterate in search.history)
    return replace(search, start=index, history=history), dict(model.counts)


def optimize_on_engine(
    setup: Setup, folder: Path, report: Callable[[Iterate], None] = lambda iterate: None
) -> tuple[Optimum, dict[str, int]]:
    """:func:`optimizer.optimize` by finite elements, on the study's engine; a lost worker's start is repeated.

    Returns:
        what was found, and the finite-element solves of all searches by kind.

    Raises:
        StudyError: the engine cannot be opened.
        WorkerLostError: workers are lost before any of them has ended a search.
    """
    config = setup.study.model.optimizer
    starts = dict(enumerate(start_designs(setup, config.starts, config.seed)))
    found: dict[int, Found] = {}
    with Engine(setup.study, folder) as engine:
        while len(found) < len(starts):
            before = len(found)
            try:
                for index, result in _results(engine, {i: s for i, s in starts.items() if i not in found}):
                    found[index] = result
                    for iterate in result[0].history[-1:]:
                        report(iterate)
            except WorkerLostError:
                if len(found) == before:
                    raise
                engine.reopen()
    searches = [found[index][0] for index in sorted(found)]
    solves: Counter[str] = Counter(forward=0, adjoint=0)
    for _, counts in found.values():
        solves.update(counts)
    return best_of(setup, searches), dict(solves)


def _results(engine: Engine, starts: dict[int, NDArray[np.float64]]) -> Iterator[tuple[int, Found]]:
    futures: dict[Future[Found], int] = {}
    try:
        tasks = ((search_in_worker, engine.study, index, start) for index, start in starts.items())
        for index, future in zip(starts, engine.submit(tasks), strict=True):
            futures[future] = index
        for future, result in engine.results(futures):
            yield futures[future], result
    finally:
        for future in futures:
            future.cancel()
