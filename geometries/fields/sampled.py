"""The named quantities of a formula at points of a solved mesh, in torch, and their extremes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints

Array = NDArray[np.float64]


def sample_quantities(
    problem: Problem,
    quadrature: CellPoints | FacetPoints,
    components: Mapping[str, Array],
    parameters: Mapping[str, float],
) -> dict[str, Tensor | float]:
    """Name -> value at the points of ``place``, from nodal values (N,) of every component and the parameters."""
    q = {"x": quadrature.points[..., 0], "y": quadrature.points[..., 1], **parameters}
    for name, nodal in components.items():
        field = torch.from_numpy(nodal)
        q[name] = quadrature.interpolate(field)
        q[f"{name}_x"], q[f"{name}_y"] = quadrature.gradient(field).unbind(-1)
    if isinstance(quadrature, FacetPoints):
        q["nx"], q["ny"] = quadrature.normals.unbind(-1)
    for coefficient in problem.physics.coefficients:
        given = problem.coefficients.get(coefficient.name)
        q[coefficient.name] = coefficient.default if given is None else given(torch, q)
    sources = {c: function(torch, q) for c, function in problem.sources.items()}
    return q | {names.source(c): sources.get(c, 0.0) for c in problem.physics.components}


@dataclass(frozen=True, eq=False)
class Profile:
    """Values of a quantity at many points of a boundary region, or of the domain.

    Attributes:
        points: (S, 2) where.
        values: (S,) the quantity.
        weights: (S,) arc length (area) of each point; they sum to that of the region.
        slope: largest between neighbouring points of a facet; None in the domain.
    """

    points: Array
    values: Array
    weights: Array
    slope: float | None

    @property
    def maximum(self) -> float:
        """Largest value."""
        return float(self.values.max())

    @property
    def minimum(self) -> float:
        """Least value."""
        return float(self.values.min())

    @property
    def mean(self) -> float:
        """Average over the arc length (area)."""
        return float(self.values @ self.weights / self.weights.sum())

    @property
    def flatness(self) -> float:
        """Largest less least value, over the average; 0 for a constant."""
        return (self.maximum - self.minimum) / abs(self.mean)

    @property
    def point_of_maximum(self) -> Array:
        """(2,) point of the largest value."""
        return self.points[int(self.values.argmax())]


def profile_of(quadrature: CellPoints | FacetPoints, values: Tensor | float) -> Profile:
    """The profile of values (K, Q), or of one number, at the points of ``place``."""
    spread = torch.as_tensor(values, dtype=torch.float64).expand(quadrature.weights.shape)
    slope = None
    if isinstance(quadrature, FacetPoints):
        slope = float((spread.diff(dim=1).abs() / quadrature.points.diff(dim=1).norm(dim=-1)).max())
    points, weights = quadrature.points.reshape(-1, 2), quadrature.weights.reshape(-1)
    return Profile(points.numpy(), spread.reshape(-1).numpy(), weights.numpy(), slope)
