"""What a study is run with and on, beside its results."""

from __future__ import annotations

import json
from typing import Any

from studies.loader import Study, dump
from studies.workspace import Workspace, write_json, write_text


def write_study(study: Study, workspace: Workspace, provenance: dict[str, Any]) -> None:
    """``resolved.yaml``, the study with every default, and ``run.json``, what it is run with and on."""
    head = [f"# {key}: {json.dumps(value)}" for key, value in provenance.items()]
    write_text(workspace.path("resolved.yaml"), "\n".join(head) + "\n" + dump(study, workspace.folder))
    write_json(workspace.path("run.json"), provenance)
