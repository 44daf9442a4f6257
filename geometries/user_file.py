"""Objects from a user's own Python file, named ``my_file.py:Name`` in a study."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

OLD_PACKAGES = ("geometries", "solvers", "surrogate", "studies", "app")
"""Names under which the parts of this package were imported before it was one."""


class UserFileError(ValueError):
    """A user's own file that cannot be used; the text says what was found."""


def file_of(spec: str, folder: Path) -> Path | None:
    """The file that ``file.py:Name`` means, relative to ``folder``; None for a name alone."""
    file, own, _ = spec.rpartition(":")
    return folder / file if own else None


def load_object(spec: str, folder: Path, kind: str, names: str) -> object:
    """The object ``Name`` of ``file.py:Name``, the file relative to ``folder``; the file is executed.

    Args:
        spec: as in the study.
        folder: of the study.
        kind: what it is meant to be, for messages.
        names: public names of this package that such a file imports, for messages.

    Raises:
        UserFileError: no such file, not Python, it fails on import, or defines no such name.
    """
    file, _, name = spec.rpartition(":")
    path = (folder / file).resolve()
    if not path.is_file():
        raise UserFileError(f"{kind} '{spec}': there is no file {path}")
    module_spec = importlib.util.spec_from_file_location(f"user_{kind}_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise UserFileError(f"{kind} '{spec}': {path} is not a Python file (*.py)")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses in the file look themselves up there
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in OLD_PACKAGES:
            hint = f"; write `from shapewright import {names}` (those you need)"
        what = f"{type(error).__name__}: {error}{hint}"
        raise UserFileError(f"{kind} '{spec}': {path} fails on import: {what}") from error
    if not hasattr(module, name):
        raise UserFileError(f"{kind} '{spec}': {path} defines no '{name}'")
    return getattr(module, name)
