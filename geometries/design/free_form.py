"""Free-form deformation of space with zones that stay: F(x) = x + w(x) sum_k B_k(x) C_k(theta).

B_k are the functions of a :class:`lattice.Lattice`, C_k the motion of its control points, linear in theta, and w the
freedom left by the keep zones (:mod:`keep_zones`). F is the identity, to the last digit, on every zone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shapewright.geometries.design.keep_zones import KeepZone, freedom, freedom_gradient
from shapewright.geometries.design.lattice import Lattice
from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import determinant, inverse
from shapewright.geometries.mesh.precision import full_precision

LEAST_INFLUENCE = 0.01
"""A parameter that moves no point of the part by this share of its value is left out."""
CHUNK = 2**21
"""Numbers in the largest table of one step of an evaluation."""
NEWTON_STEPS = 30


@dataclass(frozen=True)
class FreeForm:
    """The map F.

    Attributes:
        lattice: of control points.
        zones: that stay.
        columns: which of the lattice's parameters are design parameters, in their order; see :func:`free_form`.
    """

    lattice: Lattice
    zones: tuple[KeepZone, ...]
    columns: tuple[int, ...]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The P design parameters, in the order of theta."""
        return tuple(self.lattice.reduction[1][column] for column in self.columns)

    @property
    def bounds(self) -> Tensor:
        """(P, 2) float64 lower and upper bounds."""
        return torch.tensor([[p.lower, p.upper] for p in self.parameters], dtype=torch.float64)

    @property
    def default(self) -> Tensor:
        """(P,) float64 zeros: the part as it came."""
        return torch.zeros(len(self.columns), dtype=torch.float64)

    @property
    def reference(self) -> Tensor:
        """(P,) float64 the design whose mesh is moved to every other: the part as it came."""
        return self.default

    @cached_property
    def _reduction(self) -> Tensor:
        return self.lattice.reduction[0][:, list(self.columns)]

    @full_precision
    def control_points(self, theta: Tensor) -> Tensor:
        """(..., K, 3) motion of the control points of the designs theta (..., P)."""
        moved = theta @ constant(self._reduction, theta).mT
        return moved.unflatten(-1, (self.lattice.count, 3))

    def influence(self, points: Tensor) -> Tensor:
        """(n, K) motion of points (n, 3) by that of each control point: w B_k."""
        return freedom(self.zones, points)[:, None] * self.lattice.basis(points)

    def influence_gradient(self, points: Tensor) -> Tensor:
        """(n, 3, K) derivative of the influence with respect to the position."""
        own = freedom(self.zones, points)[:, None, None] * self.lattice.basis_gradient(points)
        return own + freedom_gradient(self.zones, points)[:, :, None] * self.lattice.basis(points)[:, None, :]

    def moved(self, theta: Tensor, points: Tensor) -> Tensor:
        """(..., n, 3) F of points (n, 3) for designs theta (..., P)."""
        control = self.control_points(theta)
        parts = [part + self.influence(part) @ control for part in self._chunks(points, 2)]
        return torch.cat(parts, -2)

    def gradient(self, theta: Tensor, points: Tensor) -> Tensor:
        """(..., n, 3, 3) grad F with [i, j] = dF_i / dx_j."""
        control = self.control_points(theta)
        parts = [gradient_of(self.influence_gradient(part), control) for part in self._chunks(points, 9)]
        return torch.cat(parts, -3)

    def determinants(self, theta: Tensor, points: Tensor) -> Tensor:
        """(..., n) det grad F."""
        return determinant(self.gradient(theta, points))

    def inverse(self, theta: Tensor, points: Tensor, tolerance: float = 1e-13) -> Tensor:
        """(n, 3) positions that a design theta (P,) maps onto points (n, 3), by Newton's method.

        Args:
            theta: design.
            points: targets.
            tolerance: largest distance of an image from its target, in diagonals of the lattice's box.

        Raises:
            ShapeError: it does not converge, as where F folds.
        """
        size = math.dist(self.lattice.low, self.lattice.high)
        found = points.clone()
        left = torch.ones(len(points), dtype=torch.bool, device=points.device)
        for _ in range(NEWTON_STEPS):
            gap = points[left] - self.moved(theta, found[left])
            step = (inverse(self.gradient(theta, found[left])) @ gap[..., None])[..., 0]
            length = step.norm(dim=-1, keepdim=True)
            found[left] += step * (self.lattice.limit / length.clamp_min(self.lattice.limit))
            left[left.clone()] = ~(gap.norm(dim=-1) <= tolerance * size)
            if not left.any():
                return found
        worst = points[left][0].tolist()
        raise ShapeError(
            f"inverse of the deformation: {int(left.sum())} of {len(points)} points were not found in {NEWTON_STEPS}"
            f" Newton steps, the first at {', '.join(f'{x:.6g}' for x in worst)}: the map folds there or nearly does"
        )

    def check(self, theta: Tensor, points: Tensor) -> float:
        """Least det grad F over points (n, 3), a dense sample of the part.

        Raises:
            ShapeError: it is not positive; OpenCASCADE's own check calls a folded solid valid.
        """
        values = self.determinants(theta, points)
        least = float(values.min())
        if not least > 0:
            at = ", ".join(f"{x:.6g}" for x in points[int(values.argmin())].tolist())
            raise ShapeError(
                f"folded map: det grad F is {least:.3g} at {at}; it must stay positive (smaller limit or wider zones)"
            )
        return least

    def _chunks(self, points: Tensor, tables: int) -> Iterator[Tensor]:
        yield from points.split(max(1, CHUNK // (tables * self.lattice.count)))


def gradient_of(influence_gradient: Tensor, control: Tensor) -> Tensor:
    """(..., n, 3, 3) grad F from the influence's gradient (n, 3, K) and control points (..., K, 3)."""
    identity = torch.eye(3, dtype=control.dtype, device=control.device)
    return identity + (influence_gradient.flatten(0, 1) @ control).unflatten(-2, (-1, 3)).mT


def smooth_minimum(values: Tensor, sharpness: float) -> Tensor:
    """(...) lower bound of the least of values (..., n), below it by at most log(n) / sharpness.

    G. Kreisselmeier, R. Steinhauser, IFAC Proc. 12 (1979) 113.
    """
    return -torch.logsumexp(-sharpness * values, -1) / sharpness


def free_form(lattice: Lattice, zones: tuple[KeepZone, ...], points: Tensor) -> FreeForm:
    """The map of a lattice around a part of which ``points`` (n, 3) are a sample.

    Raises:
        ShapeError: the box and the part have no point in common, or no parameter moves a point of the part by 1 % of
            its value: the zones leave no freedom.
    """
    low, high = (points.new_tensor(corner) for corner in (lattice.low, lattice.high))
    if (points.amax(0) < low).any() or (points.amin(0) > high).any():
        part = ", ".join(f"{a:.6g} to {b:.6g}" for a, b in zip(points.amin(0), points.amax(0), strict=True))
        raise ShapeError(f"lattice: box from {lattice.low} to {lattice.high} lies outside the part, which is {part}")
    reduction, _ = lattice.reduction
    largest = torch.zeros(reduction.shape[1], dtype=torch.float64)
    whole = FreeForm(lattice, zones, tuple(range(len(largest))))
    axes = reduction.unflatten(0, (-1, 3)).movedim(1, 0)
    for some in whole._chunks(points, 2 + 2 * reduction.shape[1] // lattice.count):
        influence = whole.influence(some)
        for axis in axes:
            largest = torch.maximum(largest, (influence @ axis).abs().amax(0))
    columns = tuple(torch.nonzero(largest >= LEAST_INFLUENCE).flatten().tolist())
    if not columns:
        raise ShapeError(
            "keep: the zones around the faces that stay leave no freedom: no control point moves a point of the part"
            f" by {LEAST_INFLUENCE:.0%} of its own motion; keep fewer faces or make the zones narrower"
        )
    return FreeForm(lattice, zones, columns)
