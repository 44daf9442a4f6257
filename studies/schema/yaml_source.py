"""Reading a YAML study file: its data, and the line that every key stands on.

A file is bounded before it is composed: its size, and the entries, text and nesting that its events stand for with
every alias counted as often as it is used, so that no file of a few lines can take hours or gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from shapewright.studies.schema.describe import Key, clipped, found

MAX_BYTES = 2**20
"""Of a file, and of its text with every alias written out."""
MAX_ENTRIES = 10_000
"""Keys and values of a file with every alias written out; shipped studies have about 100."""
MAX_DEPTH = 50
"""Lists and mappings within each other; shipped studies have up to 5."""
MAX_DIGITS = 308
"""Of a whole number: a larger one is no floating-point number."""

_PREFIX = "tag:yaml.org,2002:"
_PLAIN_TAGS = tuple(_PREFIX + name for name in ("str", "int", "float"))
"""What a scalar may be tagged as; it says no more than quotes or a decimal point would."""
_NO_TEXT = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f]")
"""Lone surrogates, which no file can hold, and control characters other than tab and line feed."""


class StudyError(ValueError):
    """A study that cannot be used; the text names file, line, key, what was found and what is expected."""


def read(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Data of a YAML file, and the line (from 1) of every key and list entry.

    Raises:
        StudyError: no such file, unreadable, empty, too large, no YAML, a key twice, or no mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read as text ({error})") from None
    if len(content) > MAX_BYTES:
        raise StudyError(f"{path}: has more than {MAX_BYTES} bytes; expected a study, which has about 2000")
    data, node = _load(text, lambda line: f"{path}:{line}" if line else f"{path}")
    if node is None or data is None:
        raise StudyError(
            f"{path}: the file is empty; expected a study with name, geometry, physics and objective"
        )
    if not isinstance(data, dict):
        raise StudyError(f"{path}:1: found {found(data)}; expected a mapping such as 'name: torsion'")
    lines: dict[Key, int] = {}
    _record(node, (), lines)
    return data, lines


def value_of(text: str) -> Any:
    """A value typed on the command line, by the rules of YAML.

    Raises:
        StudyError: not valid YAML, or too large.
    """
    return _load(text, lambda line: "")[0]


def _load(text: str, location: Callable[[int], str]) -> tuple[Any, Node | None]:
    """Data of a YAML text, in which no entry is shared, and its root node; ``location`` names a line (0: none)."""

    def refuse(line: int, what: str) -> StudyError:
        where = location(line)
        return StudyError(f"{where}: {what}" if where else what)

    try:
        _check_events(text)
        node = _yaml().compose(text)
        _check_keys(node)
        data = _yaml().load(text)
    except _Refused as error:
        raise refuse(*error.args) from None
    except DuplicateKeyError as error:  # its own text holds both values in full
        key = re.match(r'found duplicate key "(.*?)" with value', error.problem or "", re.DOTALL)
        twice = f'found duplicate key "{clipped(key[1])}"' if key else "found a duplicate key"
        raise refuse(error.problem_mark.line + 1, f"not valid YAML: {twice}") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise refuse(line, f"not valid YAML: {clipped(str(error.problem or error.context), 200)}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise refuse(0, f"not valid YAML: {clipped(str(error), 200)}") from None
    return _unshared(data), node


class _Refused(Exception):
    """With the line and what is wrong there."""


class _Constructor(SafeConstructor):
    """Plain data only: whole numbers have bounds, and dates are text, as JSON Schema and YAML 1.2 have it."""

    def construct_number(self, node: ScalarNode) -> int | float:
        name = (node.tag or "").removeprefix(_PREFIX)
        digits = len(node.value.replace("_", ""))
        try:
            value = self.construct_yaml_int(node) if name == "int" else self.construct_yaml_float(node)
            if name == "int" and abs(value) >= 10**MAX_DIGITS:
                raise OverflowError
        except (ValueError, OverflowError, IndexError):
            what = f"found a whole number of {digits} digits; expected at most {MAX_DIGITS}"
            if name == "float" or digits <= MAX_DIGITS // 4:  # too short for a large one, even in base 2
                what = f"found '{clipped(node.value)}', which is no number"
            raise ConstructorError(None, None, what, node.start_mark) from None
        return value


for _tag in ("int", "float"):
    _Constructor.add_constructor(_PREFIX + _tag, _Constructor.construct_number)
for _tag in ("timestamp", "value"):
    _Constructor.add_constructor(_PREFIX + _tag, SafeConstructor.construct_yaml_str)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    return yaml


def _check_events(text: str) -> None:
    """Refuse tags, text that no file can hold, and what is too large, too deep or endless with aliases written out."""
    sizes: dict[str, tuple[int, int]] = {}
    """Anchor -> entries and characters below it."""
    open_: list[str | None] = []
    starts: list[tuple[int, int]] = []
    entries = characters = 0
    for event in _yaml().parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            if event.anchor in open_:
                raise _Refused(line, f"the alias *{clipped(event.anchor)} refers to itself; expected plain data")
            more = sizes.get(event.anchor, (0, 0))  # an alias of nothing is left to the composer
            entries, characters = entries + more[0], characters + more[1]
        elif isinstance(event, NodeEvent):
            if isinstance(event, CollectionStartEvent):
                _check_tag(event, line)
                open_.append(event.anchor)
                starts.append((entries, characters))
            elif isinstance(event, ScalarEvent):
                _check_scalar(event, line)
                characters += len(event.value)
                if event.anchor is not None:
                    sizes[event.anchor] = 1, len(event.value)
            entries += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_.pop(), starts.pop()
            if anchor is not None:
                sizes[anchor] = entries - before[0], characters - before[1]
        if entries > MAX_ENTRIES:
            bomb = "does an alias (*name) stand for many?" if sizes else "a study has about 100"
            raise _Refused(line, f"more than {MAX_ENTRIES} entries; {bomb}")
        if characters > MAX_BYTES:
            raise _Refused(line, f"more than {MAX_BYTES} characters with all aliases (*name) written out")
        if len(open_) > MAX_DEPTH:
            raise _Refused(line, f"more than {MAX_DEPTH} lists and mappings within each other")


def _check_scalar(event: ScalarEvent, line: int) -> None:
    if event.tag not in _PLAIN_TAGS:
        _check_tag(event, line)
    if wrong := _NO_TEXT.search(event.value):
        raise _Refused(line, f"found the character {wrong[0]!a} in a text; expected printable Unicode")


def _check_tag(event: ScalarEvent | CollectionStartEvent, line: int) -> None:
    if event.ctag is not None:
        tag = str(event.tag).replace(_PREFIX, "!!")
        expected = "numbers, text, true or false, lists and mappings without tags"
        raise _Refused(line, f"found the YAML tag {clipped(tag)}; expected {expected}")


def _check_keys(root: Node | None) -> None:
    """Refuse keys that are no text."""
    nodes = [] if root is None else [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, SequenceNode):
            nodes += node.value
        for name, item in node.value if isinstance(node, MappingNode) else ():
            if not isinstance(name, ScalarNode) or name.tag not in (_PREFIX + "str", _PREFIX + "merge"):
                shown = clipped(name.value) if isinstance(name, ScalarNode) else "a list or mapping"
                expected = "expected keys that are text, in quotes if need be"
                raise _Refused(name.start_mark.line + 1, f"found the key {shown}; {expected}")
            nodes.append(item)


def _record(node: Node, key: Key, lines: dict[Key, int]) -> None:
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _record(item, (*key, index), lines)
    if isinstance(node, MappingNode):
        for name, item in node.value:
            lines.setdefault((*key, name.value), name.start_mark.line + 1)
            _record(item, (*key, name.value), lines)


def _unshared(data: Any) -> Any:
    """A copy in which each alias has become data of its own, so that an override changes one of them alone."""
    if isinstance(data, dict):
        return {name: _unshared(item) for name, item in data.items()}
    return [_unshared(item) for item in data] if isinstance(data, list) else data
