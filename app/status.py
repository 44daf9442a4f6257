"""The command that shows the stages of an output folder."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shapewright.app.formatting import seconds
from shapewright.geometries.family.effort import forcing
from shapewright.studies.run.kinds import open_folder
from shapewright.studies.run.status import FileState, StageState, State, stage_states

STYLES = {State.DONE: "green", State.STALE: "yellow", State.MISSING: "dim", State.DAMAGED: "bold red"}


def folder_states(folder: Path) -> tuple[str, list[StageState]]:
    """Name of the study whose output folder that is, and the states of its stages.

    Raises:
        WorkspaceError, StudyError: see :func:`kinds.open_folder`.
    """
    with forcing(True):
        run, stages = open_folder(folder)
        return run.setup.study.model.name, stage_states(run, stages)


def as_json(folder: Path, name: str, states: Sequence[StageState]) -> str:
    """Indented JSON: the folder, the study's name, and each stage."""
    content = {"folder": str(folder), "study": name, "stages": [state.as_data() for state in states]}
    return json.dumps(content, indent=2)


def print_states(console: Console, folder: Path, name: str, states: Sequence[StageState]) -> None:
    """A row for each stage."""
    table = Table("stage", "state", "time", "files", "why", title=escape(f"{name}: stages in {folder}"))
    for state in states:
        mark = f"[{STYLES[state.state]}]{state.state}[/]"
        took = "" if state.seconds is None else seconds(state.seconds)
        table.add_row(state.stage, mark, took, escape(_files(state.files)), escape("\n".join(state.why)))
    console.print(table, highlight=False)
    if not states:
        console.print("the study ships its weights: no stage makes files here", highlight=False)


def _files(files: Sequence[FileState]) -> str:
    """A line for each file, and one for all files of a sub-folder."""
    folders: dict[str, list[int]] = defaultdict(list)
    lines = []
    for file in files:
        parent, _, _ = file.name.rpartition("/")
        if parent and file.bytes is not None and not file.changed:
            folders[parent].append(file.bytes)
        else:
            size = "gone" if file.bytes is None else f"{_size(file.bytes)}{', changed' if file.changed else ''}"
            lines.append(f"{file.name} ({size})")
    lines += [f"{parent}: {len(sizes)} files ({_size(sum(sizes))})" for parent, sizes in folders.items()]
    return "\n".join(lines)


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} bytes"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
