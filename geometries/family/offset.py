"""A boundary moved along its normal by a distance, as manufacturing moves it: B-spline control points, differentiable.

A curve x(t) = sum_j N_j(t) C_j moves by a spline of its own basis that interpolates the distance times the normal at
the Greville abscissae, so that curves are offset to the order of the spline. Where two curves meet, the joint moves to
where both offset tangents meet; a curve that stays counts with distance zero, so that a wall slides along an inlet.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.family.parts import FamilyParts
from shapewright.geometries.family.spline import Curve

DAMPING = 1e-9
"""Of the joint's equations, which are singular where two curves join smoothly; then the joint moves along the normal
that both have."""


def offset_points(family: FamilyParts, control_points: Tensor, distance: float, tags: tuple[str, ...]) -> Tensor:
    """(..., n, 2) control points of the domain whose boundary regions ``tags`` lie further out by ``distance``.

    Args:
        family: whose curves these are.
        control_points: (..., n, 2) of all curves in order.
        distance: along the outward normal of the domain; the domain grows where it is positive.
        tags: regions that move.
    """
    moved = []
    for index, (loop, rows) in enumerate(zip(family.loops, family.loop_slices, strict=True)):
        outward = 1.0 if index == 0 else -1.0  # every loop is counter-clockwise, and the domain lies around a hole
        moved.append(_offset_loop(loop, control_points[..., rows, :], outward * distance, tags))
    return torch.cat(moved, -2)


def _offset_loop(loop: tuple[Curve, ...], points: Tensor, distance: float, tags: tuple[str, ...]) -> Tensor:
    starts = np.cumsum([0, *(curve.count for curve in loop)])
    parts = [points[..., a:b, :] for a, b in pairwise(starts)]
    normals = [_normals(curve, part) for curve, part in zip(loop, parts, strict=True)]
    distances = [distance if curve.tag in tags else 0.0 for curve in loop]
    moved = []
    for k, (curve, part, normal) in enumerate(zip(loop, parts, normals, strict=True)):
        wanted = distances[k] * normal
        if not curve.periodic:
            before, after = (k - 1) % len(loop), (k + 1) % len(loop)
            first = _joint(normals[before][..., -1, :], normal[..., 0, :], distances[before], distances[k])
            last = _joint(normal[..., -1, :], normals[after][..., 0, :], distances[k], distances[after])
            wanted = torch.cat([first[..., None, :], wanted[..., 1:-1, :], last[..., None, :]], -2)
        _, _, inverse = _collocation(curve)
        moved.append(part + inverse.to(points) @ wanted)
    return torch.cat(moved, -2)


def _normals(curve: Curve, points: Tensor) -> Tensor:
    """(..., m, 2) unit normals at the Greville abscissae, to the right of the curve's sense."""
    _, slopes, _ = _collocation(curve)
    tangent = slopes.to(points) @ points
    unit = tangent / tangent.norm(dim=-1, keepdim=True)
    return torch.stack([unit[..., 1], -unit[..., 0]], -1)


def _joint(before: Tensor, after: Tensor, moved_before: float, moved_after: float) -> Tensor:
    """(..., 2) motion of a joint by which both curves, with unit normals (..., 2) there, move by their distances."""
    rows = torch.stack([before, after], -2)
    wanted = rows.new_tensor([[moved_before], [moved_after]])
    square = rows.mT @ rows + DAMPING * torch.eye(2).to(rows)
    return torch.linalg.solve(square, rows.mT @ wanted)[..., 0]


@lru_cache(maxsize=64)
def _collocation(curve: Curve) -> tuple[Tensor, Tensor, Tensor]:
    """Basis (m, m) at the Greville abscissae, its derivative, and the inverse of the first."""
    count, degree, knots = curve.count, curve.degree, curve.knots
    at = np.array([knots[j + 1 : j + degree + 1].mean() for j in range(count)])
    at = at % count if curve.periodic else np.clip(at, 0.0, curve.spans)
    values = curve.basis(at)
    slopes, inverse = curve.basis(at, 1), np.linalg.inv(values)
    return torch.from_numpy(values), torch.from_numpy(slopes), torch.from_numpy(inverse)


def moving_tags(family: FamilyParts) -> tuple[str, ...]:
    """Boundary regions that some parameter moves."""
    low, high = family.bounds.T
    designs = torch.stack([family.reference, low, high, *(family.reference + torch.diag(0.1 * (high - low)))])
    points = family.control_points(designs)
    moves = (points - points[0]).abs().amax((0, 2)) > 1e-12 * points.abs().max()
    starts = np.cumsum([0, *(curve.count for curve in family.curves)])
    found = [c.tag for c, a, b in zip(family.curves, starts[:-1], starts[1:], strict=True) if bool(moves[a:b].any())]
    return tuple(dict.fromkeys(found))
