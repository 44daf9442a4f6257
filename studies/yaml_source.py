"""Reading a YAML study file: its data, and the line that every key stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from studies.describe import Key, found

MAX_ENTRIES = 10_000


class StudyError(ValueError):
    """A study that cannot be used; the text names file, line, key, what was found and what is expected."""


def read(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Data of a YAML file, and the line (from 1) of every key and list entry.

    Raises:
        StudyError: no such file, unreadable, empty, no YAML, a key twice, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as text ({error})") from None
    lines: dict[Key, int] = {}
    try:
        node = _yaml().compose(text)
        if node is not None:
            _record(node, (), lines, path)
        data = _yaml().load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StudyError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    if data is None:
        raise StudyError(
            f"{path}: the file is empty; expected a study with name, geometry, physics and objective"
        )
    if not isinstance(data, dict):
        raise StudyError(f"{path}:1: found {found(data)}; expected a mapping such as 'name: torsion'")
    return data, lines


def value_of(text: str) -> Any:
    """A value typed on the command line, by the rules of YAML.

    Raises:
        StudyError: not valid YAML.
    """
    try:
        return _yaml().load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or error
        raise StudyError(f"not valid YAML ({problem})") from None


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _record(node: Node, key: Key, lines: dict[Key, int], path: Path) -> None:
    line = node.start_mark.line + 1
    lines.setdefault(key, line)
    if len(lines) > MAX_ENTRIES:
        raise StudyError(
            f"{path}:{line}: more than {MAX_ENTRIES} entries; does an alias (*name) refer to itself?"
        )
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _record(item, (*key, index), lines, path)
    if isinstance(node, MappingNode):
        for name, item in node.value:
            if not isinstance(name, ScalarNode) or name.tag not in (
                "tag:yaml.org,2002:str",
                "tag:yaml.org,2002:merge",
            ):
                shown = name.value if isinstance(name, ScalarNode) else "a list or mapping"
                at = name.start_mark.line + 1
                raise StudyError(
                    f"{path}:{at}: found the key {shown!s}; expected keys that are text, in quotes if need be"
                )
            lines.setdefault((*key, name.value), name.start_mark.line + 1)
            _record(item, (*key, name.value), lines, path)
