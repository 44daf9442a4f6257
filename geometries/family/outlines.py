"""Exact predicates on the outlines of a design: simple curves, holes inside the domain and apart from each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from shapely import LinearRing, Polygon

from shapewright.geometries.family.family import Family


class ShapeError(ValueError):
    """A design that is no valid shape; the text names what is wrong with it."""


def check_outlines(family: Family, control_points: NDArray[np.float64]) -> None:
    """Refuse control points (n, 2) whose loops, as polygons of 32 sides per span, bound no domain.

    Raises:
        ShapeError: not finite, self-intersecting, outside the domain, or holes that overlap.
    """
    if not np.isfinite(control_points).all():
        raise ShapeError("control points are not finite")
    outlines = [family.outline(control_points, loop) for loop in range(len(family.loops))]
    names = [loop[0].tag for loop in family.loops]
    for name, outline in zip(names, outlines, strict=True):
        if not LinearRing(outline).is_simple:
            raise ShapeError(f"self-intersecting curve: the outline '{name}' crosses itself")
    outer, *holes = (Polygon(outline) for outline in outlines)
    for name, hole in zip(names[1:], holes, strict=True):
        if not outer.contains_properly(hole):
            raise ShapeError(f"outside the domain: the outline '{name}' leaves '{names[0]}'")
    for (first, hole), (second, other) in combinations(zip(names[1:], holes, strict=True), 2):
        if hole.intersects(other):
            raise ShapeError(f"overlapping holes: the outlines '{first}' and '{second}' meet")
