"""From instances of a problem to fields: clouds with their input functions -> mGNO -> u = G + D s N.

G has the prescribed boundary values, D vanishes where they hold (see :mod:`design.dirichlet_lift`), N is what the
network gives and s a scale per component. The network sees a problem only through its point clouds: sources and
coefficients at interior points, prescribed values at boundary points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from shapewright.geometries.design.boundary_sample import outline_cloud
from shapewright.geometries.design.dirichlet_lift import DirichletLift
from shapewright.geometries.design.point_cloud import PointCloud, sobol_cloud
from shapewright.geometries.fields.names import coordinates
from shapewright.geometries.mesh.integration import CellPoints, cell_points
from shapewright.geometries.mesh.locate import values_at
from shapewright.geometries.mesh.quadrature import random_triangle_quadrature
from shapewright.surrogate.mgno.derivatives import FieldDerivatives, field_derivatives
from shapewright.surrogate.mgno.latent_grid import LatentGrid
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig
from shapewright.surrogate.models.instances import Instances, Population
from shapewright.surrogate.models.point_quantities import Function, ProblemData, at_points


@dataclass(frozen=True)
class InputFunction:
    """A function of position that is an input of the network: sources and coefficients inside, values on regions."""

    name: str
    function: Function
    tag: str | None = None


def input_functions(data: ProblemData, parameters: Sequence[str]) -> list[InputFunction]:
    """What varies from instance to instance: every source, coefficient and prescribed value that is a formula.

    Plain constants are left out: the weights know them. A coefficient that depends on the fields is left out as well.
    """
    found = [InputFunction(f"source of {component}", function) for component, function in data.sources.items()]
    found += [InputFunction(name, function) for name, function in data.coefficients.items()]
    found += [InputFunction(f"{c.component} on {c.tag}", c.value, c.tag) for c in data.dirichlet]
    return [entry for entry in found if _varies(entry.function, parameters, data.equations.dimension)]


def _varies(function: Function, parameters: Sequence[str], dimension: int) -> bool:
    names, size = (*coordinates(dimension), *parameters), torch.logspace(-2, 3, 60, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)  # of either sign and any size, so that no branch of a formula hides
    values = size * torch.randn(len(names), len(size), generator=generator, dtype=torch.float64)
    try:
        value = torch.as_tensor(function(torch, dict(zip(names, values, strict=True))), dtype=torch.float64)
    except KeyError:
        return False
    return value.ndim > 0 and bool((value != value[0]).any())


class ProblemOperator(nn.Module):
    """Fields of all instances of a problem.

    Args:
        data: the problem.
        tags: names of the boundary regions.
        grid: latent grid.
        config: sizes of the operator.
        inputs: from :func:`input_functions`.
        scale: (c,) size of the fields.
        input_scale: (mean, deviation) of each input function.
    """

    scale: Tensor
    input_scale: Tensor

    def __init__(
        self,
        data: ProblemData,
        tags: Sequence[str],
        grid: LatentGrid,
        config: OperatorConfig,
        inputs: Sequence[InputFunction],
        scale: Tensor,
        input_scale: Tensor,
    ) -> None:
        super().__init__()
        self.data, self.inputs, self.tags = data, tuple(inputs), tuple(tags)
        inner = sum(entry.tag is None for entry in inputs)
        self.operator = MollifiedGraphNeuralOperator(
            grid, config, inner, len(tags), len(data.components), boundary_functions=len(inputs) - inner
        )
        self.register_buffer("scale", scale)
        self.register_buffer("input_scale", input_scale)

    def encode(self, instances: Instances, interior: PointCloud, boundary: PointCloud) -> Tensor:
        """(B, *grid, width) latent fields of instances known by their clouds (of equally many points each)."""
        count = len(instances)
        columns: dict[bool, list[Tensor]] = {True: [], False: []}
        for entry, (mean, deviation) in zip(self.inputs, self.input_scale, strict=True):
            cloud = interior if entry.tag is None else boundary
            points = cloud.points.unflatten(0, (count, -1))
            value = (at_points(entry.function, points, instances.parameters).flatten() - mean) / deviation
            if entry.tag is not None:
                value = torch.where(cloud.tags == self.tags.index(entry.tag), value, torch.zeros_like(value))
            columns[entry.tag is None].append(value)
        inner, outer = (torch.stack(columns[where], -1) if columns[where] else None for where in (True, False))
        return self.operator.encode(interior, boundary, inner, outer)

    def fields(self, latent: Tensor, instances: Instances, lift: DirichletLift, cells: CellPoints) -> FieldDerivatives:
        """Fields (B, M Q, c) and gradients (B, M Q, c, 2) at the quadrature points of the instances' domains."""
        lifted = self._lifting(instances, lift)
        points = cells.points.flatten(1, 2)
        owner = torch.arange(len(instances), device=points.device).repeat_interleave(points.shape[1])
        found = field_derivatives(self.operator, latent, points.flatten(0, 1), owner)
        change = self.scale * found.values.unflatten(0, points.shape[:2])
        slope = self.scale[:, None] * found.gradients.unflatten(0, points.shape[:2])
        given = nodal_derivatives(cells, lifted)
        factor = nodal_derivatives(cells, lift.factor.to(lifted).expand(len(instances), -1, -1))
        gradients = given.gradients + factor.gradients * change[..., None] + factor.values[..., None] * slope
        return FieldDerivatives(given.values + factor.values * change, gradients, None)

    def nodal_fields(self, latent: Tensor, instances: Instances, lift: DirichletLift, nodes: Tensor) -> Tensor:
        """(B, N, c) fields at the mesh nodes (B, N, 2) of the instances' domains."""
        owner = torch.arange(len(instances), device=nodes.device).repeat_interleave(nodes.shape[1])
        change = self.operator.decode(latent, nodes.flatten(0, 1), owner).unflatten(0, nodes.shape[:2])
        return self._lifting(instances, lift) + lift.factor.to(change) * self.scale * change

    def values_at(self, latent: Tensor, instance: Instances, lift: DirichletLift, points: Tensor) -> Tensor:
        """(P, c) fields of one instance at fixed points (P, 2); differentiable in its shape and its numbers."""
        nodes = lift.shape_map.nodes(instance.theta)
        known = torch.cat([self._lifting(instance, lift)[0], lift.factor.to(nodes)], -1)
        lifted, factor = values_at(lift.shape_map.mesh, nodes[0], known, points).chunk(2, -1)
        owner = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        return lifted + factor * self.scale * self.operator.decode(latent, points, owner)

    def _lifting(self, instances: Instances, lift: DirichletLift) -> Tensor:
        values = {
            (c.component, c.tag): partial(at_points, c.value, parameters=instances.parameters)
            for c in self.data.dirichlet
        }
        return lift.lifting(lift.shape_map.nodes(instances.theta), values)


