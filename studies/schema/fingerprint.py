"""A hash of what a Python object does: of the code that it runs and of the values that it uses.

Stages and certificates hash a study. Where a study holds functions and objects in place of text, these hashes stand for
them. They change with values in attributes, closures and defaults, with the text of every file of the user's own that
the code lies in or that such a file imports, and, where there is no file, with the code of functions and classes.
Functions and classes of installed libraries and of this package count by their names.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

PREFIX = "python:"
"""Beginning of the text that stands for an object."""
_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))
Seen = dict[Any, int]
"""What was visited, by identity, or by name where it is a module's text; with the order of the first visits."""


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
    for part in _parts(value, {}):
        digest.update(part + b"\0")
    return digest.hexdigest()[:16]


def _parts(value: Any, seen: Seen) -> Iterator[bytes]:
    if isinstance(value, str | bytes | int | float | complex | bool | None):
        yield repr(value).encode()
        return
    if id(value) in seen:
        yield f"visit {seen[id(value)]}".encode()
        return
    seen[id(value)] = len(seen)
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
        yield from sorted(part for entry in value for part in _parts(entry, {}))
    elif isinstance(value, type | ModuleType) or not hasattr(value, "__dict__"):
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)!s}".encode()
        if isinstance(value, type):
            yield from _class(value, seen)
        elif isinstance(value, ModuleType):
            yield from _own_text(value.__name__, seen)
    else:
        yield from _class(type(value), seen)
        if dataclasses.is_dataclass(value):
            values = [getattr(value, field.name) for field in dataclasses.fields(value) if field.compare]
        else:
            values = [getattr(value, "__func__", None), vars(value)]
        yield from _all(values, seen)


def _class(kind: type, seen: Seen) -> Iterator[bytes]:
    """Text of the user's own files in which a class and its bases are; where there is no file, their functions."""
    for base in kind.__mro__:
        if _is_library(base.__module__) or ("class", id(base)) in seen:
            continue
        seen["class", id(base)] = len(seen)
        yield f"{base.__module__}.{base.__qualname__}".encode()
        yield from _own_text(base.__module__, seen)
        for name, entry in sorted(vars(base).items()):
            function = entry.__func__ if isinstance(entry, staticmethod | classmethod) else entry
            function = function.fget if isinstance(function, property) else function
            if isinstance(function, FunctionType) and not _is_library(function.__module__):
                yield name.encode()
                yield from _parts(function, seen)


def _is_library(module: str | None) -> bool:
    """Whether a module belongs to Python, to an installed library or to this package."""
    root = (module or "").partition(".")[0]
    if root in ("shapewright", *sys.builtin_module_names, *sys.stdlib_module_names) and root != "__main__":
        return True
    path = _file(module)
    return path is not None and any(path.is_relative_to(folder) for folder in _LIBRARIES)


def _file(module: str | None) -> Path | None:
    """Source file of a module; None where it has none, as in an interactive session."""
    found = getattr(sys.modules.get(module or ""), "__file__", None)
    path = None if found is None else Path(found).resolve()
    return path if path is not None and path.is_file() else None


def _own_text(module: str | None, seen: Seen) -> Iterator[bytes]:
    """Text of a user's own file, and of those of the user's own that its names come from."""
    if _is_library(module) or ("text", module) in seen:
        return
    seen["text", module] = len(seen)
    path = _file(module)
    if path is None:
        return
    yield path.read_bytes()
    used = {v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None)
            for v in list(vars(sys.modules[module or ""]).values())}  # fmt: skip
    for name in sorted(name for name in used if isinstance(name, str)):
        yield from _own_text(name, seen)


def _all(values: Any, seen: Seen) -> Iterator[bytes]:
    for value in values:
        yield from _parts(value, seen)


def _function(function: Callable[..., Any], seen: Seen) -> Iterator[bytes]:
    """Code, defaults, closure, the globals that the code names, and the text of the user's own files it lies in."""
    yield from _own_text(function.__module__, seen)
    yield from _all((function.__code__, function.__defaults__, function.__kwdefaults__), seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # not assigned yet
            yield b"empty"
    for name in sorted(_names(function.__code__)):
        used = function.__globals__.get(name)
        if isinstance(used, FunctionType) and used.__module__ != function.__module__ and _is_library(used.__module__):
            yield f"{used.__module__}.{used.__qualname__}".encode()
        elif name in function.__globals__:
            yield from _parts(used, seen)


def _names(code: CodeType) -> set[str]:
    """Global names in a function and in the functions within it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)
