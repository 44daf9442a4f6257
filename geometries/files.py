"""Units and files as OpenCASCADE and gmsh know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it becomes ``path`` only if the block ends without an error.

    The ending is kept, because gmsh chooses the format by it. An OSError that does not know its file, as of a full
    disk, is given the name.
    """
    part = path.with_name("part-" + path.name)
    try:
        yield part
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(part), part):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
