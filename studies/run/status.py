"""State of the stages of an output folder: which are done, and why others are not. Makes and changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from shapewright.studies.files import finite
from shapewright.studies.run.stage import Inputs, Results, Run, Stage
from shapewright.studies.run.workspace import Record, Workspace

HASH = re.compile(r"[0-9a-f]{16,64}")
"""A value that only tells whether what it is of has changed."""
MOST_REASONS = 8
"""Differences of inputs that are told in full."""


class State(StrEnum):
    """State of a stage."""

    DONE = "done"
    STALE = "stale"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class FileState:
    """A file that a stage left: its size now, None where it is gone; and whether it is no longer what was left."""

    name: str
    bytes: int | None
    changed: bool


@dataclass(frozen=True)
class StageState:
    """State of a stage of a folder.

    Attributes:
        stage: its name.
        state: done; stale where its inputs are others now; missing where it was never made; damaged where a file is
            not what the stage left.
        why: reasons for a state other than done.
        files: that the stage left when it last ended.
        seconds: that it took; None where it has no record.
    """

    stage: str
    state: State
    why: tuple[str, ...] = ()
    files: tuple[FileState, ...] = ()
    seconds: float | None = None

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def stage_states(run: Run[Any], stages: Sequence[Stage[Any]]) -> list[StageState]:
    """State of each stage that makes files; ``stages`` stand behind those that they need."""
    results, found, broken = Results(), [], dict[str, str]()
    for stage in stages:
        waits = [f"it needs {need.name}, which is {broken[need.name]}" for need in stage.needs if need.name in broken]
        record = None if stage.make is None else run.workspace.record(stage.name)
        state = State.DONE
        why: tuple[str, ...] = ()
        if stage.make is not None:
            inputs = None if waits else _as_kept(stage.inputs(run, results))
            state, why = _state(run, stage, record, inputs)
            why = (*waits, *why) if record is not None else why
            found.append(_described(run.workspace, stage, record, state, why))
        if waits or state is not State.DONE:
            broken[stage.name] = str(state) if stage.make is not None else waits[0].rpartition(" ")[2]
            continue
        try:
            results = results.having(stage, stage.read(run, results, record), record)
        except (ValueError, OSError, KeyError, TypeError) as error:  # such as weights of another study
            broken[stage.name] = f"not usable ({error})"
    return found


def _state(
    run: Run[Any], stage: Stage[Any], record: Record | None, inputs: Inputs | None
) -> tuple[State, tuple[str, ...]]:
    """State and reasons; ``inputs`` are None where a stage before this one has to be made first."""
    if record is None:
        return State.MISSING, ()
    changed = tuple(f"{name} is not as it was left" for name in run.workspace.changed(record))
    if inputs is None:
        return State.STALE, changed
    if record.key == stage.key(inputs):
        return (State.DAMAGED, changed) if changed else (State.DONE, ())
    return State.STALE, (*reasons(record.inputs, inputs), *changed)


def _described(
    workspace: Workspace, stage: Stage[Any], record: Record | None, state: State, why: tuple[str, ...]
) -> StageState:
    if record is None:
        return StageState(stage.name, state, why)
    changed = set(workspace.changed(record))
    files = tuple(FileState(name, _size(workspace.path(name)), name in changed) for name in record.files)
    return StageState(stage.name, state, why, files, record.content.get("total", record.seconds))


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def reasons(before: Inputs | None, now: Inputs) -> tuple[str, ...]:
    """Which inputs of a stage are others now, such as ``training.steps: 2000 -> 2700``."""
    if before is None:
        return ("its inputs have changed (its record, of an earlier version, does not say which)",)
    found = list(_differences("", before, now))
    if not found:
        return ("the format of its files is another now",)
    more = [f"and {len(found) - MOST_REASONS} more"] if len(found) > MOST_REASONS else []
    return (*found[:MOST_REASONS], *more)


def _differences(name: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(".".join(filter(None, (name, key))), before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{name}.{index}", *pair)
    elif before != now:
        hashes = all(isinstance(value, str) and HASH.fullmatch(value) for value in (before, now))
        yield f"{name}: has changed" if hashes else f"{name}: {_shown(before)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_kept(inputs: Inputs) -> Inputs:
    """Inputs as a record holds them."""
    return finite(json.loads(json.dumps(inputs, default=str)))
