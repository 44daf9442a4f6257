"""The shipped families by name, and families from a user's own Python file."""

from __future__ import annotations

import importlib.util
import inspect
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shapewright.geometries.family.body_in_channel import body_in_channel
from shapewright.geometries.family.cavity import cavity
from shapewright.geometries.family.closed_bar import closed_bar
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import FamilyError
from shapewright.geometries.family.plate_with_hole import plate_with_hole
from shapewright.geometries.family.porous_square import porous_square
from shapewright.geometries.family.star_domain import star_domain

OLD_PACKAGES = ("geometries", "solvers", "surrogate", "studies", "app")
"""Names under which the parts of this package were imported before it was one."""


def builtin_families() -> dict[str, Callable[..., Family]]:
    """Constructors of the shipped families by name."""
    return {
        "closed_bar": closed_bar,
        "body_in_channel": body_in_channel,
        "star_domain": star_domain,
        "porous_square": porous_square,
        "cavity": cavity,
        "plate_with_hole": plate_with_hole,
    }


def load_family(spec: str, options: Mapping[str, Any], folder: Path) -> Family:
    """Build the family ``spec``: a shipped name, or ``file.py:Name`` with the file relative to ``folder``.

    ``Name`` is a callable that takes the options as keywords and returns a :class:`Family`, or a Family itself.

    Raises:
        FamilyError: says what was found and what is allowed.
    """
    if ":" in spec:
        constructor: Any = _from_file(spec, folder)
    else:
        families = builtin_families()
        if spec not in families:
            shipped = ", ".join(families)
            raise FamilyError(f"unknown family '{spec}'; shipped are {shipped}, or your own as my_shapes.py:Name")
        constructor = families[spec]
    if isinstance(constructor, Family):
        if options:
            raise FamilyError(f"family '{spec}' takes no options, found {sorted(options)}")
        return constructor
    if not callable(constructor):
        raise FamilyError(f"'{spec}' is a {type(constructor).__name__}; allowed is a function that returns a Family")
    allowed = inspect.signature(constructor).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values())
    unknown = sorted(set(options) - set(allowed))
    if unknown and not takes_any:
        raise FamilyError(f"family '{spec}': unknown option {unknown}; allowed are {list(allowed)}")
    try:
        family = constructor(**options)
    except FamilyError:
        raise
    except Exception as error:
        raise FamilyError(f"family '{spec}' with options {reprlib.repr(dict(options))}: {error}") from error
    if not isinstance(family, Family):
        raise FamilyError(f"'{spec}' returned {type(family).__name__}; allowed is a shapewright.Family")
    return family


def _from_file(spec: str, folder: Path) -> object:
    file, _, name = spec.rpartition(":")
    path = (folder / file).resolve()
    if not path.is_file():
        raise FamilyError(f"family '{spec}': there is no file {path}")
    module_spec = importlib.util.spec_from_file_location(f"user_family_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise FamilyError(f"family '{spec}': {path} is not a Python file (*.py)")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses in the file look themselves up there
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in OLD_PACKAGES:
            hint = "; write `from shapewright import Curve, Family, FamilyError, Parameter, Rays` (those you need)"
        raise FamilyError(f"family '{spec}': {path} fails on import: {type(error).__name__}: {error}{hint}") from error
    if not hasattr(module, name):
        raise FamilyError(f"family '{spec}': {path} defines no '{name}'")
    return getattr(module, name)
