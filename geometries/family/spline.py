"""B-spline boundary curves: basis values, and exact measures of the region that they bound.

Every curve is linear in its control points, ``x(t) = sum_j N_j(t) C_j``, so a basis matrix computed once
turns any batch of control points into curve points, tangents, areas and centroids in torch.

Formulas: L. Piegl, W. Tiller, *The NURBS Book* (1997), chapters 2 and 3; area and centroid by Green's theorem.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from torch import Tensor


@dataclass(frozen=True)
class Curve:
    """One B-spline piece of a boundary loop; its control points are given by the family.

    Attributes:
        tag: name of the boundary region it belongs to.
        count: number of control points.
        degree: 1 (a straight line between its two control points) or 3.
        periodic: closed on itself with knots 0..count; otherwise clamped to its end points.
    """

    tag: str
    count: int
    degree: int = 3
    periodic: bool = False

    def __post_init__(self) -> None:
        line = self.degree == 1 and self.count == 2 and not self.periodic
        if not line and (self.degree != 3 or self.count < 4):
            raise ValueError(
                f"curve '{self.tag}': degree {self.degree}, {self.count} control points, periodic {self.periodic};"
                " allowed are lines (degree 1, 2 points), clamped cubics (4 or more), periodic cubics (4 or more)"
            )

    @property
    def spans(self) -> int:
        """Number of polynomial pieces; the parameter runs over [0, spans]."""
        return self.count if self.periodic else self.count - self.degree

    @property
    def knots(self) -> NDArray[np.float64]:
        """Full knot vector with repetitions."""
        if self.periodic:
            return np.arange(-self.degree, self.count + self.degree + 1, dtype=float)
        ends = self.degree
        return np.concatenate([np.zeros(ends), np.arange(self.spans + 1.0), np.full(ends, float(self.spans))])

    def basis(self, t: NDArray[np.float64], derivative: int = 0) -> NDArray[np.float64]:
        """(len(t), count) values of the basis functions, or of a derivative of them, at ``t`` in [0, spans]."""
        knots = self.knots
        columns = len(knots) - self.degree - 1
        values = BSpline(knots, np.eye(columns), self.degree)(np.asarray(t, dtype=float), nu=derivative)
        folded = np.zeros((len(values), self.count))
        for column in range(columns):  # a periodic curve has three more functions than control points
            folded[:, column % self.count] += values[:, column]
        return folded


@dataclass(frozen=True)
class LoopQuadrature:
    """Gauss quadrature along consecutive curves: exact for area and centroid, spectral for arc length.

    Attributes:
        curves: the pieces in order.
        points_per_span: Gauss points per polynomial piece; 5 are exact for the centroid (degree 8).
    """

    curves: tuple[Curve, ...]
    points_per_span: int = 8

    @cached_property
    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        gauss, weights = np.polynomial.legendre.leggauss(self.points_per_span)
        total = sum(curve.count for curve in self.curves)
        start = 0
        values: list[NDArray[np.float64]] = []
        slopes: list[NDArray[np.float64]] = []
        measure: list[NDArray[np.float64]] = []
        for curve in self.curves:
            t = (np.arange(curve.spans)[:, None] + (gauss + 1) / 2).ravel()
            for store, derivative in ((values, 0), (slopes, 1)):
                block = np.zeros((len(t), total))
                block[:, start : start + curve.count] = curve.basis(t, derivative)
                store.append(block)
            measure.append(np.tile(weights / 2, curve.spans))
            start += curve.count
        joined = [torch.from_numpy(np.concatenate(part)) for part in (values, slopes, measure)]
        return joined[0], joined[1], joined[2]

    def __call__(self, control_points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points (..., Q, 2), tangents dx/dt (..., Q, 2) and weights dt (Q,) for control points (..., n, 2)."""
        values, slopes, dt = (part.to(control_points) for part in self._matrices)
        return values @ control_points, slopes @ control_points, dt

    def area(self, control_points: Tensor) -> Tensor:
        """Area (...,) enclosed by the loop, positive when counter-clockwise."""
        x, dx, dt = self(control_points)
        return 0.5 * ((x[..., 0] * dx[..., 1] - x[..., 1] * dx[..., 0]) * dt).sum(-1)

    def centroid(self, control_points: Tensor) -> Tensor:
        """Centroid (..., 2) of the enclosed region."""
        x, dx, dt = self(control_points)
        moment_x = 0.5 * (x[..., 0] ** 2 * dx[..., 1] * dt).sum(-1)
        moment_y = -0.5 * (x[..., 1] ** 2 * dx[..., 0] * dt).sum(-1)
        return torch.stack([moment_x, moment_y], -1) / self.area(control_points)[..., None]

    def perimeter(self, control_points: Tensor) -> Tensor:
        """Arc length (...,) of the loop."""
        _, dx, dt = self(control_points)
        return (dx.norm(dim=-1) * dt).sum(-1)


def loop_matrix(curves: tuple[Curve, ...], samples_per_span: int, derivative: int = 0) -> NDArray[np.float64]:
    """(S, n) basis of a closed loop at equally spaced parameters, each curve without its last point."""
    total, rows, start = sum(curve.count for curve in curves), [], 0
    for curve in curves:
        spans = max(curve.spans, 8) if curve.degree == 1 else curve.spans  # a long line needs points too
        t = np.arange(spans * samples_per_span) / (spans * samples_per_span) * curve.spans
        block = np.zeros((len(t), total))
        block[:, start : start + curve.count] = curve.basis(t, derivative)
        rows.append(block)
        start += curve.count
    return np.concatenate(rows)
