"""Units and files as OpenCASCADE and gmsh know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OCC_UNITS = {"m": "M", "cm": "CM", "mm": "MM"}
"""Length units of a study, by OpenCASCADE's names for them."""


def occ_unit(unit: str) -> str:
    """OpenCASCADE's name of a length unit; ValueError says which there are."""
    if unit not in OCC_UNITS:
        raise ValueError(f"length unit '{unit}'; allowed are {', '.join(OCC_UNITS)}")
    return OCC_UNITS[unit]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it becomes ``path`` only if the block ends without an error.

    The ending is kept, because gmsh chooses the format by it.
    """
    part = path.with_name("part-" + path.name)
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
