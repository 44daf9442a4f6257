"""Whole files of text and JSON, seals that tell what was edited, and hashes of content."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from shapewright.geometries.files import written_whole

KEY_FORMAT = "0.1.0"
"""Version of how keys are made, that of the first release: its folders stay valid in every later one."""


def content_key(*parts: Any) -> str:
    """Hash of plain data, among which a stage counts the version of its own files' format."""
    text = json.dumps([KEY_FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_key(path: Path) -> str:
    """Short hash of a file's content."""
    return sha256(path)[:16]


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, computed once in a process as long as size, inode and time of change stay."""
    stat = path.stat()
    return _sha256(path.resolve(), stat.st_size, stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, *version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with a hash of it, by which :func:`read_sealed` tells what was edited."""
    write_json(path, {**content, "digest": _digest(content)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What :func:`write_sealed` wrote; None where there is nothing, or what was cut or edited."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    digest = content.pop("digest", None)  # earlier versions wrote none
    return content if digest is None or digest == _digest(content) else None


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(finite(record), sort_keys=True).encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; numbers that are not finite, which JSON has not, become null."""
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def finite(value: Any) -> Any:
    """Plain data with None for each number that is not finite, which JSON has not."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
