"""Messages about a study that fails its schema: one line for each key, in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from pydantic import ValidationError

from shapewright.studies.schema.base import Section
from shapewright.studies.schema.describe import Key, clipped, expected, found, shown, unknown

MAX_MESSAGES = 20
"""Errors of one study that are told in full."""


class Located(Protocol):
    """Where the keys of a study come from."""

    @property
    def name(self) -> str:
        """Of the whole, for messages."""

    def location(self, key: Key) -> tuple[int, str]:
        """Number to sort by, and the location in words, of the nearest key that was given."""


def report(error: ValidationError, data: Mapping[str, Any], source: Located, model: type[Section]) -> str:
    """The messages of a failed validation of ``data``; of very many the first ones."""
    messages: dict[Key, Callable[[], str]] = {}
    mismatches: list[Key] = []
    for detail in error.errors(include_url=False):
        key, value = _locate(detail["loc"], data)
        if detail["type"] == "study":
            key = (*key, *key_of(detail["ctx"]["key"]))
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
    lines = [
        f"{location}: {shown(key)}: {clipped(messages[key](), 500)}" for _, location, key in located[:MAX_MESSAGES]
    ]
    if len(located) > MAX_MESSAGES:
        lines.append(f"{source.name}: {len(located) - MAX_MESSAGES} further errors")
    return "\n".join(lines)


def key_of(text: str) -> Key:
    """A key from its text, such as ``constraints.0.equals``."""
    return tuple(int(part) if is_index(part) else part for part in text.split(".") if part)


def is_index(part: str) -> bool:
    """Whether a part of a key is the index of a list."""
    return part.isdecimal() and len(part) < 10


def _missing(key: Key, model: type[Section]) -> str:
    return f"missing; expected {expected(key, model)}"


def _mismatch(key: Key, value: Any, model: type[Section]) -> str:
    return f"found {found(value)}; expected {expected(key, model)}"


def _locate(location: tuple[str | int, ...], data: Any) -> tuple[Key, Any]:
    """Key and value that a pydantic location means: names of alternatives in it are skipped."""
    key: Key = ()
    for part in location:
        is_list = isinstance(data, list | tuple)
        if part in data if isinstance(data, Mapping) else is_list and part in range(len(data)):
            key, data = (*key, part), data[part]
    return key, data
