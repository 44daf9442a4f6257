"""Python files of a user's own that a study names: a geometry family, a physics."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from shapewright.geometries.user_file import file_of
from shapewright.studies.schema.loader import BoundaryValueStudy


def own_file(study: BoundaryValueStudy, section: Literal["geometry", "physics"]) -> Path | None:
    """The file that a section of the study names; None of a shipped family or physics, and of a Python object."""
    model = study.model
    named = model.geometry.family if section == "geometry" else model.physics.name
    return file_of(named, study.folder) if isinstance(named, str) else None


def text_key(file: Path) -> str:
    """16 hexadecimal digits that change with the text of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
