"""From design parameters to fields and functionals: theta -> nodes -> clouds -> mGNO -> fields -> integrals.

The operator predicts the change from the reference solution: ``u = u_ref + D s N`` at the moved mesh nodes,
with ``u_ref`` moved by the map and ``D`` zero on the Dirichlet boundary, where prescribed values
that move with the mesh hold exactly. ``s`` is the scale of the change over the training set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shapewright.geometries.design.point_cloud import PointCloud, boundary_cloud, nodal_cloud
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.precision import full_precision
from shapewright.surrogate.mgno.graded_coordinates import GradedCoordinates
from shapewright.surrogate.mgno.latent_grid import LatentGrid, grid_around
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig
from shapewright.surrogate.models.functionals import Functional, integrate_all


@dataclass(frozen=True)
class Normalization:
    """Reference fields (N, c), Dirichlet factor (N, c) and scale (c,) of the predicted change."""

    reference: Tensor
    factor: Tensor
    scale: Tensor


class DesignSurrogate(nn.Module):
    """A differentiable stand-in for the solver on one family of shapes.

    Args:
        shape_map: family and reference mesh of N nodes.
        space: names of the c field components.
        functionals: what is integrated; the first is the objective.
        config: sizes of the operator.
        grid: latent grid.
        normalization: see the module.
        grading: coordinates of the latent grid, if not the points' own.
        contrast: factor on the difference of a shape's encoding from that of the reference shape. Shapes that differ
            by less than a cell of the latent grid differ little there, beside what they share.
    """

    reference: Tensor
    factor: Tensor
    scale: Tensor

    def __init__(
        self,
        shape_map: ShapeMap,
        space: FieldSpace,
        functionals: Sequence[Functional],
        config: OperatorConfig,
        grid: LatentGrid,
        normalization: Normalization,
        grading: GradedCoordinates | None = None,
        contrast: float | None = None,
    ) -> None:
        super().__init__()
        self.shape_map, self.space, self.functionals = shape_map, space, tuple(functionals)
        self.grading, self.contrast = grading, contrast
        self.operator = MollifiedGraphNeuralOperator(
            grid, config, 0, len(shape_map.mesh.tag_names), len(space.components)
        )
        self.register_buffer("reference", normalization.reference)
        self.register_buffer("factor", normalization.factor)
        self.register_buffer("scale", normalization.scale)

    def fields(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (B, N, 2) and fields (B, N, c) of designs theta (B, P).

        Raises:
            OutsideGridError: a design leaves the latent grid.
        """
        nodes = self.shape_map.nodes(theta)
        return nodes, self.fields_at(nodes)

    def fields_at(self, nodes: Tensor) -> Tensor:
        """Fields (B, N, c) for node positions (B, N, 2)."""
        interior, boundary = self.clouds(nodes)
        latent = self.encode(interior, boundary)
        change = self.operator.decode(latent, interior.points, interior.shape_index)
        return self.reference + self.factor * self.scale * change.unflatten(0, nodes.shape[:2])

    def clouds(self, nodes: Tensor) -> tuple[PointCloud, PointCloud]:
        """What the operator sees of nodes (B, N, 2), inside and on the boundary, in the grid's coordinates."""
        interior, boundary = nodal_cloud(self.shape_map, nodes), boundary_cloud(self.shape_map, nodes)
        if self.grading is None:
            return interior, boundary
        return self.grading.interior(interior), self.grading.boundary(boundary)

    def encode(self, interior: PointCloud, boundary: PointCloud) -> Tensor:
        """(B, *grid, width) latent fields of the shapes with these :meth:`clouds`."""
        encoding = self.operator.encoding(interior, boundary)
        if self.contrast is not None:
            reference = self.operator.encoding(*self.clouds(constant(self.shape_map.reference_nodes, encoding)[None]))
            encoding = reference + self.contrast * (encoding - reference)
        return self.operator.transform(encoding)

    def evaluate(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Fields (B, N, c) and functionals (B, J) of designs theta (B, P)."""
        nodes, fields = self.fields(theta)
        return fields, integrate_all(self.functionals, self.space, self.shape_map.mesh, nodes, fields)

    def value_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Functionals (B, J) and their exact gradients (B, J, P) in theta, by reverse mode."""
        theta = theta.detach().requires_grad_()
        with _constant_weights(self):
            values = self.evaluate(theta)[1]
            return values.detach(), _gradients(values, theta)


@contextmanager
def _constant_weights(network: nn.Module) -> Iterator[None]:
    """Record nothing for derivatives by the weights, and compute none."""
    changed = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


@full_precision
def _gradients(values: Tensor, theta: Tensor) -> Tensor:
    """(B, J, P) of values (B, J), each of its own row of theta (B, P)."""
    last = values.shape[1] - 1
    return torch.stack(
        [torch.autograd.grad(value.sum(), theta, retain_graph=j < last)[0] for j, value in enumerate(values.unbind(1))],
        1,
    )


def latent_grid_for(
    shape_map: ShapeMap,
    shape: Sequence[int],
    radius: int,
    grading: GradedCoordinates | None = None,
    bounds: Tensor | None = None,
    seed: int = 0,
) -> LatentGrid:
    """Latent grid that holds every design of the family's box, and of a study's own ``bounds`` (P, 2).

    A B-spline stays in the hull of its control points; their extent is taken over random corners and inner points
    of the box, and a map that does not fold keeps every mesh node inside the boundary.
    """
    own = shape_map.family.bounds
    bounds = own if bounds is None else torch.stack(
        [torch.minimum(own[:, 0], bounds[:, 0]), torch.maximum(own[:, 1], bounds[:, 1])], 1
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(4096, len(bounds), generator=generator, dtype=torch.float64)
    theta = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * torch.cat([uniform, uniform.round()])
    points = shape_map.family.control_points(theta).flatten(0, 1)
    if grading is not None:
        points = grading.map(points)
    return grid_around(points.amin(0).tolist(), points.amax(0).tolist(), shape, radius)
