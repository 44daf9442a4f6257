"""The output folder: finished stages by content key, whole files only, one run at a time.

The record of a stage holds size and SHA-256 of each of its files. They are compared whenever a stage is asked whether
it is done: the size first, then the hash, which a process computes once for a file as long as its size, inode and time
of change stay. Samples of single designs are in no record; the data sets that are made of them are.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright.studies.files import read_sealed, sha256, write_sealed

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


def _is_whole(path: Path, left: Any) -> bool:
    """Whether a file is what a record says; records of earlier versions hold its size alone."""
    size = left.get("size") if isinstance(left, dict) else left
    if not path.is_file() or path.stat().st_size != size:
        return False
    return not isinstance(left, dict) or sha256(path) == left.get("sha256")


