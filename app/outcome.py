"""How a command ends: one clear message on the terminal, and an exit code for its kind of end."""

from __future__ import annotations

import errno
import logging
import shlex
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

errors = Console(stderr=True)
KEPT = "What was finished is kept; the same command goes on from there."
TRACEBACK_FILE = "traceback.txt"
_ROOMS = ("app", "geometries", "solvers", "studies", "surrogate")
_OWN_FOLDERS = tuple(Path(__file__).parents[1] / name for name in _ROOMS)
_FOLDERS: list[Path] = []
"""The output folder of the command that runs, if it has one."""


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    NOT_ACCEPTED = 1
    BAD_INPUT = 2
    FAILED = 3
    UNEXPECTED = 4
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what is at work may save itself on the way."""

    signal_number = signal.SIGTERM


def results_go_to(folder: Path) -> None:
    """Name the output folder, where the traceback of a defect is put."""
    _FOLDERS.append(folder)


@contextmanager
def reported_errors() -> Iterator[None]:
    """One clear message and an exit code for whatever a command may raise."""
    _FOLDERS.clear()
    try:
        with _terminating(), _shown_warnings(), _reported_failures():
            yield
    except KeyboardInterrupt as error:  # while modules are imported, too
        terminated = getattr(error, "signal_number", signal.SIGINT) == signal.SIGTERM
        what = "terminated" if terminated else "interrupted"
        detail = f"{error}; " if str(error) else ""
        _fail(
            f"{what}; {detail}what was finished is kept, and the same command goes on from there.",
            Exit.TERMINATED if terminated else Exit.INTERRUPTED,
        )


@contextmanager
def _reported_failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("typer", "click"):
            raise  # its own: an exit code, or a wrong option
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # whoever read the output has gone; typer ends quietly
        _fail(*_message(error))


def _message(error: Exception) -> tuple[str, Exit]:
    """What to say of an error, and the exit code."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] != "shapewright":
        return f"a library cannot be imported: {error}\n`shapewright doctor` says what is missing.", Exit.FAILED
    bad_input, failures = _known_errors()
    if isinstance(error, bad_input):
        return str(error), Exit.BAD_INPUT
    if isinstance(error, failures):
        return f"{error}\n{KEPT}", Exit.FAILED
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}\n{KEPT}", Exit.FAILED
    if isinstance(error, MemoryError):
        return f"memory ran out{f' ({error})' if str(error) else ''}\n{KEPT}", Exit.FAILED
    text = str(error).partition("\n")[0]
    found = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"unexpected {found}; this is a defect: please report it with {_write_traceback(error)}", Exit.UNEXPECTED


def _known_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """What the user can correct in the study or the options, and what can go wrong on the way."""
    from shapewright.app.report.data import ReportError
    from shapewright.geometries.cad.mesher import MeshError
    from shapewright.geometries.cad.solid import PartError
    from shapewright.geometries.cad.step import CadError
    from shapewright.geometries.design.measures import ShapeError
    from shapewright.geometries.family.parts import FamilyError
    from shapewright.geometries.fields.problem import ProblemError
    from shapewright.solvers.errors import CompilerError, SolveError
    from shapewright.studies.certify.front_model import FrontError
    from shapewright.studies.problem.samples import SamplingError
    from shapewright.studies.run.failed_search import OptimizationError
    from shapewright.studies.run.workspace import WorkspaceError
    from shapewright.studies.schema.loader import StudyError
    from shapewright.surrogate.mgno.latent_grid import OutsideGridError
    from shapewright.surrogate.models.weights_file import SurrogateFileError
    from shapewright.surrogate.training.loop import TrainingError

    bad_input = (StudyError, FamilyError, PartError, ShapeError, ProblemError, SurrogateFileError, WorkspaceError)
    failures = (CadError, CompilerError, MeshError, SolveError, SamplingError, TrainingError)
    return bad_input, (*failures, OptimizationError, OutsideGridError, ReportError, FrontError)


def _write_traceback(error: Exception) -> Path:
    """The traceback as a file in the output folder, or in the temporary folder where there is none."""
    from shapewright.studies.run.workspace import VERSION

    command = shlex.join(["shapewright", *sys.argv[1:]])
    head = f"shapewright {VERSION}, Python {sys.version.split()[0]}, {datetime.now(UTC).isoformat(timespec='seconds')}"
    text = f"{head}\n{command}\n\n{''.join(traceback.format_exception(error))}"
    data = text.encode("utf-8", "backslashreplace")
    for folder in _FOLDERS:
        try:
            path = folder / TRACEBACK_FILE
            path.write_bytes(data)
            return path
        except OSError:
            continue
    with tempfile.NamedTemporaryFile(prefix="shapewright-", suffix=f"-{TRACEBACK_FILE}", delete=False) as file:
        file.write(data)
    return Path(file.name)


def _fail(message: str, code: Exit) -> NoReturn:
    errors.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code) from None


@contextmanager
def _terminating() -> Iterator[None]:
    """Raise :class:`Terminated` on SIGTERM, unless another handler is set."""

    def raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """Print the program's own warnings as its errors are printed; leave out what libraries log."""
    unheard = logging.NullHandler()  # without a handler Python prints what libraries log
    with warnings.catch_warnings():
        logging.getLogger().addHandler(unheard)
        default = warnings.showwarning

        def show(message: Any, category: type[Warning], filename: str, *where: Any, **options: Any) -> None:
            if category.__module__.partition(".")[0] == "shapewright":
                errors.print(f"[bold yellow]warning:[/] {escape(str(message))}", highlight=False, soft_wrap=True)
            elif any(Path(filename).is_relative_to(folder) for folder in _OWN_FOLDERS):
                default(message, category, filename, *where, **options)

        warnings.showwarning = show
        try:
            yield
        finally:
            logging.getLogger().removeHandler(unheard)
