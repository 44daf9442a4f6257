"""The shipped families; each made here knows its name and options, so that a study of it can be written as YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from shapewright.geometries.family import body_in_channel as _body_in_channel
from shapewright.geometries.family import cavity as _cavity
from shapewright.geometries.family import closed_bar as _closed_bar
from shapewright.geometries.family import plate_with_hole as _plate_with_hole
from shapewright.geometries.family import porous_square as _porous_square
from shapewright.geometries.family import star_domain as _star_domain
from shapewright.geometries.family.family import Family

__all__ = ["closed_bar", "body_in_channel", "star_domain", "porous_square", "cavity", "plate_with_hole"]  # noqa: RUF022


def _recorded[**P](make: Callable[P, Family]) -> Callable[P, Family]:
    """The same constructor, whose families have an ``origin``."""

    @wraps(make)
    def made(*args: P.args, **options: P.kwargs) -> Family:
        family = make(*args, **options)
        object.__setattr__(family, "origin", (make.__name__, inspect.signature(make).bind(*args, **options).arguments))
        return family

    return made


closed_bar = _recorded(_closed_bar.closed_bar)
body_in_channel = _recorded(_body_in_channel.body_in_channel)
star_domain = _recorded(_star_domain.star_domain)
porous_square = _recorded(_porous_square.porous_square)
cavity = _recorded(_cavity.cavity)
plate_with_hole = _recorded(_plate_with_hole.plate_with_hole)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    raise AttributeError(f"there is no family '{name}'; there are {', '.join(__all__)}")
