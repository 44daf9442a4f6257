"""One operator for every shape of a physics: point clouds with their data -> mGNO -> a few fields -> their best sum.

The network sees a domain through clouds of interior and boundary points with the data as features, all of it
dimensionless (:func:`shapes.dimensionless`), and gives fields N_k. The solution is sought in the span of all D N_k p
(:mod:`models.galerkin`), with D that vanishes where a component is prescribed, and p all polynomials of the coordinates
to some degree. That finds amplitudes which vary in space, so that the network has to know local forms only, as the
functions that enrich a partition of unity (I. Babuska, J. M. Melenk, Int. J. Numer. Methods Eng. 40 (1997) 727).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.geometries.design.point_cloud import INTERIOR, PointCloud
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig
from shapewright.surrogate.models.galerkin import LinearPhysics, System, assemble
from shapewright.surrogate.models.shapes import Points, Shapes

EXTENT = 2.6
"""Half the width of the box, in radii of gyration about the centroid, that a domain has to lie in."""
TYPICAL = 1.7
"""Half the width of a square domain, in radii of gyration: about where the coordinates of most domains end."""


@dataclass(frozen=True)
class ShapeOperatorConfig:
    """Sizes.

    Attributes:
        operator: of the mGNO.
        fields: that the network gives, one of them a vector of all components.
        nodes: of the latent grid along each axis.
        degree: of the polynomials of the coordinates; times these the fields are the K ones in whose span the solution
            is sought. It is not the network's, and may change without training.
    """

    operator: OperatorConfig = field(default_factory=lambda: OperatorConfig(48, 48, (10, 10), 4))
    fields: int = 8
    nodes: int = 44
    degree: int = 6


class ShapeOperator(nn.Module):
    """Fields of all domains of a linear physics.

    Args:
        physics: of the problem.
        grid: latent grid about the origin, :data:`EXTENT` wide to either side.
        config: sizes.
    """

    def __init__(self, physics: LinearPhysics, grid: LatentGrid, config: ShapeOperatorConfig) -> None:
        super().__init__()
        self.physics, self.config = physics, config
        c, hidden = len(physics.components), config.operator.hidden
        self.operator = MollifiedGraphNeuralOperator(
            grid, config.operator, 3 * c + len(physics.parameters), 0, hidden, boundary_functions=3 * c + 1
        )
        self.local = nn.Linear(hidden + c, hidden)
        self.fields = nn.Linear(hidden, c * config.fields)

    def basis(self, shapes: Shapes) -> Tensor:
        """(B, N, c, K) fields of dimensionless shapes, zero where their components are prescribed."""
        interior, boundary, inner, outer = clouds(shapes)
        latent = self.operator.encode(interior, boundary, inner, outer)
        count, nodes = shapes.nodes.shape[:2]
        owner = torch.arange(count, device=shapes.nodes.device).repeat_interleave(nodes, output_size=count * nodes)
        near = self.operator.decode(latent, shapes.nodes.flatten(0, 1), owner).unflatten(0, (count, nodes))
        known = torch.cat([functional.gelu(near), shapes.factor], -1)
        found = self.fields(functional.gelu(self.local(known)))
        fields = found.unflatten(-1, (-1, self.config.fields)) * shapes.factor[..., None]
        amplitudes = polynomials(shapes.nodes, self.config.degree)
        return (fields[..., None] * amplitudes[:, :, None, None]).flatten(-2)

    def forward(self, shapes: Shapes) -> System:
        """Energies of the fields of dimensionless shapes, in double precision: many fields are nearly dependent."""
        basis = self.basis(shapes).double()
        return assemble(self.physics, shapes.to(basis), basis)


def polynomials(points: Tensor, degree: int) -> Tensor:
    """(..., M) products of Legendre polynomials of points (..., d) in units of :data:`TYPICAL`, to a total degree."""
    scaled = points / TYPICAL
    rows = [torch.ones_like(scaled), scaled]
    for n in range(1, degree):
        rows.append(((2 * n + 1) * scaled * rows[n] - n * rows[n - 1]) / (n + 1))
    orders = [o for o in product(range(degree + 1), repeat=points.shape[-1]) if sum(o) <= degree]
    return torch.stack([reduce(mul, (rows[n][..., axis] for axis, n in enumerate(order))) for order in orders], -1)


def clouds(shapes: Shapes) -> tuple[PointCloud, PointCloud, Tensor, Tensor]:
    """Interior and boundary points of dimensionless shapes, and the features at each."""
    inside, around = shapes.cell_points(2), shapes.facet_points(2)
    known = inside.interpolate(torch.cat([shapes.factor, shapes.lifting, shapes.source], -1))
    numbers = shapes.parameters[:, None, None].expand(*known.shape[:3], -1)
    inner = torch.cat([known, numbers], -1).flatten(0, 2)
    given = around.interpolate(shapes.lifting)
    prescribed = shapes.prescribed[:, :, None].expand_as(given)
    film = shapes.robin.log1p()[:, :, None, None].expand(*given.shape[:3], 1)
    outer = torch.cat([prescribed, prescribed * given, shapes.flux_at(around), film], -1).flatten(0, 2)
    return _cloud(inside, None), _cloud(around, around.normals), inner, outer


def _cloud(points: Points, normals: Tensor | None) -> PointCloud:
    count = len(points.points)
    where = points.points.flatten(0, 2)
    per_shape = len(where) // count
    tags = torch.full((len(where),), INTERIOR, device=where.device)
    return PointCloud(
        points=where,
        weights=points.weights.flatten(),
        normals=torch.zeros_like(where) if normals is None else normals.flatten(0, 2),
        tags=tags,
        offsets=torch.arange(count + 1, device=where.device) * per_shape,
        tag_names=(),
    )
