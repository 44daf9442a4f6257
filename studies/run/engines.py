"""Where designs are solved: processes of this machine, or a cluster by Dask, Slurm or MPI.

Each engine is an executor of the standard library's kind, made by the library that runs the cluster.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar, get_args

import torch

from shapewright.studies.problem.samples import SamplingError
from shapewright.studies.run.remote import packed
from shapewright.studies.schema import study as schema
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.study import StudyModel

NAMES = get_args(schema.Engine.model_fields["name"].annotation)
CONNECT_SECONDS = 10.0
"""Time within which a scheduler answers and has a worker."""
POLL_SECONDS = 0.5
"""Time between queries of the jobs' states; submitit asks Slurm itself less often."""


T = TypeVar("T")


class WorkerLostError(SamplingError):
    """Workers ended before their time; what they had solved is on disk."""


class Engine:
    """The engine that a study names, while it is open.

    Attributes:
        executor: takes the work.
        tasks: largest number of tasks that work is divided into, whose workers share the folders of this machine;
            None where any number of small tasks is welcome.

    Raises:
        StudyError: on entering; what is missing, and what to do about it.
    """

    executor: Executor
    tasks: int | None

    def __init__(self, study: Study[StudyModel], folder: Path, executor: Executor | None = None) -> None:
        self.study, self.folder = study, folder
        if executor is not None:  # of the caller's own, without opening this
            self.executor = executor
        self.config: schema.Engine = study.model.engine or schema.Engine()
        self.tasks = self.config.jobs if self.config.name == "slurm" else None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.executor = self._stack.enter_context(_OPENERS[self.config.name](self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def reopen(self) -> None:
        """Close what is left of the engine, and open another one."""
        self.__exit__(None, None, None)
        self.__enter__()

    def prepare(self, function: Callable[..., Any], *arguments: Any) -> list[Future[Any]]:
        """Start a call that prepares every worker process of this machine, without waiting for it."""
        if not isinstance(self.executor, ProcessPoolExecutor):
            return []
        with interrupts_ignored():
            return [self.executor.submit(function, *arguments) for _ in range(self.study.model.sampling.workers)]

    def error(self, key: str, found: str, expected: str) -> StudyError:
        """Error about a key of the study's engine section."""
        return self.study.error(f"engine.{key}", found, expected)

    def submit(self, tasks: Iterable[tuple[Any, ...]]) -> Iterator[Future[Any]]:
        """Futures of calls (function, *arguments), in their order.

        Raises:
            WorkerLostError: workers were lost before.
        """
        try:
            with interrupts_ignored(), getattr(self.executor, "batch", nullcontext)():
                for task in tasks:  # Dask's scheduler would import, and be deaf for, all that a task needs
                    yield self.executor.submit(*(packed(*task) if self.config.name == "dask" else task))
        except BrokenExecutor as error:
            raise WorkerLostError(self._lost(error)) from error
        if isinstance(self.executor, JobExecutor):
            self.executor.follow()

    def results(self, futures: Iterable[Future[T]]) -> Iterator[tuple[Future[T], T]]:
        """Tasks as they end, with their results; lost workers are reported when the other tasks have ended.

        Raises:
            WorkerLostError: some workers were lost; no result of another one is lost with them.
        """
        lost: WorkerLostError | None = None
        for future in as_completed(futures):
            try:
                result = self.result(future)
            except WorkerLostError as error:
                lost = error
            else:
                yield future, result
        if lost is not None:
            raise lost

    def result(self, future: Future[T]) -> T:
        """Result of a task.

        Raises:
            WorkerLostError: its worker was lost, as opposed to work that cannot be done.
        """
        try:
            return future.result()
        except Exception as error:
            said = self._lost(error)
            if said is None:
                raise
            raise WorkerLostError(said) from error

    def _lost(self, error: BaseException) -> str | None:
        if isinstance(error, BrokenExecutor):
            remedy = {"processes": "; if memory ran out, lower sampling.workers"}.get(self.config.name, "")
            return f"a worker process ended before its time ({error}){remedy}"
        if isinstance(error, CancelledError) or type(error).__module__.partition(".")[0] == "distributed":
            return f"the workers of the engine {self.config.name} are gone ({error or type(error).__name__})"
        return None


def engine_overrides(text: str | None) -> list[str]:
    """``NAME`` or ``NAME:ADDRESS`` of the command line as overrides of a study; what else it says of it stays.

    Raises:
        StudyError: there is no engine of that name.
    """
    if text is None:
        return []
    name, _, address = text.partition(":")
    if name not in NAMES:
        raise StudyError(f"--engine: found '{name}'; expected one of {', '.join(NAMES)}, such as dask:tcp://host:8786")
    return [f"engine.name={name}", f"engine.address={json.dumps(address or None)}"]


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """For what is started here: Ctrl-C reaches the whole process group, and only the parent answers it."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def local_executor(workers: int) -> ProcessPoolExecutor:
    """Processes on this machine, one thread each: two threads a process only get in each other's way.

    They are forked from a process that has imported what takes long and can be forked, so that this is done once.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    context = get_context("forkserver")
    context.set_forkserver_preload(["shapewright.studies.run.worker_imports"])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)


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


def _processes(engine: Engine) -> AbstractContextManager[Executor]:
    return local_executor(engine.study.model.sampling.workers)


@contextmanager
def _dask(engine: Engine) -> Iterator[Executor]:
    distributed = _library(engine, "distributed", "dask")
    address = engine.config.address
    assert address is not None  # the schema refuses dask without one
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    expected = "the address of a Dask scheduler that runs, such as tcp://host:8786"
    if address.endswith(".json") and not Path(address).is_file():  # a client would wait for it for ever
        raise engine.error("address", f"'{address}', where there is no file", expected)
    try:
        client = distributed.Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # a timeout is an OSError
        said = str(error).partition("\n")[0]
        raise engine.error("address", f"'{address}', where no scheduler answers ({said})", expected) from error
    try:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise engine.error(
                "address", f"'{address}', a scheduler without workers", f"one that has any (dask worker {address})"
            ) from error
        executor = client.get_executor()
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)
    finally:
        client.close()