def nodal_derivatives(cells: CellPoints, nodal: Tensor) -> FieldDerivatives:
    """Values (B, M Q, c) and gradients (B, M Q, c, 2) of nodal fields (B, N, c) at the quadrature points."""
    by_component = nodal.movedim(-1, 0)
    values = torch.stack([cells.interpolate(one).flatten(1, 2) for one in by_component], -1)
    gradients = torch.stack([cells.gradient(one).flatten(1, 2) for one in by_component], -2)
    return FieldDerivatives(values, gradients, None)


def clouds(lift: DirichletLift, instances: Instances, count: int, seed: int) -> tuple[PointCloud, PointCloud]:
    """Interior and boundary cloud of ``count`` points in all per instance, quasi-random for the seed.

    The boundary gets as many as keeps its points about as dense as those inside: 2 sqrt(pi count) round a disc.
    """
    around = min(count // 2, max(16, round(2.5 * count**0.5)))
    shape_map = lift.shape_map
    nodes = shape_map.nodes(instances.theta)
    inside = sobol_cloud(shape_map, nodes, count - around, seed)
    return inside, outline_cloud(shape_map.family, instances.theta, around, shift=0.5)


def scales(
    data: ProblemData, inputs: Sequence[InputFunction], population: Population, lift: DirichletLift
) -> tuple[Tensor, Tensor]:
    """Scale of the fields (c,), and mean and deviation (inputs, 2) of the input functions, over random instances.

    A field without prescribed values takes the largest scale of the others, one if there is none; an input that is
    the same everywhere has deviation one.
    """
    instances = population.draw(64, seed=1)
    nodes = lift.shape_map.nodes(instances.theta)
    parameters = instances.parameters
    values = {(c.component, c.tag): partial(at_points, c.value, parameters=parameters) for c in data.dirichlet}
    size = lift.lifting(nodes, values).square().mean((0, 1)).sqrt()
    size = torch.where(size > 1e-6, size, size.max() if bool((size > 1e-6).any()) else torch.ones_like(size))
    found = []
    for entry in inputs:
        if entry.tag is None:
            points = nodes
        else:
            points = nodes[:, torch.from_numpy(lift.shape_map.mesh.facets_on(entry.tag)[:, 0])]
        sample = at_points(entry.function, points, instances.parameters)
        deviation = sample.std()
        found.append(torch.stack([sample.mean(), deviation if deviation > 1e-9 else torch.ones_like(deviation)]))
    return size, torch.stack(found) if found else torch.zeros(0, 2, dtype=torch.float64)


def quadrature(lift: DirichletLift, instances: Instances, pairs: int, seed: int) -> CellPoints:
    """Quadrature points of the instances' domains: a rule that is exact to degree 2, at other points for each seed.

    A rule that always has the same points invites the network to be flat just there, which lowers an energy and raises
    the error. Measured on nonlinear_poisson with one mesh and one rule: the held-out error fell for 2600 steps and rose
    sevenfold in the next 2100. Six meshes in turn and rules turned at random in each cell did not stop it.
    """
    rule = random_triangle_quadrature(np.random.default_rng(seed), pairs)
    return cell_points(lift.shape_map.mesh, lift.shape_map.nodes(instances.theta), rule=rule)
