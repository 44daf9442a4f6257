"""Kinds of random domains: each draws the loops of one shape, the outer one first, at any size.

The drawing is wide on purpose; what cannot be meshed or is too thin is refused and drawn again by
:func:`domain.random_domain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from shapewright.geometries.population.loops import (
    Array,
    Loop,
    control_loop,
    joined,
    loop_through,
    polygon,
    random_cuts,
)

Generator = np.random.Generator
MOST_ASPECT = 4.0
"""Largest ratio of length to width that is drawn."""


def _aspect(generator: Generator, most: float = MOST_ASPECT) -> float:
    """A ratio from 1 to ``most``, its logarithm uniformly distributed."""
    return float(most ** generator.random())


def _on_circle(count: int) -> Array:
    angles = 2 * math.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def _stretched(points: Array, aspect: float) -> Array:
    """Points stretched to ``aspect`` along x at constant area."""
    return points * np.array([math.sqrt(aspect), 1 / math.sqrt(aspect)])


def _random_radii(generator: Generator, count: int, most: float) -> Array:
    """(count,) distances from the center: independent ones, or a few random waves; ``most`` is the largest swing."""
    swing = generator.uniform(0.15, 1.0) * most
    if generator.random() < 0.5:
        return 1 + swing * generator.uniform(-1, 1, count)
    orders = np.arange(1, generator.integers(2, max(count // 2, 3)) + 1)
    weights = generator.normal(size=(2, len(orders))) * orders ** -generator.uniform(-0.5, 1.5)
    phases = 2 * math.pi * np.outer(np.arange(count) / count, orders)
    waves = np.cos(phases) @ weights[0] + np.sin(phases) @ weights[1]
    return np.exp(swing * waves / np.abs(waves).max())


def _body(generator: Generator, least: int, most: int, aspect: float, swing: float) -> Array:
    """(n, 2) control points of a closed curve around the origin, of radius about 1 and random direction."""
    count = int(generator.integers(least, most + 1))
    rays = _on_circle(count) * _random_radii(generator, count, swing)[:, None]
    return _turned(_stretched(rays, _aspect(generator, aspect)), generator.uniform(0, 2 * math.pi))


def _turned(points: Array, angle: float) -> Array:
    sine, cosine = math.sin(angle), math.cos(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _ellipse(generator: Generator, aspect: float) -> Loop:
    """A hole: a circle or an ellipse of area pi around the origin."""
    points = _on_circle(12) if generator.random() < 0.4 else _stretched(_on_circle(12), _aspect(generator, aspect))
    return loop_through(_turned(points, generator.uniform(0, math.pi)))


def _positioned(loop: Loop, radius: float, x: float, y: float) -> Loop:
    """A loop around the origin, ``radius`` times as large and around (x, y)."""
    return loop.moved(radius * np.eye(2), np.array([x, y]))


def _rounded(generator: Generator, corners: list[tuple[float, float]] | Array, most: float = 0.45) -> Loop:
    """A polygon with all corners rounded, by up to ``most`` of the shorter adjacent side."""
    at = np.asarray(corners, dtype=float)
    sides = np.linalg.norm(np.roll(at, -1, 0) - at, axis=1)
    shorter = np.minimum(sides, np.roll(sides, 1))
    return polygon(at, generator.uniform(0.2, most, len(at)) * shorter)


def _rectangle(length: float, height: float) -> Array:
    return np.array([[0, 0], [length, 0], [length, height], [0, height]], dtype=float)


def spline(generator: Generator) -> list[Loop]:
    """A periodic cubic B-spline of 5 to 24 control points."""
    return [control_loop(_body(generator, 5, 24, MOST_ASPECT, 0.7), random_cuts(generator))]


def superellipse(generator: Generator) -> list[Loop]:
    """abs(x)^p + abs(y)^p = 1, stretched, with p from 2 to 8."""
    power = 2 * _aspect(generator, 4.0)
    dense = _on_circle(4000)
    dense /= (np.abs(dense) ** power).sum(1, keepdims=True) ** (1 / power)
    steps = np.linalg.norm(np.roll(dense, -1, 0) - dense, axis=1)
    evenly = np.searchsorted(np.cumsum(steps), np.arange(32) / 32 * steps.sum())
    return [loop_through(_stretched(dense[evenly], _aspect(generator)), random_cuts(generator))]


def rounded_polygon(generator: Generator) -> list[Loop]:
    """A triangle to hexagon with rounded corners."""
    count = int(generator.integers(3, 7))
    angles = 2 * math.pi * (np.arange(count) + generator.uniform(-0.25, 0.25, count)) / count
    corners = generator.uniform(0.65, 1.2, (count, 1)) * np.stack([np.cos(angles), np.sin(angles)], -1)
    return [_rounded(generator, _stretched(corners, _aspect(generator, 2.5)))]


def _wavy_rectangle(generator: Generator) -> Loop:
    """A plate whose long edges, and sometimes the short ones, are B-splines of 5 to 12 control points."""
    length = _aspect(generator)
    corners = _rectangle(length, 1.0)
    if generator.random() < 0.5:
        corners[:, 1] += generator.uniform(-0.15, 0.15, 4)
    wavy = [True, generator.random() < 0.3] * 2
    pieces = []
    for k in range(4):
        first, last = corners[k], corners[(k + 1) % 4]
        if not wavy[k]:
            pieces.append(np.stack([first, last]))
            continue
        count = int(generator.integers(5, 13))
        points = first + np.linspace(0, 1, count)[:, None] * (last - first)
        points[1:-1, 1 - k % 2] += generator.uniform(0.05, 0.3) * generator.uniform(-1, 1, count - 2)
        pieces.append(points)
    return joined(pieces)


def wavy_plate(generator: Generator) -> list[Loop]:
    """A plate with wavy edges."""
    return [_wavy_rectangle(generator)]


def l_section(generator: Generator) -> list[Loop]:
    """An angle of two legs."""
    height = generator.uniform(0.7, 1.6)
    flange, web = generator.uniform(0.14, 0.5, 2)
    corners = [(0, 0), (1, 0), (1, flange), (web, flange), (web, height), (0, height)]
    return [_rounded(generator, corners)]


def t_section(generator: Generator) -> list[Loop]:
    """A flange on a web, which need not stand in the middle."""
    height = generator.uniform(0.7, 1.6)
    flange, web = generator.uniform(0.14, 0.4, 2)
    left = generator.uniform(0.2, 0.8) * (1 - web)
    top = height + flange
    corners = [(left, 0), (left + web, 0), (left + web, height), (1, height), (1, top), (0, top), (0, height)]
    return [_rounded(generator, [*corners, (left, height)])]


def i_section(generator: Generator) -> list[Loop]:
    """Two flanges of different width on a web."""
    height = generator.uniform(0.7, 1.6)
    lower, upper, web = generator.uniform(0.14, 0.32, 3)
    wide, w = generator.uniform(0.3, 0.5), web / 2
    top = height + upper
    right = [(0.5, -lower), (0.5, 0), (w, 0), (w, height), (wide, height), (wide, top)]
    return [_rounded(generator, [*right, *[(-x, y) for x, y in reversed(right)]])]


def box_section(generator: Generator) -> list[Loop]:
    """A hollow box with walls of different thickness."""
    height = _aspect(generator, 2.0)
    left, right, below, above = generator.uniform(0.1, 0.3, 4)
    inner = [(left, below), (1 - right, below), (1 - right, height - above), (left, height - above)]
    hole = _rounded(generator, inner)
    return [_rounded(generator, _rectangle(1.0, height), 0.3), Loop(hole.curves, hole.points)]


def plate_with_holes(generator: Generator) -> list[Loop]:
    """A rectangle with 1 to 3 circles or ellipses cut out; its corners may be sharp."""
    count = int(generator.integers(1, 4))
    least = max(1.0, 0.7 * count)
    length = least * _aspect(generator, 3.2 / least)
    plate = _rectangle(length, 1.0)
    outer = polygon(plate, np.zeros(4)) if generator.random() < 0.5 else _rounded(generator, plate, 0.35)
    holes = [_ellipse(generator, 2.0) for _ in range(count)]
    reach = np.array([np.linalg.norm(hole.points, axis=1).max() for hole in holes])
    scale = math.sqrt(length)  # of the plate; cells are about an eighth of it
    most = np.minimum(0.32 * scale / count**0.7, (0.5 - 0.16 * scale) / reach)
    radii = generator.uniform(0.07 * scale, np.maximum(most, 0.075 * scale))
    margins = (radii * reach + 0.16 * scale)[:, None]
    for _ in range(1000):  # until they are apart; if they never are, the plate will be refused
        centers = margins + generator.uniform(0, 1, (count, 2)) * ([length, 1.0] - 2 * margins)
        between = np.linalg.norm(centers[:, None] - centers, axis=-1) - margins - margins.T
        if between[np.triu_indices(count, 1)].min(initial=0.0) > -0.16 * scale:
            break
    holes = [_positioned(hole, *at) for hole, at in zip(holes, np.column_stack([radii, centers]), strict=True)]
    return [outer, *holes]


def body_in_channel(generator: Generator) -> list[Loop]:
    """A rectangular channel around a body bounded by a periodic B-spline."""
    length = generator.uniform(1.3, 3.5)
    body = control_loop(_body(generator, 6, 16, 2.5, 0.3))
    x, y = generator.uniform(0.2, 0.7) * length, generator.uniform(0.3, 0.7)
    return [polygon(_rectangle(length, 1.0), np.zeros(4)), _positioned(body, generator.uniform(0.13, 0.28), x, y)]


def cavity(generator: Generator) -> list[Loop]:
    """A skewed box with bulged walls under a straight lid."""
    corners = _rectangle(_aspect(generator, 2.5), 1.0)
    corners[2:, 0] += generator.uniform(-0.4, 0.4)
    pieces = []
    for k in range(4):
        first, side = corners[k], corners[(k + 1) % 4] - corners[k]
        wall = first + np.linspace(0, 1, 4)[:, None] * side
        wall[1:3] += generator.uniform(-0.3, 0.3) * np.array([side[1], -side[0]]) / np.linalg.norm(side)
        pieces.append(np.stack([first, first + side]) if k == 2 else wall)
    return [joined(pieces)]


def c_section(generator: Generator) -> list[Loop]:
    """A channel section: two flanges on one side of a web."""
    height = generator.uniform(0.9, 1.8)
    lower, upper, web = generator.uniform(0.14, 0.3, 3)
    wide = generator.uniform(0.7, 1.1)
    inner = [(wide, height), (wide, height - upper), (web, height - upper), (web, lower), (1, lower)]
    return [_rounded(generator, [(0, 0), (1, 0), *reversed(inner), (0, height)])]


def eccentric_ring(generator: Generator) -> list[Loop]:
    """The domain between two circles of different centers."""
    inner = generator.uniform(0.2, 0.65)
    off = generator.uniform(0.1, 0.9) * (1 - inner)
    hole = _positioned(loop_through(_on_circle(16)), inner, off, 0.0)
    return [loop_through(_on_circle(16), random_cuts(generator)), hole]


def rounded_cross(generator: Generator) -> list[Loop]:
    """A cross of four arms of different length and width."""
    east, north, west, south = generator.uniform(0.5, 1.0, 4)
    a, b = generator.uniform(0.12, 0.3, 2)
    corners = [(east, -b), (east, b), (a, b), (a, north), (-a, north), (-a, b), (-west, b), (-west, -b)]
    return [_rounded(generator, [*corners, (-a, -b), (-a, -south), (a, -south), (a, -b)], 0.48)]


def splined_plate_with_hole(generator: Generator) -> list[Loop]:
    """A plate with wavy edges and a hole bounded by a periodic B-spline."""
    outer = _wavy_rectangle(generator)
    length = float(outer.points[:, 0].max())
    hole = control_loop(_body(generator, 6, 14, 2.0, 0.35))
    x, y = generator.uniform(0.25, 0.75) * length, generator.uniform(0.35, 0.65)
    return [outer, _positioned(hole, generator.uniform(0.15, 0.3), x, y)]


Draw = Callable[[Generator], list[Loop]]
_TRAINING: tuple[Draw, ...] = (
    spline,
    superellipse,
    rounded_polygon,
    wavy_plate,
    l_section,
    t_section,
    i_section,
    box_section,
    plate_with_holes,
    body_in_channel,
    cavity,
)
_HELD_OUT: tuple[Draw, ...] = (c_section, eccentric_ring, rounded_cross, splined_plate_with_hole)

DRAW: dict[str, Draw] = {draw.__name__: draw for draw in (*_TRAINING, *_HELD_OUT)}
"""How the loops of each kind are drawn."""
KINDS = tuple(draw.__name__ for draw in _TRAINING)
"""Kinds to train on."""
UNSEEN = tuple(draw.__name__ for draw in _HELD_OUT)
"""Kinds for held-out tests only, never in a training."""
