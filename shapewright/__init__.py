"""Shape optimization with a neural-operator surrogate and a finite-element certificate: the public names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapewright.geometries.family.family import Family as Family
    from shapewright.geometries.family.parts import FamilyError as FamilyError
    from shapewright.geometries.family.parts import Parameter as Parameter
    from shapewright.geometries.family.parts import Rays as Rays
    from shapewright.geometries.family.spline import Curve as Curve

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "geometries" / "__init__.py").is_file():  # the rooms lie beside this folder, not in it
    __path__.append(str(_CHECKOUT))

_HOME = {
    "Curve": "geometries.family.spline",
    "Family": "geometries.family.family",
    "FamilyError": "geometries.family.parts",
    "Parameter": "geometries.family.parts",
    "Rays": "geometries.family.parts",
}
"""Public name -> module; each is imported at its first use, so that importing the package costs nothing."""

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'shapewright' has no attribute '{name}'; it has {', '.join(_HOME)}")
    return getattr(importlib.import_module(f"shapewright.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*_HOME]
