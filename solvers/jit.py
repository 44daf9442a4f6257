"""Compilation of forms that survives killed and concurrent compilers.

FFCx keeps compiled forms in a folder and marks one as being compiled by the presence of its C file: a
process killed there leaves a mark for which every later one waits and then fails. Here a lock that the
system releases with the process says whether someone is compiling, so that an orphaned mark can be removed.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ufl

from solvers.backend import fem, jit


def compile_form(form: ufl.Form) -> fem.Form:
    """The compiled form, from the cache on disk where it is there.

    Raises whatever FFCx or the C compiler raise; waits for other processes that are compiling.
    """
    folder = cache_folder()
    with _alone(folder):
        _remove_orphans(folder)
        return fem.form(form, jit_options={"cache_dir": folder})


def cache_folder() -> Path:
    """Where compiled forms are kept: a folder of our own in the cache that dolfinx is set to use."""
    return Path(jit.get_options()["cache_dir"]) / "shapewright"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_orphans(folder: Path) -> None:
    for source in folder.glob("libffcx_*.c"):
        if not source.with_suffix(".c.cached").exists():
            source.unlink()
