"""Promise: starts of a search that are tasks of an engine find what a search from all of them finds."""

from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.problem.models import FemModel
from shapewright.studies.run import engines
from shapewright.studies.run.engines import WorkerLostError
from shapewright.studies.run.multistart import optimize_on_engine
from tests.studies.study_cases import InlineExecutor, setup_of, tiny_run

BY_FEM = ("optimizer.on=fem", "optimizer.starts=3", "optimizer.max_iterations=8", "engine={name: processes}")


class Losing(InlineExecutor):
    """Its first task and all others of its kind end with a lost worker, or only the second."""

    lost = ()

    def submit(self, function, /, *arguments):
        future = super().submit(function, *arguments)
        if self.submitted in self.lost:
            future = type(future)()
            future.set_exception(BrokenProcessPool("terminated abruptly"))
        return future


@pytest.fixture(scope="module")
def expected():
    setup = setup_of(*BY_FEM)
    model = FemModel(setup)
    return optimize(setup, model, setup.study.model.optimizer), dict(model.counts)


@pytest.mark.parametrize("lost", [(), (2,)])
def test_every_start_finds_the_same_as_in_one_process(expected, tmp_path, monkeypatch, lost):
    monkeypatch.setattr(Losing, "lost", lost)
    opened = []

    def executor(workers):
        opened.append(Losing())
        if len(opened) > 1:
            opened[-1].lost = ()
        return opened[-1]

    monkeypatch.setattr(engines, "local_executor", executor)
    reported = []
    found, solves = optimize_on_engine(setup_of(*BY_FEM), tmp_path, lambda iterate: reported.append(iterate.start))
    for one, other in zip(found.searches, expected[0].searches, strict=True):
        np.testing.assert_allclose(one.theta, other.theta, rtol=1e-9)
        assert (one.start, one.reason) == (other.start, other.reason)
        assert [i.start for i in one.history] == [one.start] * len(other.history)
    assert found.best.start == expected[0].best.start
    assert solves == expected[1]
    assert sorted(reported) == [0, 1, 2]
    assert len(opened) == 1 + len(lost)


def test_workers_that_are_all_lost_end_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(Losing, "lost", (1, 2, 3))
    monkeypatch.setattr(engines, "local_executor", lambda workers: Losing())
    with pytest.raises(WorkerLostError, match="a worker process ended before its time"):
        optimize_on_engine(setup_of(*BY_FEM), tmp_path)


def test_the_pipeline_searches_on_the_engine_where_one_is_named(expected, tmp_path, monkeypatch):
    from shapewright.studies.run.pipeline import find_optimum

    executors = []
    monkeypatch.setattr(engines, "local_executor", lambda workers: executors.append(InlineExecutor()) or executors[-1])
    found = find_optimum(tiny_run(tmp_path, *BY_FEM))
    assert executors[0].submitted == 3
    np.testing.assert_allclose(found.theta.numpy(), expected[0].best.theta, rtol=1e-9)
    assert found.fem_solves == expected[1]
