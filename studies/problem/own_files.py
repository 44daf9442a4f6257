"""Python files of a user's own that a study names: a geometry family, a physics."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shapewright.geometries.user_file import file_of
from shapewright.studies.schema.loader import BoundaryValueStudy, PlanarStudy


def family_file(study: PlanarStudy) -> Path | None:
    """The file of the study's geometry family; None of a built-in one, and of a Python object."""
    return _file(study.model.geometry.family, study.folder)


def physics_file(study: BoundaryValueStudy) -> Path | None:
    """The file of the study's physics; None of a built-in one, and of a Python object."""
    return _file(study.model.physics.name, study.folder)


def _file(named: object, folder: Path) -> Path | None:
    return file_of(named, folder) if isinstance(named, str) else None


def text_key(file: Path) -> str:
    """16 hexadecimal digits that change with the text of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
