"""What a study file may hold, in words: the JSON Schema by key, and how to say what a value is.

A key is a path such as ("constraints", 0, "equals"), shown as ``constraints.0.equals`` as ``--set`` takes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from shapewright.studies.schema.base import Section
from shapewright.studies.schema.renamed import RENAMED
from shapewright.studies.schema.study import StudyModel

Key = tuple[str | int, ...]

MAX_SHOWN = 60
"""Characters of a value or a key that a message shows."""

_TEXTS = {"formula": "a formula", "file-name": "a name of letters, digits, _ . -"}
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@cache
def _schema(model: type[Section]) -> dict[str, Any]:
    """JSON Schema with every reference in it replaced by what it refers to."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(entry) for entry in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(definitions[node["$ref"].rpartition("/")[2]])
        return {name: resolved(entry) for name, entry in node.items()}

    return resolved(schema)


def alternatives(key: Key, model: type[Section] = StudyModel) -> list[dict[str, Any]]:
    """Schemas that the value under ``key`` may follow; none if there is no such key. {} allows anything."""
    nodes = _resolve(_schema(model))
    for part in key:
        nodes = [
            resolved for node in nodes for child in _children(node, part) for resolved in _resolve(child)
        ]
    return nodes


def names(key: Key, model: type[Section] = StudyModel) -> list[str]:
    """Keys that the schema names below ``key``."""
    return list(dict.fromkeys(name for node in alternatives(key, model) for name in node.get("properties", {})))


def expected(key: Key, model: type[Section] = StudyModel) -> str:
    """What the schema expects under ``key``, such as 'a whole number >= 1'."""
    return _phrase(alternatives(key, model))


def unknown(key: Key, model: type[Section] = StudyModel) -> str:
    """Message for a key that the schema does not have: the nearest name, and those allowed."""
    now = RENAMED.get(shown(key))
    if now is not None:
        return f"is named '{now}' now; write {now} in its place"
    allowed = names(key[:-1], model)
    close = get_close_matches(str(key[-1])[:MAX_SHOWN], allowed, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown key; {hint}allowed: {', '.join(allowed) or 'none here'}"


def found(value: Any) -> str:
    """A value from a YAML file in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"{str(value).lower()} (true or false)"
        case str():
            return f"'{clipped(value)}' (text)"
        case int() | float():
            return f"{clipped(str(value))} ({'a number' if math.isfinite(value) else 'not finite'})"
        case Mapping():
            return f"a mapping of {clipped(', '.join(map(str, value)), 200) or 'nothing'}"
        case Sequence():
            return f"a list of {len(value)}"
    return f"{value} ({type(value).__name__})"


def kind(value: Any) -> str:
    """An object that is of another kind than expected, in words: a plain value, or the name of its class."""
    if isinstance(value, str | int | float | Mapping | Sequence | None):
        return found(value)
    return getattr(value, "__name__", type(value).__name__)


def clipped(text: str, length: int = MAX_SHOWN) -> str:
    """The text, shortened for a message where it is long."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def shown(key: Key) -> str:
    """A key as ``--set`` takes it, each part of it shortened where it is long."""
    return ".".join(clipped(str(part)) for part in key)


def _resolve(node: Any) -> list[dict[str, Any]]:
    if not isinstance(node, dict):
        return [{}]
    options = node.get("anyOf") or node.get("oneOf")
    if options:
        return [resolved for option in options for resolved in _resolve(option)]
    return [node]


def _children(node: Mapping[str, Any], part: str | int) -> Iterable[Any]:
    if not node:
        yield {}
    elif isinstance(part, int):
        prefix = node.get("prefixItems", [])
        if part < len(prefix):
            yield prefix[part]
        elif "items" in node:
            yield node["items"]
    elif part in node.get("properties", {}):
        yield node["properties"][part]
    elif node.get("type") == "object" and node.get("additionalProperties", True) is not False:
        yield node.get("additionalProperties", True)


def _phrase(nodes: Iterable[dict[str, Any]]) -> str:
    phrases = [_one(node) for node in nodes if node.get("type") != "null"]
    return " or ".join(dict.fromkeys(phrases)) or "nothing"


def _one(node: Mapping[str, Any]) -> str:
    if "const" in node:
        return f"'{node['const']}'"
    if "enum" in node:
        return f"one of {', '.join(node['enum'])}"
    limits = "".join(f" {sign} {node[limit]}" for limit, sign in _LIMITS.items() if limit in node)
    match node.get("type"):
        case "integer":
            return "a whole number" + limits
        case "number":
            return "a number" + limits
        case "string":
            return _TEXTS.get(node.get("format", ""), "text")
        case "array" if "prefixItems" in node:
            items = ", ".join(_phrase(_resolve(item)) for item in node["prefixItems"])
            return f"a list of {len(node['prefixItems'])}: {items}"
        case "array":
            return f"a list, each entry {_phrase(_resolve(node['items']))}"
        case "object" if "properties" in node:
            return f"a mapping with the keys {', '.join(node['properties'])}"
        case "object":
            return f"a mapping from names, each to {_phrase(_resolve(node['additionalProperties']))}"
    return "a value"
