"""The shipped families by name, and families from a user's own Python file."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shapewright.geometries.family import built_in
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import FamilyError
from shapewright.geometries.user_file import UserFileError, load_object


def builtin_families() -> dict[str, Callable[..., Family]]:
    """Constructors of the shipped families by name."""
    return {name: getattr(built_in, name) for name in built_in.__all__}


def load_family(spec: str, options: Mapping[str, Any], folder: Path) -> Family:
    """Build the family ``spec``: a shipped name, or ``file.py:Name`` with the file relative to ``folder``.

    ``Name`` is a callable that takes the options as keywords and returns a :class:`Family`, or a Family itself.

    Raises:
        FamilyError: says what was found and what is allowed.
    """
    if ":" in spec:
        try:
            constructor: Any = load_object(spec, folder, "family", "Curve, Family, FamilyError, Parameter, Rays")
        except UserFileError as error:
            raise FamilyError(str(error)) from error
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
