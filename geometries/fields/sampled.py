"""The named quantities of a formula at points of a solved mesh, in torch, and their extremes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.fields.quantities import Quantities, field_space, nodal_quantities
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints

Array = NDArray[np.float64]


def sample_quantities(
    problem: Problem,
    quadrature: CellPoints | FacetPoints,
    components: Mapping[str, Array],
    parameters: Mapping[str, float],
) -> Quantities:
    """Quantities at quadrature points, from nodal values (N,) of every component and the values of the parameters."""
    nodal = {name: torch.from_numpy(values) for name, values in components.items()}
    return nodal_quantities(field_space(problem, parameters), quadrature, nodal)


@dataclass(frozen=True, eq=False)
class Profile:
    """Values of a quantity at many points of a boundary region, or of the domain.

    Attributes:
        points: (S, d) where.
        values: (S,) the quantity.
        weights: (S,) arc length (area) of each point; they sum to that of the region.
        slope: largest between neighbouring points of a facet that is a curve; None in the domain and on surfaces.
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
        """Smallest value."""
        return float(self.values.min())

    @property
    def mean(self) -> float:
        """Mean over the arc length (area)."""
        return float(self.values @ self.weights / self.weights.sum())

    @property
    def flatness(self) -> float:
        """Difference of the largest and the smallest value over the mean; 0 for a constant."""
        return (self.maximum - self.minimum) / abs(self.mean)

    @property
    def point_of_maximum(self) -> Array:
        """(d,) point of the largest value."""
        return self.points[int(self.values.argmax())]


def profile_of(quadrature: CellPoints | FacetPoints, values: Tensor | float) -> Profile:
    """The profile of values (K, Q), or of one number, at quadrature points."""
    spread = torch.as_tensor(values, dtype=torch.float64).expand(quadrature.weights.shape)
    slope = None
    if isinstance(quadrature, FacetPoints) and quadrature.points.shape[-1] == 2:
        slope = float((spread.diff(dim=1).abs() / quadrature.points.diff(dim=1).norm(dim=-1)).max())
    points, weights = quadrature.points.flatten(0, -2), quadrature.weights.reshape(-1)
    return Profile(points.numpy(), spread.reshape(-1).numpy(), weights.numpy(), slope)
