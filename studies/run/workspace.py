"""The output folder: records of finished stages, whole files only, one run at a time.

The record of a stage holds size and SHA-256 of each of its files. They are compared whenever a stage is asked whether
it is done: the size first, then the hash, which a process computes once for a file as long as its size, inode and time
of change stay. Samples of single designs are in no record; the data sets that are made of them are.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shapewright.studies.files import read_sealed, sha256, write_sealed

VERSION = "0.1.0"


class WorkspaceError(RuntimeError):
    """The output folder cannot be used, or another run is using it."""


@dataclass(frozen=True)
class Record:
    """What a stage left when it last ended.

    Attributes:
        stage: its name.
        key: hash of its inputs.
        seconds: that it took.
        inputs: what the key hashes, by name; None in records of earlier versions.
        content: plain data that the stage keeps here.
        files: name -> size and SHA-256; of earlier versions the size alone.
    """

    stage: str
    key: str
    seconds: float
    inputs: Mapping[str, Any] | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Plain data, as the file holds it."""
        inputs = {} if self.inputs is None else {"inputs": self.inputs}
        own = {"stage": self.stage, "key": self.key, "files": self.files, "seconds": round(self.seconds, 3)}
        return {**own, **inputs, **self.content}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Record | None:
        """The record in a file's content; None where that is not one."""
        rest = dict(data)
        stage, key, files = rest.pop("stage", ""), rest.pop("key", None), rest.pop("files", None)
        seconds, inputs = rest.pop("seconds", 0.0), rest.pop("inputs", None)
        numeric = isinstance(seconds, int | float) and isinstance(inputs, dict | None)
        if not (isinstance(key, str) and isinstance(files, dict) and numeric):
            return None
        return cls(str(stage), key, seconds, inputs, rest, files)


@dataclass(frozen=True)
class Workspace:
    """An output folder. A stage is done when its record, written last, carries the key of its inputs."""

    folder: Path

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name

    def finished(self, stage: str, key: str) -> Record | None:
        """What the stage left when it last ended with this key; None when it has to run."""
        record = self.record(stage)
        return record if record is not None and record.key == key and not self.changed(record) else None

    def changed(self, record: Record) -> list[str]:
        """Files of a record that are gone or are not what the stage left."""
        return [name for name, left in record.files.items() if not _is_whole(self.path(name), left)]

    def finish(self, record: Record, files: Sequence[str]) -> Record:
        """Write the record of a stage that is done, with size and hash of its files; the record as it is read back."""
        left = {name: {"size": self.path(name).stat().st_size, "sha256": sha256(self.path(name))} for name in files}
        self._record(record.stage).parent.mkdir(parents=True, exist_ok=True)
        write_sealed(self._record(record.stage), {**record.as_data(), "files": left})
        written = self.record(record.stage)
        assert written is not None
        return written

    def clear(self) -> None:
        """Remove what the stages recorded, and their records; samples and solutions stay, each under its own key."""
        for path in (self.folder / ".stages").glob("*.json"):
            record = self.record(path.stem)
            for name in record.files if record else ():
                self.path(name).unlink(missing_ok=True)
            path.unlink()

    def record(self, stage: str) -> Record | None:
        """What the stage last left, whatever its key; None where there is no whole record."""
        content = read_sealed(self._record(stage))
        return None if content is None else Record.of_data(content)

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
