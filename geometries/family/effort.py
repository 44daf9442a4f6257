"""Estimates of the memory of a family and its mesh before either is made, and limits that ``--force`` lifts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from shapewright.geometries.family.parts import FamilyParts

MOST_NODES = 500_000
"""Nodes of a mesh at most."""

MOST_BYTES = 8e9
"""Memory of what is made for a family at most."""

BYTES_PER_NODE = 12_000.0
"""Memory per node of mesh, factorization and adjoint of a flow: 10,400 at 27,000 nodes, growing like a logarithm."""

_forced: ContextVar[bool] = ContextVar("forced", default=False)


@contextmanager
def forcing(force: bool = True) -> Iterator[None]:
    """Families and meshes beyond the limits are made within this block, if ``force``; what holds outside stays."""
    token = _forced.set(force or _forced.get())
    try:
        yield
    finally:
        _forced.reset(token)


def forced() -> bool:
    """Whether the limits are lifted."""
    return _forced.get()


def estimated_nodes(family: FamilyParts, control_points: NDArray[np.float64], mesh_size: float) -> float:
    """Nodes of a mesh with cells of ``mesh_size`` at the part of a design (n, 2), within about a third.

    Equilateral cells of the size that the mesher is asked for, two nodes for each, over the area; and a row of cells
    along every outline, which is all there is where the domain is narrower than they are.
    """
    import shapely  # which a family does without where nothing is meshed

    outlines = [family.outline(control_points, loop) for loop in range(len(family.loops))]
    lengths = [np.linalg.norm(np.diff(outline, axis=0, append=outline[:1]), axis=-1).sum() for outline in outlines]
    domain = shapely.Polygon(outlines[0], outlines[1:])
    low, extent = control_points.min(0), np.ptp(control_points, axis=0)
    steps = (np.arange(100) + 0.5) / 100
    grid = low + extent * np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    inside = grid[shapely.contains_xy(domain, grid)]
    growth = np.ones(1)
    if len(inside):
        tags = {curve.tag for curve in family.loops[family.part]}
        near = [at for at, loop in zip(outlines, family.loops, strict=True) if tags & {curve.tag for curve in loop}]
        far = KDTree(np.concatenate(near)).query(inside)[0] / (0.4 * extent.min())
        growth = 1 + (family.grading - 1) * np.minimum(far, 1)
    with np.errstate(divide="ignore", over="ignore"):
        cells = 4 / math.sqrt(3) * domain.area * (growth**-2).mean() / np.float64(mesh_size) ** 2
        return float(2 * cells + sum(lengths) / np.float64(mesh_size))


def estimated_bytes(family: FamilyParts, nodes: float = 0.0) -> float:
    """Memory of what is made for a family: all pairs of points around its part, and its matrices of basis functions."""
    points = sum(curve.count for curve in family.curves)
    around = sum(6 * curve.spans for curve in family.loops[family.part])
    pairs, quadrature, slopes = 330.0 * around**2, 128.0 * points**2, 32.0 * points * len(family.parameters)
    return pairs + quadrature + slopes + 8.0 * points * nodes


def effort_fault(family: FamilyParts) -> str | None:
    """Why the family is not made without being forced to, in words; None if it is within the limits."""
    expected = estimated_bytes(family)
    if expected <= MOST_BYTES or forced():
        return None
    points = sum(curve.count for curve in family.curves)
    return (
        f"option control_points: {points} control points and {len(family.parameters)} parameters take about"
        f" {in_words(expected)} of memory; the limit is {in_words(MOST_BYTES)}: give fewer, or --force to go on"
    )


def mesh_fault(family: FamilyParts, control_points: NDArray[np.float64], mesh_size: float) -> str | None:
    """Why a mesh is not made without being forced to, in words; None if it is within the limits."""
    if forced():
        return None
    nodes = estimated_nodes(family, control_points, mesh_size)
    expected = BYTES_PER_NODE * nodes + estimated_bytes(family, nodes)
    if nodes <= MOST_NODES and expected <= MOST_BYTES:
        return None
    return (
        f"cells of size {mesh_size:g} make about {nodes:.2g} nodes, which take about {in_words(expected)} of memory;"
        f" the limit is {MOST_NODES} nodes and {in_words(MOST_BYTES)}: make them larger, or give --force to go on"
    )


def in_words(count: float) -> str:
    """A number of bytes with its unit."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g} bytes"
