"""A stage of a study as a value, and the runner: what is finished is read back, all else is made.

A stage is finished when its record, written last, carries the key of its inputs, and its files are as it left them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shapewright.studies.files import content_key
from shapewright.studies.run.workspace import Record, Workspace
from shapewright.studies.schema.renamed import first_named

Report = Callable[[str, int, int, str], None]
"""Called with stage, done, total and a text on how it goes."""
Inputs = Mapping[str, Any]
"""Plain data by name, in the order in which a key hashes them; '' names data whose entries have names of their own."""


def silent(stage: str, done: int, total: int, text: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Run[S]:
    """A study that is being run in an output folder.

    Attributes:
        setup: the study, built.
        workspace: its output folder.
        device: cpu or cuda.
        report: called as stages go on.
    """

    setup: S
    workspace: Workspace
    device: str = "cpu"
    report: Report = silent


@dataclass(frozen=True)
class Output:
    """What the work of a stage leaves.

    Attributes:
        files: names of files in the output folder.
        content: plain data that the record keeps.
        seconds: that the work took; measured by the runner where it is None.
    """

    files: Sequence[str] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Stage[T]:
    """A step of a study: what it depends on, how it is made, and how it is read back.

    Attributes:
        name: of the stage and of its record.
        needs: stages whose results it takes, where the study has them.
        inputs: all that its files depend on.
        make: writes the files; given the run, the results of other stages, and the key of the inputs. None where the
            files are not made here, such as weights that a study ships.
        read: the result, from the files and the record.
        version: of the format of its own files, counted up where files of the one before are to be made anew; None
            until then.
        hashed: the key of given inputs.
    """

    name: str
    needs: tuple[Stage[Any], ...]
    inputs: Callable[[Run[Any], Results], Inputs]
    make: Callable[[Run[Any], Results, str], Output] | None
    read: Callable[[Run[Any], Results, Record | None], T]
    version: int | None = None
    hashed: Callable[[Stage[T], Inputs], str] | None = None

    def key(self, inputs: Inputs) -> str:
        """Hash of the stage's name, the version of its files, and its inputs."""
        if self.hashed is not None:
            return self.hashed(self, inputs)
        return content_key(self.name, *([] if self.version is None else [self.version]), *plain(inputs))


def plain(inputs: Inputs) -> list[Any]:
    """The inputs as keys hash them: keys of the study under their first names."""
    return [first_named(name, part) if isinstance(part, Mapping) else part for name, part in inputs.items()]


@dataclass(frozen=True)
class Results:
    """Results of stages, by the stage that made them."""

    values: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)

    def __getitem__[T](self, stage: Stage[T]) -> T:
        return self.values[stage.name]

    def get[T](self, stage: Stage[T]) -> T | None:
        """The result of a stage; None where the study has no such stage."""
        return self.values.get(stage.name)

    def __contains__(self, stage: Stage[Any]) -> bool:
        return stage.name in self.values

    def having[T](self, stage: Stage[T], value: T, record: Record | None) -> Results:
        """These and another one."""
        records = dict(self.records) if record is None else {**self.records, stage.name: record}
        return Results({**self.values, stage.name: value}, records)


def run_stages(run: Run[Any], stages: Sequence[Stage[Any]], last: Stage[Any]) -> Results:
    """Read what is finished and make what is not, up to ``last`` and only what that depends on.

    Args:
        run: the study and its folder.
        stages: those of the study, each behind those that it needs.
        last: whose result is wanted.
    """
    results, wanted = Results(), set(_names_behind(last, {stage.name for stage in stages}))
    for stage in stages:
        if stage.name in wanted:
            record = None if stage.make is None else _made(run, stage, results)
            results = results.having(stage, stage.read(run, results, record), record)
    return results


def _names_behind(stage: Stage[Any], known: set[str]) -> Iterator[str]:
    """Names of a stage and of those among ``known`` that it depends on."""
    yield stage.name
    for other in stage.needs:
        if other.name in known:
            yield from _names_behind(other, known)


def _made(run: Run[Any], stage: Stage[Any], results: Results) -> Record:
    """The record of a stage that is finished, or that is made now."""
    assert stage.make is not None
    inputs = stage.inputs(run, results)
    key = stage.key(inputs)
    record = run.workspace.finished(stage.name, key)
    if record is not None:
        return record
    started = time.monotonic()
    output = stage.make(run, results, key)
    seconds = time.monotonic() - started if output.seconds is None else output.seconds
    kept = json.loads(json.dumps(inputs, default=str))  # as the key hashes them
    return run.workspace.finish(Record(stage.name, key, seconds, kept, output.content), output.files)
