"""Training of a design surrogate by several processes: started here, or by torchrun.

Torch's own launchers start and end them; each process opens the study and the samples in the output folder by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, start_processes

from shapewright.studies.problem.samples import Samples, load_samples
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.surrogates import train_surrogate
from shapewright.studies.run.engines import interrupts_ignored
from shapewright.studies.schema.loader import Study, StudyError
from shapewright.studies.schema.study import StudyModel
from shapewright.surrogate.models.model_card import ModelCard
from shapewright.surrogate.training.interruption import TrainingInterrupted
from shapewright.surrogate.training.loop import Progress, TrainingError
from shapewright.surrogate.training.processes import is_first

REPORTED = 3
"""Exit code of a process that has said what went wrong."""
GRACE_SECONDS = 20.0
"""Time that processes have to end by themselves, and again after SIGTERM."""
PATIENCE = timedelta(days=30)
"""For the first process of torchrun to sample, while the others wait."""

Train = Callable[[Setup, Samples, Path, str, Callable[[Progress], None]], ModelCard | None]
""":func:`surrogates.train_surrogate`, or another way to train with several processes."""


def in_processes(count: int) -> Train:
    """:func:`surrogates.train_surrogate` by ``count`` processes of this machine, on one GPU each if any.

    Raises:
        TrainingError: of the training; or a process has ended before its time.
        StudyError: there are fewer GPUs.
    """

    def train(
        setup: Setup,
        samples: Samples,
        path: Path,
        device: str,
        report: Callable[[Progress], None],
    ) -> None:
        if device == "cuda" and torch.cuda.device_count() < count:
            raise StudyError(f"--processes: found {count}; expected at most {torch.cuda.device_count()}, one a GPU")
        batch = min(setup.study.model.training.batch, len(samples.designs))
        if batch < count:
            raise StudyError(f"--processes: found {count}; expected at most {batch}, the designs of a batch")
        spawn = multiprocessing.get_context("spawn")
        (receiver, sender), stop = spawn.Pipe(duplex=False), spawn.Event()
        with TemporaryDirectory(prefix="shapewright-") as folder, receiver:
            job = _Job(count, setup.study, path, device, f"file://{folder}/store", sender, stop)
            with interrupts_ignored():  # by them for good: this process answers
                context = start_processes(_work, (job,), count, join=False, start_method="spawn")
            sender.close()
            said: dict[str, str] = {}
            try:
                _follow(context, receiver, report, said)
            except KeyboardInterrupt as interrupt:
                stop.set()
                _end(context)
                _listen(receiver, report, said)
                number = getattr(interrupt, "signal_number", signal.SIGINT)
                raise TrainingInterrupted(said.get("interrupted", ""), number) from None
            finally:
                stop.set()
                _end(context)

    return train


def _follow(
    context: ProcessContext, receiver: Connection, report: Callable[[Progress], None], said: dict[str, str]
) -> None:
    """Pass on what the first process reports until all have ended.

    Raises:
        TrainingError: what a process said before it ended, or how it was ended.
    """
    try:
        while not context.join(timeout=0.1):
            _listen(receiver, report, said)
        _listen(receiver, report, said)
    except ProcessExitedException as error:
        _listen(receiver, report, said)
        raise TrainingError(_reason(context, said)) from error


def _listen(receiver: Connection, report: Callable[[Progress], None], said: dict[str, str]) -> None:
    with suppress(EOFError):
        while receiver.poll():
            kind, content = receiver.recv()
            if kind == "progress":
                report(Progress(**content))
            else:
                said.setdefault(kind, content)


def _reason(context: ProcessContext, said: dict[str, str]) -> str:
    ends = [process.exitcode for process in context.processes]
    for number, code in enumerate(ends, start=1):
        if code is not None and code < 0 and -code != signal.SIGTERM:  # by which the others are ended
            name = signal.Signals(-code).name
            return (
                f"training process {number} of {len(ends)} was ended by {name}; if memory ran out, train with fewer"
                " --processes"
            )
    return said.get("error", f"a training process ended with exit code {next(filter(None, ends), 0)}")


def _end(context: ProcessContext) -> None:
    """Leave no process behind: first those that know by themselves may end, such as after Ctrl-C."""
    if any(process.is_alive() for process in context.processes):
        until = time.monotonic() + GRACE_SECONDS
        for signalled in (None, signal.SIGTERM, signal.SIGKILL):
            for process in context.processes:
                if signalled is not None and process.is_alive():
                    os.kill(process.pid, signalled)
            for process in context.processes:
                process.join(max(0.1, until - time.monotonic()))
            until = time.monotonic() + GRACE_SECONDS


@dataclass(frozen=True)
class _Job:
    """What each of ``count`` processes needs: the training, where they meet, and its links to this process."""

    count: int
    study: Study[StudyModel]
    path: Path
    device: str
    store: str
    sender: Connection
    stop: Event


def _work(rank: int, job: _Job) -> None:
    warnings.filterwarnings("ignore", module=r"torch\.")  # of what it is about to change, and of strides
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.count))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

    def report(progress: Progress) -> None:
        job.sender.send(("progress", asdict(progress)))
        if job.stop.is_set():
            raise KeyboardInterrupt  # the trainer ends at this step, in all processes

    try:
        _join(job.device, rank, init_method=job.store, rank=rank, world_size=job.count)
        _train(job.study, job.path, job.device, report)
    except TrainingInterrupted as interrupt:
        if is_first():
            job.sender.send(("interrupted", str(interrupt)))
    except (TrainingError, StudyError, OSError) as error:
        job.sender.send(("error", str(error)))
        raise SystemExit(REPORTED) from None
    distributed.destroy_process_group()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _join(device: str, local_rank: int, **how: Any) -> None:
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", **how)


def _train(study: Study[StudyModel], path: Path, device: str, report: Callable[[Progress], None]) -> None:
    """What each process does once it has joined the others."""
    train_surrogate(build_setup(study), load_samples(path.parent), path, device, report)


class Lead:
    """The first process of torchrun: samples alone, then trains with the others, which wait for it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._announced = False

    def train(
        self,
        setup: Setup,
        samples: Samples,
        path: Path,
        device: str,
        report: Callable[[Progress], None],
    ) -> ModelCard | None:
        """:func:`surrogates.train_surrogate` with all processes."""
        self._announce(True)
        return train_surrogate(setup, samples, path, device, report)

    def dismiss(self) -> None:
        """Let the other processes end, also if nothing was left to train."""
        if not self._announced:
            self._announce(False)
        distributed.destroy_process_group()

    def _announce(self, work: bool) -> None:
        _join(self.device, int(os.environ.get("LOCAL_RANK", "0")))
        self._announced = True
        distributed.broadcast(torch.tensor(float(work), device=self.device), 0)


def follow(study: Study[StudyModel], path: Path, device: str) -> None:
    """What the other processes of torchrun do."""
    _join(device, int(os.environ.get("LOCAL_RANK", "0")), timeout=PATIENCE)
    work = torch.zeros((), device=device)
    distributed.broadcast(work, 0)
    if bool(work):
        _train(study, path, device, lambda progress: None)
    distributed.destroy_process_group()
