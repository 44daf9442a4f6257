"""The output folder: finished stages by content key, whole files only, one run at a time.

The record of a stage holds size and SHA-256 of each of its files. They are compared whenever a stage is asked whether
it is done: the size first, then the hash, which a process computes once for a file as long as its size, inode and time
of change stay. Samples of single designs are in no record; the data sets that are made of them are.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from geometries.files import written_whole

VERSION = "0.1.0"


class WorkspaceError(RuntimeError):
    """The output folder cannot be used, or another run is using it."""


@dataclass(frozen=True)
class Workspace:
    """An output folder. A stage is done when its record, written last, carries the key of its inputs."""

    folder: Path

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name

    def finished(self, stage: str, key: str) -> dict[str, Any] | None:
        """What the stage left when it last ended with this key; None when it has to run."""
        record = self.record(stage)
        if record is None:
            return None
        whole = record.get("key") == key and not self.changed(record)
        return record if whole else None

    def changed(self, record: Mapping[str, Any]) -> list[str]:
        """Files of a record that are gone or are not what the stage left."""
        return [name for name, left in record.get("files", {}).items() if not _is_whole(self.path(name), left)]

    def finish(self, stage: str, key: str, files: Sequence[str], seconds: float, **content: Any) -> dict[str, Any]:
        """Record that a stage is done and its files are whole."""
        left = {name: {"size": self.path(name).stat().st_size, "sha256": sha256(self.path(name))} for name in files}
        self._record(stage).parent.mkdir(parents=True, exist_ok=True)
        record = {"stage": stage, "key": key, "files": left, "seconds": round(seconds, 3), **content}
        write_sealed(self._record(stage), record)
        return record

    def clear(self) -> None:
        """Remove what the stages recorded, and their records; samples and solutions stay, each under its own key."""
        for path in (self.folder / ".stages").glob("*.json"):
            record = self.record(path.stem)
            for name in record["files"] if record else ():
                self.path(name).unlink(missing_ok=True)
            path.unlink()

    def record(self, stage: str) -> dict[str, Any] | None:
        """What the stage last left, whatever its key; None where there is no whole record."""
        record = read_sealed(self._record(stage))
        if record is None or not isinstance(record.get("key"), str) or not isinstance(record.get("files"), dict):
            return None
        return record

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            WorkspaceError: another run holds it, or it cannot be written.
        """
        try:
            (self.folder / ".stages").mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".stages" / "lock").open("w")
        except OSError as error:
            raise WorkspaceError(
                f"{self.folder}: cannot be used as output folder ({error.strerror}); choose another with --out"
            ) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise WorkspaceError(
                    f"{self.folder}: another shapewright run is using it; choose another with --out"
                ) from None
            yield

    def _record(self, stage: str) -> Path:
        return self.folder / ".stages" / f"{stage}.json"


def content_key(*parts: Any) -> str:
    """Hash of plain data, and of the program's version."""
    text = json.dumps([VERSION, *parts], sort_keys=True, default=str)
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


def _is_whole(path: Path, left: Any) -> bool:
    """Whether a file is what a record says; records of earlier versions hold its size alone."""
    size = left.get("size") if isinstance(left, dict) else left
    if not path.is_file() or path.stat().st_size != size:
        return False
    return not isinstance(left, dict) or sha256(path) == left.get("sha256")


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
    return hashlib.sha256(json.dumps(_finite(record), sort_keys=True).encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; numbers that are not finite, which JSON has not, become null."""
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
