"""Compilation of forms that survives killed and concurrent compilers, and libraries that were damaged on disk.

FFCx keeps compiled forms in a folder and marks one as being compiled by the presence of its C file: a process killed
there leaves a mark for which every later one waits and then fails. And it loads whatever lies there: a library that was
cut, as by a full disk, kills the process with SIGBUS. Here every form has a folder of its own. A lock that the system
releases with the process says whether someone is compiling, and the SHA-256 of the library, written last, that what
lies there is whole; anything else in the folder is removed and made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ufl
from cffi import VerificationError

from shapewright.geometries.files import written_whole
from shapewright.solvers.errors import CompilerError
from shapewright.solvers.fem.backend import fem, jit

LIBRARIES = "*.so"
DIGEST = "sha256"


def compile_form(form: ufl.Form) -> fem.Form:
    """The compiled form, from the cache on disk where it is there; waits for others that compile the same one.

    Raises:
        CompilerError: the C compiler fails, or the cache cannot be written; says what to do.
    """
    folder = cache_folder() / form.signature()[:32]
    try:
        with _alone(folder):
            if not _is_whole(folder):
                _empty(folder)
            compiled = _compiled(form, folder)
            if not _is_whole(folder):
                with written_whole(folder / DIGEST) as part:
                    part.write_text(_digest(folder))
    except OSError as error:
        raise CompilerError(
            f"compiled finite-element forms cannot be kept in {cache_folder()}"
            f" ({error.strerror or error}{f': {error.filename}' if error.filename else ''});"
            " set XDG_CACHE_HOME to a folder that can be written and has space"
        ) from error
    return compiled


def cache_folder() -> Path:
    """Where compiled forms are kept: a folder of our own in the cache that dolfinx is set to use."""
    return Path(jit.get_options()["cache_dir"]) / "shapewright"


def _compiled(form: ufl.Form, folder: Path) -> fem.Form:
    handlers = logging.getLogger().handlers
    try:
        return fem.form(form, jit_options={"cache_dir": folder})
    except VerificationError as error:
        found = str(error).strip().partition("\n")[0]
        raise CompilerError(
            f"a finite-element form cannot be compiled ({found}); `shapewright doctor` says what is missing"
        ) from error
    finally:
        logging.getLogger().handlers = handlers  # FFCx takes them away, and does not put them back where it fails


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path) -> bool:
    """Whether the library is the one whose hash was written when it had been compiled."""
    try:
        return (folder / DIGEST).read_text() == _digest(folder) != ""
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _digest(folder: Path) -> str:
    """SHA-256 of the libraries of a folder, empty where there are none."""
    libraries = sorted(folder.glob(LIBRARIES))
    return " ".join(hashlib.sha256(library.read_bytes()).hexdigest() for library in libraries)


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name != "lock":
            file.unlink()
