"""Which code a measurement is of: those of another one are not taken over."""

from __future__ import annotations

from pathlib import Path

from shapewright.studies.files import content_key, file_key

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "surrogate/optim/*.py",
    "benchmarks/galore_outliers.py",
)


def optimizer_code(folder: Path = ROOT) -> str:
    """Hash of the sources of :class:`tensor_galore.TensorGaLore` and of what derives from it."""
    files = sorted(path for pattern in SOURCES for path in folder.glob(pattern))
    return content_key(*((path.name, file_key(path)) for path in files))
