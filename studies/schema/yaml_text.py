"""A study as a YAML text."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from shapewright.studies.schema.base import Section
from shapewright.studies.schema.fingerprint import PREFIX

WEIGHTS = ".safetensors"
"""End of a file's name, which tells it from the name of an operator that ships."""


def yaml_of(model: Section, old: Path, new: Path) -> str:
    """The content of a study with every default written out; paths in it become relative to ``new``, not ``old``."""
    data = model.model_dump(mode="json", exclude_none=True)
    if old != new:
        cad, own, name = data.get("geometry", {}).get("cad", "").partition(".py:")
        if cad:
            data["geometry"]["cad"] = _relative(old / f"{cad}{'.py' if own else ''}", new) + (own and f":{name}")
        weights = data.get("surrogate", {}).get("weights")
        if weights is not None:
            data["surrogate"]["weights"] = _relative(old / weights, new)
        choice = data.get("model")
        if isinstance(choice, dict) and choice["operator"].endswith(WEIGHTS):
            choice["operator"] = _relative(old / choice["operator"], new)
        for section, key in (("geometry", "family"), ("physics", "name")):
            file, own, name = data.get(section, {}).get(key, "").rpartition(":")
            if own and file != PREFIX.rstrip(":"):
                data[section][key] = f"{_relative(old / file, new)}:{name}"
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel.yaml types it by its initial None
    text = StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
