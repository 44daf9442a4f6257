"""From a YAML file and ``--set`` overrides to a checked study, and back to YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, overload

from pydantic import ValidationError

from shapewright.solvers.physics.catalogue import PHYSICS, SOLID_PHYSICS
from shapewright.studies.schema.base import Section
from shapewright.studies.schema.describe import Key, alternatives, clipped, found, shown, unknown
from shapewright.studies.schema.fingerprint import object_keys
from shapewright.studies.schema.messages import is_index, report
from shapewright.studies.schema.operator_study import OperatorStudyModel
from shapewright.studies.schema.physics import Physics
from shapewright.studies.schema.renamed import present_named
from shapewright.studies.schema.solid_study import SolidPhysics, SolidStudyModel
from shapewright.studies.schema.study import StudyModel
from shapewright.studies.schema.value import Study
from shapewright.studies.schema.yaml_source import StudyError, read, value_of
from shapewright.studies.schema.yaml_text import yaml_of

_COMMANDS = {None: "shapewright run", "operator": "shapewright learn", "evolution": "shapewright learn"}
"""Kind of a study file -> the command that takes it; design studies name none."""

__all__ = ["BoundaryValueStudy", "DesignStudy", "PlanarStudy", "Study", "StudyError", "dump", "load_study"]

PlanarStudy = Study[StudyModel | OperatorStudyModel]
"""A study of a boundary-value problem on a planar family: of a design, or of an operator."""
DesignStudy = Study[StudyModel | SolidStudyModel]
"""A study that looks for a design: a planar one, or a solid."""
BoundaryValueStudy = PlanarStudy | Study[SolidStudyModel]
"""A study of a boundary-value problem on a family of shapes: of a design, of an operator, or of a solid."""
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

    @property
    def name(self) -> str:
        """Of the file."""
        return str(self.path)

    def location(self, key: Key) -> tuple[int, str]:
        """Line to sort by, and 'file:line' or the override's text, of the nearest key that was typed."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.overrides:
                return 0, f"override '{clipped(self.overrides[key[:length]])}'"
            if key[:length] in self.lines:
                line = self.lines[key[:length]]
                return line, f"{self.path}:{line}"
        return 1, f"{self.path}:1"


@overload
def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study[StudyModel]: ...
@overload
def load_study[M: Section](path: str | Path, overrides: Sequence[str], model: type[M]) -> Study[M]: ...
def load_study(path: str | Path, overrides: Sequence[str] = (), model: type[Section] = StudyModel) -> Study[Any]:
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
    if not isinstance(path, str | Path):
        raise StudyError(f"path: found {type(path).__name__}; expected the name of a study's YAML file")
    if isinstance(overrides, str | Mapping):
        raise StudyError(f"overrides: found {found(overrides)}; expected a list such as ['optimizer.starts=1']")
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
    for key in object_keys(data):
        raise StudyError(
            f"{source.location(key)[1]}: {shown(key)}: stands for a Python object of the program that made this study;"
            " run that program again"
        )
    try:
        content = model.model_validate(data)
    except ValidationError as error:
        raise StudyError(report(error, data, source, model)) from None
    study = Study.of_model(content, path, source)
    physics = getattr(content, "physics", None)
    name = physics.name if isinstance(physics, Physics | SolidPhysics) else None
    known = SOLID_PHYSICS if isinstance(physics, SolidPhysics) else PHYSICS
    if isinstance(name, str) and ":" not in name and name not in known:
        expected = f"one of {', '.join(known)}, or your own as my_physics.py:Name"
        raise study.error("physics.name", found(name), expected)
    return study


def dump(study: Study[Section], folder: Path | None = None) -> str:
    """The study as YAML with every default written out, for a ``folder`` if not its own.

    What stands for a Python object there can be read by people, and not loaded back.
    """
    return yaml_of(study.model, study.folder, folder or study.folder)


def is_solid(data: Mapping[str, Any]) -> bool:
    """Whether the data of a file are those of a study of a solid: their geometry is CAD."""
    geometry = data.get("geometry")
    return isinstance(geometry, Mapping) and "cad" in geometry


def _check_kind(data: Mapping[str, Any], source: Source, model: type[Section]) -> None:
    """One clear error for a file of another kind, in place of one for each of its keys."""
    if model is StudyModel and is_solid(data):
        location = source.location(("geometry", "cad"))[1]
        expected = "a planar family; a study of a solid is for `shapewright run`, `check`, `verify` and `status`"
        raise StudyError(f"{location}: geometry.cad: found a solid; expected {expected}")
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
    if (container.get(part) if isinstance(container, dict) else container[part]) is None:
        container[part] = {}
    return container[part]


def _entry(container: Any, part: str, key: Key) -> str | int:
    """``part`` as the container below ``key`` takes it: the index of a list or the key of a mapping."""
    if isinstance(container, dict):
        return part
    if isinstance(container, list) and is_index(part) and int(part) < len(container):
        return int(part)
    whole = f"give {shown(key)}=... as a whole"
    raise StudyError(f"{shown(key)} is {found(container)} and has no entry '{clipped(part)}'; {whole}")
