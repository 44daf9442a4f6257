"""Domains of any shape with the data of a boundary-value problem, as arrays: what one operator for all shapes sees.

A linear problem div(flux) + source = 0 with prescribed values, fluxes and Robin conditions. Several domains are padded
to equal numbers of nodes, cells and facets, so that a batch of them has fixed sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import area_vectors, determinant, inverse
from shapewright.geometries.mesh.quadrature import gauss_quadrature
from shapewright.geometries.mesh.simplex import SIMPLICES


@dataclass(frozen=True)
class Points:
    """Quadrature points in cells or on facets: Q in each of E elements of n nodes, in B domains.

    Attributes:
        points: (B, E, Q, d).
        weights: (B, E, Q), zero in padding.
        values: (Q, n) shape functions.
        elements: (B, E, n) nodes.
        gradients: (B, E, Q, n, d) physical gradients of the shape functions in cells; None on facets.
        normals: (B, E, Q, d) outward unit normals on facets; None in cells.
    """

    points: Tensor
    weights: Tensor
    values: Tensor
    elements: Tensor
    gradients: Tensor | None = None
    normals: Tensor | None = None

    def interpolate(self, nodal: Tensor) -> Tensor:
        """(B, E, Q, f) values of nodal fields (B, N, f)."""
        return torch.einsum("qn,benf->beqf", self.values, nodal_values(nodal, self.elements))

    def gradient(self, nodal: Tensor) -> Tensor:
        """(B, E, Q, f, d) gradients of nodal fields (B, N, f); ValueError on facets."""
        if self.gradients is None:
            raise ValueError("points on facets know no gradients")
        return torch.einsum("beqnd,benf->beqfd", self.gradients, nodal_values(nodal, self.elements))


@dataclass(frozen=True)
class Shapes:
    """B domains of N nodes, M cells of n nodes and K facets of m nodes in d dimensions; c field components.

    Attributes:
        nodes: (B, N, d).
        cells: (B, M, n) int64.
        cell_mask: (B, M), one for a cell, zero for padding.
        facets: (B, K, m) int64.
        facet_mask: (B, K), one for a facet, zero for padding.
        factor: (B, N, c), zero where a component is prescribed and positive elsewhere.
        lifting: (B, N, c), fields with the prescribed values.
        prescribed: (B, K, c), one where a component is prescribed on a facet.
        source: (B, N, c) at the nodes.
        flux: (B, K, m, c) prescribed flux . n at the nodes of each facet; of a Robin condition that at u = 0.
        robin: (B, K) coefficient h of a Robin condition flux . n = flux - h u.
        parameters: (B, p) dimensionless coefficients of the physics, such as Poisson's ratio.
    """

    nodes: Tensor
    cells: Tensor
    cell_mask: Tensor
    facets: Tensor
    facet_mask: Tensor
    factor: Tensor
    lifting: Tensor
    prescribed: Tensor
    source: Tensor
    flux: Tensor
    robin: Tensor
    parameters: Tensor

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All arrays, in the order of the attributes."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def to(self, like: Tensor) -> Shapes:
        """On the device and with the floating type of ``like``."""
        return Shapes(*(t.to(like.device, like.dtype if t.is_floating_point() else t.dtype) for t in self.tensors))

    def subset(self, index: Tensor | slice) -> Shapes:
        """The domains ``index``."""
        return Shapes(*(tensor[index] for tensor in self.tensors))

    def cell_points(self, points_per_side: int = 3) -> Points:
        """Gauss points in the cells."""
        kind = SIMPLICES[self.nodes.shape[-1]]
        reference, weights = gauss_quadrature(kind.dimension, points_per_side)
        values = constant(kind.shape_functions(reference), self.nodes)
        slopes = constant(kind.shape_gradients(reference), self.nodes)
        local = nodal_values(self.nodes, self.cells)
        jacobian = torch.einsum("bmnd,qnk->bmqdk", local, slopes)
        measure = constant(weights, self.nodes) * determinant(jacobian) * self.cell_mask[..., None]
        gradients = torch.einsum("qnk,bmqkd->bmqnd", slopes, inverse(jacobian))
        points = torch.einsum("qn,bmnd->bmqd", values, local)
        return Points(points, measure, values, self.cells, gradients=gradients)

    def flux_at(self, around: Points) -> Tensor:
        """(B, K, Q, c) prescribed fluxes at points on the facets."""
        return torch.einsum("qm,bkmc->bkqc", around.values, self.flux)

    def facet_points(self, points_per_side: int = 3) -> Points:
        """Gauss points on the facets."""
        side = SIMPLICES[self.nodes.shape[-1] - 1]
        reference, weights = gauss_quadrature(side.dimension, points_per_side)
        values = constant(side.shape_functions(reference), self.nodes)
        slopes = constant(side.shape_gradients(reference), self.nodes)
        local = nodal_values(self.nodes, self.facets)
        area = area_vectors(torch.einsum("bkmd,qmj->bkqdj", local, slopes))
        stretch = area.norm(dim=-1)
        measure = constant(weights, self.nodes) * stretch * self.facet_mask[..., None]
        points = torch.einsum("qm,bkmd->bkqd", values, local)
        return Points(points, measure, values, self.facets, normals=area / stretch[..., None])


@dataclass(frozen=True)
class Frame:
    """What made shapes dimensionless.

    Attributes:
        centre: (B, d) centroids.
        size: (B,) radii of gyration.
        load: (B,) size of the fields that the data make, in their unit; zero where there are no data.
    """

    centre: Tensor
    size: Tensor
    load: Tensor


def dimensionless(shapes: Shapes, stiffness: Tensor) -> tuple[Shapes, Frame]:
    """The same domains about the origin with a radius of gyration of one, stiffness one and data of order one.

    With coordinates in units of l and fields in units of s, a source counts l^2 / (stiffness s), a flux
    l / (stiffness s), a Robin coefficient l / stiffness. The unit s is the sum of the root mean squares of the data.

    Args:
        shapes: in the study's units.
        stiffness: (B,) factor of the flux: conductivity, Young's modulus.
    """
    inside, around = shapes.cell_points(2), shapes.facet_points(2)
    area = inside.weights.sum((1, 2))
    centre = torch.einsum("beq,beqd->bd", inside.weights, inside.points) / area[:, None]
    apart = (inside.points - centre[:, None, None]).square().sum(-1)
    size = ((inside.weights * apart).sum((1, 2)) / area).sqrt()
    length = around.weights.sum((1, 2))
    of_source = _root_mean_square(inside.weights, inside.interpolate(shapes.source), area) * size**2 / stiffness
    of_flux = _root_mean_square(around.weights, shapes.flux_at(around), length) * size / stiffness
    of_values = _root_mean_square(around.weights, around.interpolate(shapes.lifting), length)
    load = of_source + of_flux + of_values
    unit = torch.where(load > 0, load, torch.ones_like(load))
    by_node, by_facet = (lambda t: t[:, None, None]), (lambda t: t[:, None, None, None])
    scaled = replace(
        shapes,
        nodes=(shapes.nodes - centre[:, None]) / by_node(size),
        lifting=shapes.lifting / by_node(unit),
        source=shapes.source * by_node(size**2 / (stiffness * unit)),
        flux=shapes.flux * by_facet(size / (stiffness * unit)),
        robin=shapes.robin * (size / stiffness)[:, None],
    )
    return scaled, Frame(centre, size, unit)


def _root_mean_square(weights: Tensor, values: Tensor, measure: Tensor) -> Tensor:
    """(B,) over domains, whose derivative is zero where all values (B, E, Q, c) are."""
    mean = torch.einsum("beq,beqc->b", weights, values.square()) / measure
    nothing = mean == 0
    return torch.where(nothing, mean, torch.where(nothing, torch.ones_like(mean), mean).sqrt())


def nodal_values(nodal: Tensor, elements: Tensor) -> Tensor:
    """(B, E, n, f) values of nodal fields (B, N, f) at the nodes of the elements (B, E, n)."""
    count = nodal.shape[1]
    start = count * torch.arange(len(nodal), device=nodal.device)
    return nodal.flatten(0, 1)[elements + start[:, None, None]]
