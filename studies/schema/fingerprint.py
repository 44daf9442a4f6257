"""A hash of what a Python object does: of the code of its functions and of the values that they use.

Stages and certificates hash a study. Where a study holds functions and objects in place of text, these hashes stand for
them: they change with the code, with the values in closures and defaults, and with functions of the same module that
are called. Functions and classes of libraries count by their names.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

PREFIX = "python:"
"""Beginning of the text that stands for an object."""


def object_text(value: Any) -> str:
    """Text that stands for an object: ``python:NAME#HASH``."""
    name = getattr(value, "name", None) or getattr(value, "__qualname__", type(value).__name__)
    return f"{PREFIX}{name}#{fingerprint(value)}"


def object_keys(data: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Keys in plain data of the texts that stand for objects."""
    if isinstance(data, dict | list):
        for name, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from object_keys(item, (*key, name))
    elif isinstance(data, str) and data.startswith(PREFIX):
        yield key


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits, equal for objects that do the same by the same code."""
    digest = hashlib.sha256()
    for part in _parts(value, set()):
        digest.update(part + b"\0")
    return digest.hexdigest()[:16]


def _parts(value: Any, seen: set[int]) -> Iterator[bytes]:
    if isinstance(value, str | bytes | int | float | complex | bool | None):
        yield repr(value).encode()
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    yield type(value).__qualname__.encode()
    if isinstance(value, np.ndarray):
        yield repr((value.shape, value.dtype.str)).encode() + value.tobytes()
    elif isinstance(value, CodeType):
        yield value.co_code + repr(value.co_names).encode()
        yield from _all(value.co_consts, seen)
    elif isinstance(value, FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, functools.partial):
        yield from _all((value.func, value.args, value.keywords), seen)
    elif isinstance(value, Mapping):
        yield from _all([entry for item in value.items() for entry in item], seen)
    elif isinstance(value, tuple | list):
        yield from _all(value, seen)
    elif isinstance(value, set | frozenset):
        yield from sorted(part for entry in value for part in _parts(entry, set()))
    elif isinstance(value, type | ModuleType) or not hasattr(value, "__dict__"):
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)!s}".encode()
    elif dataclasses.is_dataclass(value):
        yield from _all([getattr(value, field.name) for field in dataclasses.fields(value) if field.compare], seen)
    else:
        yield from _all([type(value).__module__, getattr(value, "__func__", None), vars(value)], seen)
        call = getattr(type(value), "__call__", None)  # noqa: B004
        if isinstance(call, FunctionType):
            yield from _parts(call, seen)


def _all(values: Any, seen: set[int]) -> Iterator[bytes]:
    for value in values:
        yield from _parts(value, seen)


def _function(function: Callable[..., Any], seen: set[int]) -> Iterator[bytes]:
    """Code, defaults, closure, and the globals that the code names, of the function's own module alone if functions."""
    yield from _all((function.__code__, function.__defaults__, function.__kwdefaults__), seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # not assigned yet
            yield b"empty"
    for name in sorted(_names(function.__code__)):
        used = function.__globals__.get(name)
        if isinstance(used, FunctionType) and used.__module__ != function.__module__:
            yield f"{used.__module__}.{used.__qualname__}".encode()
        elif name in function.__globals__:
            yield from _parts(used, seen)


def _names(code: CodeType) -> set[str]:
    """Global names in a function and in the functions within it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)
