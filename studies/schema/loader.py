"""From a YAML file and ``--set`` overrides to a checked study, and back to YAML."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML

from shapewright.solvers.physics.catalogue import PHYSICS
from shapewright.studies.schema.base import Section
from shapewright.studies.schema.describe import Key, alternatives, clipped, expected, found, shown, unknown
from shapewright.studies.schema.renamed import present_named
from shapewright.studies.schema.study import StudyModel
from shapewright.studies.schema.yaml_source import StudyError, read, value_of

MAX_MESSAGES = 20
"""Errors of one file that are told in full."""
_COMMANDS = {None: "shapewright run", "operator": "shapewright learn", "evolution": "shapewright learn"}
"""Kind of a study file -> the command that takes it; design studies name none."""

__all__ = ["Study", "StudyError", "dump", "load_study"]
RESOLVED = "resolved.yaml"
"""The file in an output folder that the program itself wrote, perhaps with an earlier version's names of keys."""


@dataclass(frozen=True)
class Source:
    """Where each key of a study comes from.

    Attributes:
        path: the YAML file.
        lines: key -> line of the file.
        overrides: key -> the override that set it.
    """

    path: Path
    lines: Mapping[Key, int]
    overrides: Mapping[Key, str]

    def location(self, key: Key) -> tuple[int, str]:
        """Line to sort by, and 'file:line' or the override's text, of the nearest key that was typed."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.overrides:
                return 0, f"override '{clipped(self.overrides[key[:length]])}'"
            if key[:length] in self.lines:
                line = self.lines[key[:length]]
                return line, f"{self.path}:{line}"
        return 1, f"{self.path}:1"


@dataclass(frozen=True)
class Study:
    """A checked study of a design, or of an operator (:mod:`schema.operator_study`).

    Attributes:
        model: the content of the file with overrides and defaults.
        path: the YAML file; relative paths in it are relative to its folder.
        source: where each key comes from; no part of what makes two studies equal.
        force: whether it may take more than :mod:`family.effort` allows; no part of it either.
    """

    model: Any
    path: Path
    source: Source = field(compare=False, repr=False)
    force: bool = field(default=False, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """Folder that paths in the study are relative to."""
        return self.path.parent

    def error(self, key: str, found: str, expected: str) -> StudyError:
        """Error of a later stage about ``key`` (such as ``constraints.0.quantity``), with file and line."""
        where = f"{self.location(key)}: {shown(_parts(key))}"
        return StudyError(f"{where}: found {clipped(found, 200)}; expected {expected}")

    def location(self, key: str) -> str:
        """File and line of ``key``, or the override that set it."""
        return self.source.location(_parts(key))[1]


def load_study(path: str | Path, overrides: Sequence[str] = (), model: type[Section] = StudyModel) -> Study:
    """Read and check a study.

    Args:
        path: the YAML file.
        overrides: ``KEY=VALUE`` such as ``optimizer.max_iterations=50``, the value by the rules of YAML; the
            last one for a key holds. The key must exist in the schema, or lie in a free mapping such as
            ``geometry.options``.
        model: what the file has to follow.

    Raises:
        StudyError: all that is wrong, one line each.
    """
    path = Path(path)
    data, lines = read(path)
    if path.name == RESOLVED:
        data = present_named(data)
    _check_kind(data, Source(path, lines, {}), model)
    taken: dict[Key, str] = {}
    for override in overrides:
        try:
            key = _apply(data, override, model)
        except StudyError as error:
            raise StudyError(f"override '{clipped(override)}': {error}") from None
        for older in [known for known in (*lines, *taken) if known[: len(key)] == key]:
            lines.pop(older, None)
            taken.pop(older, None)
        taken[key] = override
    source = Source(path, lines, taken)
    try:
        content = model.model_validate(data)
    except ValidationError as error:
        raise StudyError(_report(error, data, source, model)) from None
    study = Study(content, path, source)
    if "physics" in model.model_fields and content.physics.name not in PHYSICS:
        raise study.error("physics.name", found(content.physics.name), f"one of {', '.join(PHYSICS)}")
    return study


def dump(study: Study, folder: Path | None = None) -> str:
    """The study as YAML with every default written out; it loads back equal.

    Args:
        study: to write.
        folder: where the text will be saved, if not beside the study's file: paths in it are adapted.
    """
    data = study.model.model_dump(mode="json", exclude_none=True)
    if folder is not None:
        weights, family = data["surrogate"].get("weights"), data.get("geometry", {}).get("family", "")
        if weights is not None:
            data["surrogate"]["weights"] = _relative(study.folder / weights, folder)
        if ":" in family:
            file, _, name = family.rpartition(":")
            data["geometry"]["family"] = f"{_relative(study.folder / file, folder)}:{name}"
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False
    text = StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()


def _check_kind(data: Mapping[str, Any], source: Source, model: type[Section]) -> None:
    """One clear error for a file of another kind, in place of one for each of its keys."""
    kind, wanted = data.get("kind"), None
    if "kind" in model.model_fields:
        (wanted,) = get_args(model.model_fields["kind"].annotation)
    known = kind is None or (isinstance(kind, str) and kind in _COMMANDS)
    if kind == wanted or (wanted is None and not known):  # else `kind` is one more unknown key
        return
    expected_kind = "none, for a design study" if wanted is None else f"'{wanted}'"
    meant = f"; this file is for `{_COMMANDS[kind]}`" if known else ""
    location = source.location(("kind",))[1]
    raise StudyError(f"{location}: kind: found {found(kind)}; expected {expected_kind}{meant}")


def _apply(data: dict[str, Any], override: str, model: type[Section]) -> Key:
    """Put one override into ``data``; returns its key."""
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise StudyError("expected KEY=VALUE, such as optimizer.max_iterations=50")
    container: Any = data
    key: Key = ()
    for part in parts:
        if key:
            container = _descend(container, key[-1])
        key = (*key, _entry(container, part, key))
        if not alternatives(key, model):
            raise StudyError(f"{shown(key)}: {unknown(key, model)}")
    container[key[-1]] = value_of(text)
    return key


def _descend(container: Any, part: str | int) -> Any:
    """The entry ``part``, which becomes an empty mapping where the file leaves it out."""
    if container[part] is None if isinstance(container, list) else container.get(part) is None:
        container[part] = {}
    return container[part]


def _entry(container: Any, part: str, key: Key) -> str | int:
    """``part`` as the container below ``key`` takes it: the index of a list or the key of a mapping."""
    if isinstance(container, dict):
        return part
    if isinstance(container, list) and _is_index(part) and int(part) < len(container):
        return int(part)
    whole = f"give {shown(key)}=... as a whole"
    raise StudyError(f"{shown(key)} is {found(container)} and has no entry '{clipped(part)}'; {whole}")


def _is_index(part: str) -> bool:
    return part.isdecimal() and len(part) < 10


def _report(error: ValidationError, data: dict[str, Any], source: Source, model: type[Section]) -> str:
    """The messages of a failed validation in the order of the file, one for each key; of very many the first ones."""
    messages: dict[Key, Callable[[], str]] = {}
    mismatches: list[Key] = []
    for detail in error.errors(include_url=False):
        key, value = _locate(detail["loc"], data)
        if detail["type"] == "study":
            key = (*key, *_parts(detail["ctx"]["key"]))
            messages[key] = partial(str, detail["ctx"]["message"])
        elif detail["type"] == "extra_forbidden":
            messages[key] = partial(unknown, key, model)
        elif detail["type"] == "missing" and isinstance(detail["loc"][-1], str):
            key = (*key, detail["loc"][-1])
            messages[key] = partial(_missing, key, model)
        else:
            messages.setdefault(key, partial(_mismatch, key, value, model))
            mismatches.append(key)
    above = {key[:length] for key in messages for length in range(len(key))}
    for key in mismatches:  # an alternative that was not meant, where another one has errors further down
        if key in above:
            messages.pop(key, None)
    located = sorted(((*source.location(key), key) for key in messages), key=lambda entry: entry[0])
    shortest = located[:MAX_MESSAGES]
    lines = [f"{location}: {shown(key)}: {clipped(messages[key](), 500)}" for _, location, key in shortest]
    if len(located) > MAX_MESSAGES:
        lines.append(f"{source.path}: {len(located) - MAX_MESSAGES} further errors")
    return "\n".join(lines)


def _missing(key: Key, model: type[Section]) -> str:
    return f"missing; expected {expected(key, model)}"


def _mismatch(key: Key, value: Any, model: type[Section]) -> str:
    return f"found {found(value)}; expected {expected(key, model)}"


def _locate(location: tuple[str | int, ...], data: Any) -> tuple[Key, Any]:
    """Key and value that a pydantic location means: names of alternatives in it are skipped."""
    key: Key = ()
    for part in location:
        if part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data)):
            key, data = (*key, part), data[part]
    return key, data


def _parts(key: str) -> Key:
    return tuple(int(part) if _is_index(part) else part for part in key.split(".") if part)
