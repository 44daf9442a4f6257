"""What a study is run with and on, beside its results, and whose results a folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from shapewright.studies.files import write_json, write_text
from shapewright.studies.run.workspace import Workspace, WorkspaceError
from shapewright.studies.schema.base import Section
from shapewright.studies.schema.loader import RESOLVED, Study, dump
from shapewright.studies.schema.yaml_source import StudyError, read

RUN = "run.json"
BESIDE = (RESOLVED, RUN, "report.html", "surrogate.card.json", "operator.json", "model.json")
"""Files that no stage records."""


def write_study(study: Study[Section], workspace: Workspace, provenance: dict[str, Any]) -> None:
    """``resolved.yaml``, the study with every default, and ``run.json``, what it is run with and on."""
    head = [f"# {key}: {json.dumps(value)}" for key, value in provenance.items()]
    write_text(workspace.path(RESOLVED), "\n".join(head) + "\n" + dump(study, workspace.folder))
    write_json(workspace.path(RUN), provenance)


def claim_folder(study: Study[Section], workspace: Workspace, overwrite: bool = False) -> None:
    """Make sure that the folder holds no results of another study, or remove them where they may be overwritten.

    A study is another one if its name, its kind, its physics or its geometry family is; other values of the same study
    are no obstacle, since every stage knows what it was made from.

    Raises:
        WorkspaceError: names both studies and what to do.
    """
    own, other = _identity(study.model.model_dump(mode="json")), None
    with suppress(StudyError):  # none there, or one that cannot be read and is made anew
        other = _identity(read(workspace.path(RESOLVED))[0])
    if other is None or other == own:
        return
    if not overwrite:
        raise WorkspaceError(
            f"{workspace.folder}: holds the results of {_in_words(other)}; this is {_in_words(own)}:"
            " choose another folder with --out, or replace them with --overwrite"
        )
    workspace.clear()
    left = (*(workspace.path(name) for name in BESIDE), *workspace.folder.glob("*.checkpoint*"))
    for path in left:
        path.unlink(missing_ok=True)


def _identity(study: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Name, kind, physics and geometry family; of a family of one's own the name of its file, wherever that lies."""

    def entry(section: str, name: str) -> str:
        found = study.get(section)
        return str(found.get(name, "")) if isinstance(found, Mapping) else ""

    family = entry("geometry", "family").rpartition("/")[2]
    return str(study.get("name", "")), str(study.get("kind", "")), entry("physics", "name").rpartition("/")[2], family


def _in_words(identity: tuple[str, str, str, str]) -> str:
    name, kind, physics, family = identity
    return f"the {kind or 'design'} study '{name}' ({physics} on {family})"
