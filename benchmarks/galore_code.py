"""Which code a measurement is of: those of another one are not taken over."""

from __future__ import annotations

from pathlib import Path

from studies.workspace import content_key, file_key

SURROGATE = Path(__file__).resolve().parents[1] / "surrogate"
SOURCES = ("tensor_galore.py", "galore_*.py", "moment_*.py", "tucker*.py")


def optimizer_code(folder: Path = SURROGATE) -> str:
    """Hash of the sources of :class:`surrogate.tensor_galore.TensorGaLore`."""
    files = sorted(path for pattern in SOURCES for path in folder.glob(pattern))
    return content_key(*((path.name, file_key(path)) for path in files))
