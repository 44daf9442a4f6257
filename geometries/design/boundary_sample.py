"""Points on the B-spline outline itself, as many as wanted, independent of any mesh."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.design.point_cloud import PointCloud
from shapewright.geometries.family.family import Family


def outline_cloud(family: Family, theta: Tensor, count: int, shift: float = 0.5) -> PointCloud:
    """About ``count`` boundary points of designs theta (B, P), equally spaced in the curves' parameters.

    Each curve gets its share by its length in the reference design, two at least. On a closed curve the equal weights
    are the trapezoidal rule, limited only by the spline's smoothness; on an open one the midpoint rule, of second
    order, if ``shift`` is a half.

    Args:
        family: outlines counter-clockwise, holes too.
        theta: (B, P) designs.
        count: points per design.
        shift: position of the points in their intervals, in [0, 1).
    """
    poles = family.control_points(theta)
    shares = _shares(family, count)
    hole = [index > 0 for index, loop in enumerate(family.loops) for _ in loop]
    points, tangents, tags, start = [], [], [], 0
    names = family.tags
    for curve, share, inward in zip(family.curves, shares, hole, strict=True):
        t = (np.arange(share) + shift) / share * curve.spans
        own = poles[:, start : start + curve.count]
        values, slopes = (torch.from_numpy(curve.basis(t, k)).to(theta) for k in (0, 1))
        points.append(values @ own)
        tangents.append((slopes @ own) * (curve.spans / share) * (-1 if inward else 1))
        tags += [names.index(curve.tag)] * share
        start += curve.count
    at, along = torch.cat(points, 1), torch.cat(tangents, 1)
    weights = along.norm(dim=-1)
    normals = torch.stack([along[..., 1], -along[..., 0]], -1) / weights[..., None]
    each = at.shape[1]
    return PointCloud(
        points=at.flatten(0, 1),
        weights=weights.flatten(),
        normals=normals.flatten(0, 1),
        tags=torch.tensor(tags, device=theta.device).repeat(len(theta)),
        offsets=torch.arange(len(theta) + 1, device=theta.device) * each,
        tag_names=names,
    )


def _shares(family: Family, count: int) -> list[int]:
    poles, lengths, start = family.control_points(family.reference).numpy(), [], 0
    for curve in family.curves:
        outline = curve.basis(np.linspace(0, curve.spans, 200)) @ poles[start : start + curve.count]
        lengths.append(np.linalg.norm(np.diff(outline, axis=0), axis=-1).sum())
        start += curve.count
    return [max(2, round(count * length / sum(lengths))) for length in lengths]