@contextmanager
def _slurm(engine: Engine) -> Iterator[Executor]:
    submitit = _library(engine, "submitit", "slurm")
    cluster = engine.config.address or "slurm"
    try:
        jobs = submitit.AutoExecutor(folder=engine.folder / "jobs", cluster=cluster)
    except RuntimeError as error:
        expected = "dask, mpi or processes where there is no Slurm (sbatch), or address: local to try jobs without it"
        raise engine.error("name", "slurm", expected) from error
    try:
        jobs.update_parameters(name=engine.study.model.name, **engine.config.options)
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise engine.error("options", str(error).replace("\n", " "), "parameters that submitit knows") from error
    executor = JobExecutor(jobs)
    try:
        yield executor
    finally:
        executor.shutdown()


@contextmanager
def _mpi(engine: Engine) -> Iterator[Executor]:
    futures = _library(engine, "mpi4py.futures", "mpi")
    ranks = importlib.import_module("mpi4py.MPI").COMM_WORLD.size
    if ranks < 2 or getattr(futures._core, "SharedPool", None) is None:
        raise engine.error(
            "name", f"mpi in a program of {ranks} ranks that was not started for it",
            "`mpiexec -n N python -m mpi4py.futures -m shapewright.app.cli ...` with N from 2",
        )  # fmt: skip
    executor = futures.MPIPoolExecutor()
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


_OPENERS: dict[str, Callable[[Engine], AbstractContextManager[Executor]]] = {
    "processes": _processes,
    "dask": _dask,
    "slurm": _slurm,
    "mpi": _mpi,
}


def _library(engine: Engine, module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise engine.error(
            "name", f"{extra}, whose package {module.partition('.')[0]} cannot be imported ({error})",
            f"one that can: pip install 'shapewright[{extra}]'",
        ) from error  # fmt: skip


class JobExecutor(Executor):
    """submitit's jobs as an executor of the standard library's kind; lost ones end with BrokenExecutor."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        self._open: list[tuple[Any, Future[Any]]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def batch(self) -> AbstractContextManager[None]:
        """While this is open, submissions are collected for one job array."""
        return self._jobs.batch()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """See :class:`concurrent.futures.Executor`."""
        future: Future[Any] = Future()
        with self._lock:
            self._open.append((self._jobs.submit(function, *arguments, **options), future))
        return future

    def follow(self) -> None:
        """Begin to query the submitted jobs for results; after :meth:`batch` has ended."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll, daemon=True)
            self._thread.start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Cancel the jobs that have not ended; whatever they have written stays."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for job, _ in self._open:
                job.cancel()
            ends = time.monotonic() + 5.0
            while wait and time.monotonic() < ends and not all(job.done() for job, _ in self._open):
                time.sleep(0.05)
            self._open.clear()

    def _poll(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            with self._lock:
                ended = [pair for pair in self._open if pair[0].done()]
                self._open = [pair for pair in self._open if pair not in ended]
            for job, future in ended:
                self._settle(job, future)

    @staticmethod
    def _settle(job: Any, future: Future[Any]) -> None:
        if future.cancelled():
            return
        try:
            future.set_result(job.result())
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            future.set_exception(BrokenExecutor(f"job {job.job_id}: {said[-1]}; see {job.paths.stderr}"))
