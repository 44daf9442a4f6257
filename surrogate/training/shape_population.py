"""Problems of a linear physics on random domains, without end: meshes with conditions, stretched, bent and loaded anew.

A population holds meshes of random domains, each with one or several choices of which region is prescribed, loaded or
cooled. Every draw maps the nodes by a random smooth map and draws sources, fluxes and coefficients, on the device of
the population.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import determinant
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import SIMPLICES
from shapewright.geometries.mesh.stiffness import dirichlet_factor, weighted_stiffness
from shapewright.surrogate.models.shape_operator import EXTENT
from shapewright.surrogate.models.shapes import Shapes, dimensionless

REGIONS = 16
"""Regions of a domain at most; later ones are free."""


@dataclass(frozen=True)
class Conditions:
    """Which regions of a mesh are prescribed, loaded or cooled.

    Attributes:
        prescribed: (R, c) whether a component is prescribed on each region.
        loaded: (R,) whether a flux is given there.
        cooled: (R,) whether a Robin condition holds there.
    """

    prescribed: NDArray[np.bool_]
    loaded: NDArray[np.bool_]
    cooled: NDArray[np.bool_]


Choose = Callable[[np.random.Generator, Mesh], Conditions]


@dataclass(frozen=True)
class ShapePopulation:
    """Arrays of B meshes and P choices of conditions on them.

    Attributes:
        nodes, cells, cell_mask, facets, facet_mask: of the meshes, as in :class:`shapes.Shapes`.
        region: (B, K) int64 region of each facet.
        mesh: (P,) int64 mesh of each choice.
        factor, lifting: (P, N, c); of random values on the prescribed regions, continued into the domain.
        prescribed: (P, K, c), loaded, cooled: (P, REGIONS); see :class:`Conditions`.
    """

    nodes: Tensor
    cells: Tensor
    cell_mask: Tensor
    facets: Tensor
    facet_mask: Tensor
    region: Tensor
    mesh: Tensor
    factor: Tensor
    lifting: Tensor
    prescribed: Tensor
    loaded: Tensor
    cooled: Tensor

    def __len__(self) -> int:
        return len(self.mesh)

    def to(self, device: torch.device | str) -> ShapePopulation:
        """On another device."""
        return ShapePopulation(*(getattr(self, field.name).to(device) for field in fields(self)))


def sizes_for(meshes: Sequence[Mesh]) -> tuple[int, int, int]:
    """Nodes, cells and facets of the largest ones."""
    nodes, cells, facets = (max(len(getattr(mesh, name)) for mesh in meshes) for name in ("nodes", "cells", "facets"))
    return nodes, cells, facets


def build_population(
    meshes: Sequence[Mesh], choose: Choose, choices: int, seed: int, sizes: tuple[int, int, int] | None = None
) -> ShapePopulation:
    """Meshes with ``choices`` of conditions each, in single precision, padded to ``sizes`` or as far as they need."""
    generator, sizes = np.random.default_rng(seed), sizes or sizes_for(meshes)
    padded = [_padded(mesh, *sizes) for mesh in meshes]
    rows: list[tuple[Tensor, ...]] = []
    for index, mesh in enumerate(meshes):
        for _ in range(choices):
            found = choose(generator, mesh)
            arrays = _condition_arrays(generator, mesh, found, (sizes[0], sizes[2]))
            rows.append((torch.tensor(index), *arrays))
    own = [torch.stack(column) for column in zip(*padded, strict=True)]
    chosen = [torch.stack(column) for column in zip(*rows, strict=True)]
    return ShapePopulation(*own, *chosen)


def joined(parts: Sequence[ShapePopulation]) -> ShapePopulation:
    """One population of several that are padded alike."""
    starts = np.cumsum([0, *(len(part.nodes) for part in parts)])
    moved = [replace(part, mesh=part.mesh + int(start)) for part, start in zip(parts, starts, strict=False)]
    return ShapePopulation(*(torch.cat([getattr(part, f.name) for part in moved]) for f in fields(ShapePopulation)))


def _padded(mesh: Mesh, nodes: int, cells: int, facets: int) -> tuple[Tensor, ...]:
    def fill(array: NDArray[np.generic], count: int) -> Tensor:
        rest = np.repeat(array[:1], count - len(array), axis=0)
        return torch.from_numpy(np.concatenate([array, rest]))

    def mask(own: int, count: int) -> Tensor:
        return (torch.arange(count) < own).float()

    region = np.minimum(mesh.facet_tags, REGIONS - 1)
    return (
        fill(mesh.nodes, nodes).float(),
        fill(mesh.cells, cells),
        mask(len(mesh.cells), cells),
        fill(mesh.facets, facets),
        mask(len(mesh.facets), facets),
        fill(region, facets),
    )


def _condition_arrays(
    generator: np.random.Generator, mesh: Mesh, found: Conditions, sizes: tuple[int, int]
) -> tuple[Tensor, ...]:
    (nodes, facets), components = sizes, found.prescribed.shape[1]
    factor, lifting = torch.zeros(nodes, components), torch.zeros(nodes, components)
    prescribed = torch.zeros(facets, components)
    for c in range(components):
        tags = [tag for tag, on in zip(mesh.tag_names, found.prescribed[:, c], strict=True) if on]
        own = torch.from_numpy(dirichlet_factor(mesh, tags)).float()
        factor[: len(own), c] = own
        values = generator.standard_normal(len(tags))
        if tags and values.any():
            lifting[: len(own), c] = torch.from_numpy(_continued(mesh, tags, values)).float()
        on_facet = found.prescribed[mesh.facet_tags, c]
        prescribed[: len(on_facet), c] = torch.from_numpy(on_facet).float()

    def regions(flags: NDArray[np.bool_]) -> Tensor:
        every = torch.zeros(REGIONS)
        every[: min(len(flags), REGIONS)] = torch.from_numpy(flags[:REGIONS]).float()
        return every

    return factor, lifting, prescribed, regions(found.loaded), regions(found.cooled)


def _continued(mesh: Mesh, tags: list[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    nodal, fixed = np.zeros(len(mesh.nodes)), np.zeros(len(mesh.nodes), dtype=bool)
    for tag, value in zip(tags, values, strict=True):
        on = np.unique(mesh.facets_on(tag))
        nodal[on], fixed[on] = value, True
    stiffness = weighted_stiffness(mesh, lambda x: np.ones(x.shape[:-1]))
    free = np.flatnonzero(~fixed)
    right = -(stiffness @ nodal)[free]
    nodal[free] = splu(stiffness[free][:, free].tocsc()).solve(right)
    return nodal


def conditions_of_scalar(generator: np.random.Generator, mesh: Mesh) -> Conditions:
    """Of Poisson's equation: all prescribed in half of the cases, else any kind on any region, one at least held."""
    count = len(mesh.tag_names)
    kind = generator.choice(4, size=count, p=(0.4, 0.25, 0.2, 0.15))
    if generator.random() < 0.5:
        kind[:] = 0
    if not np.isin(kind, (0, 3)).any():
        kind[generator.integers(count)] = 0
    return Conditions((kind == 0)[:, None], kind == 2, kind == 3)


def conditions_of_solid(generator: np.random.Generator, mesh: Mesh) -> Conditions:
    """Of elasticity: clamped regions, or some on which one component is held; one or two of the others loaded."""
    count = len(mesh.tag_names)
    if count == 1:
        raise ValueError("a solid needs a mesh with two regions or more: one is held, one is loaded")
    while True:
        prescribed = np.zeros((count, 2), dtype=bool)
        if generator.random() < 0.55 or count < 3:
            prescribed[generator.choice(count, min(count - 1, _one_or_two(generator)), replace=False)] = True
        else:
            for c in range(2):
                prescribed[generator.integers(count), c] = True
            if generator.random() < 0.3:
                prescribed[generator.integers(count)] = True
        free = np.flatnonzero(~prescribed.any(1))
        if len(free) == 0 or not _holds(mesh, prescribed):
            continue
        loaded = np.zeros(count, dtype=bool)
        loaded[generator.choice(free, min(len(free), _one_or_two(generator)), replace=False)] = True
        return Conditions(prescribed, loaded, np.zeros(count, dtype=bool))


def _one_or_two(generator: np.random.Generator) -> int:
    return int(generator.choice((1, 1, 2)))


def _holds(mesh: Mesh, prescribed: NDArray[np.bool_]) -> bool:
    """Whether a body turning by a small angle about any point would move clearly where it is held."""
    rows = []
    for c in range(2):
        tags = [tag for tag, on in zip(mesh.tag_names, prescribed[:, c], strict=True) if on]
        if not tags:
            return False
        at = mesh.nodes[np.unique(np.concatenate([mesh.facets_on(tag) for tag in tags]))]
        row = np.zeros((len(at), 3))
        row[:, c], row[:, 2] = 1.0, at[:, 0] if c else -at[:, 1]
        rows.append(row / math.sqrt(len(at)))
    return bool(np.linalg.svd(np.concatenate(rows), compute_uv=False)[-1] > 0.1)


@dataclass(frozen=True)
class Draw:
    """How problems are drawn.

    Attributes:
        stretch: largest logarithm of the stretch along one axis, times its inverse along the other.
        bend: sum of the gradients of the waves that bend a domain.
        shortest: of these waves, least length in units of the domain's size.
        film: Robin coefficients times size over stiffness, between these.
        lifted: share of the problems whose prescribed values are not zero.
        parameters: lowest and highest value of each parameter of the physics.
    """

    stretch: float = 0.4
    bend: float = 0.45
    shortest: float = 0.4
    film: tuple[float, float] = (0.1, 30.0)
    lifted: float = 0.35
    parameters: tuple[tuple[float, float], ...] = ()


def draw(population: ShapePopulation, how: Draw, count: int, generator: torch.Generator) -> Shapes:
    """``count`` dimensionless problems, mapped and loaded at random.

    A domain that its map would fold or push out of the operator's box is not bent, or not even stretched.
    """
    device = population.nodes.device
    which = torch.randint(len(population), (count,), generator=generator, device=device)
    of = population.mesh[which]

    def uniform(*size: int) -> Tensor:
        return torch.rand(count, *size, generator=generator, device=device)

    def normal(*size: int) -> Tensor:
        return torch.randn(count, *size, generator=generator, device=device)

    nodes = population.nodes[of]
    facets, region = population.facets[of], population.region[of]
    components = population.factor.shape[-1]
    linear, bent = _maps(nodes, how, uniform, normal)
    loaded, cooled = population.loaded[which].gather(1, region), population.cooled[which].gather(1, region)
    shapes = Shapes(
        nodes=bent,
        cells=population.cells[of],
        cell_mask=population.cell_mask[of],
        facets=facets,
        facet_mask=population.facet_mask[of],
        factor=population.factor[which],
        lifting=population.lifting[which] * (uniform(1, 1) < how.lifted) * torch.exp(0.7 * normal(1, 1)),
        prescribed=population.prescribed[which],
        source=torch.zeros_like(population.factor[which]),
        flux=torch.zeros(*facets.shape, components, device=device),
        robin=torch.zeros_like(loaded),
        parameters=torch.zeros(count, len(how.parameters), device=device),
    )
    one = torch.ones(count, device=device)
    bent_frame, plain = dimensionless(shapes, one)[0].nodes, replace(shapes, nodes=linear)
    fine = _unfolded(shapes) & (bent_frame.abs().amax((1, 2)) < EXTENT)
    shapes = replace(shapes, nodes=torch.where(fine[:, None, None], shapes.nodes, plain.nodes))
    outside = dimensionless(shapes, one)[0].nodes.abs().amax((1, 2)) >= EXTENT
    shapes = replace(shapes, nodes=torch.where(outside[:, None, None], nodes, shapes.nodes))

    wave = _waves(shapes.nodes, uniform, normal, components)
    uniformly = (uniform(1, 1) < 0.6).float()
    source = normal(1, components) * uniformly + wave * (1 - uniformly)
    drop = (uniform(1, 1) < (0.25 if components == 1 else 0.75)).float()
    table = normal(REGIONS, components)
    flux = table.gather(1, region[..., None].expand(-1, -1, components))[:, :, None]
    vary = 1 + 0.6 * (uniform(1, 1, 1) < 0.5) * _local_wave(shapes.nodes, facets, uniform, normal, components)
    low, high = (math.log(x) for x in how.film)
    robin = torch.exp(low + (high - low) * uniform(1)) * cooled
    ambient = robin[..., None, None] * normal(1, 1, 1)
    shapes = replace(
        shapes,
        source=source * (1 - drop),
        flux=flux * vary * loaded[..., None, None] + ambient,
        robin=robin,
        parameters=_between(how.parameters, uniform) if how.parameters else shapes.parameters,
    )
    data = shapes.source.abs().amax((1, 2)) + shapes.flux.abs().amax((1, 2, 3)) + shapes.lifting.abs().amax((1, 2))
    empty = (data < 1e-6)[:, None, None]
    return dimensionless(replace(shapes, source=torch.where(empty, 1.0 + 0 * source, shapes.source)), one)[0]


def _between(limits: Sequence[tuple[float, float]], uniform: Callable[..., Tensor]) -> Tensor:
    share = uniform(len(limits))
    low, high = (torch.tensor(side, device=share.device) for side in zip(*limits, strict=True))
    return low + (high - low) * share


def _maps(
    nodes: Tensor, how: Draw, uniform: Callable[..., Tensor], normal: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Nodes (B, N, 2) turned and stretched; and bent by four waves besides."""
    first, second = _rotation(2 * math.pi * uniform()), _rotation(2 * math.pi * uniform())
    stretch = torch.exp(how.stretch * (2 * uniform() - 1))
    diagonal = torch.diag_embed(torch.stack([stretch, 1 / stretch], -1))
    linear = nodes @ (first @ diagonal @ second).mT
    number = 4
    wave = torch.exp(uniform(number) * math.log(4 / how.shortest)) * 2 * math.pi / 4  # lengths from 4 to the shortest
    direction, push = (_unit(normal(number, 2)) for _ in range(2))
    phase = 2 * math.pi * uniform(number)
    size = how.bend * uniform(1) * _share(uniform(number)) / wave
    argument = torch.einsum("bnd,bjd->bnj", linear, direction * wave[..., None]) + phase[:, None]
    return linear, linear + torch.einsum("bnj,bjd->bnd", torch.sin(argument), push * size[..., None])


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (..., d) of length one."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def _share(values: Tensor) -> Tensor:
    """Positive values (B, n) that sum to one."""
    return values / values.sum(-1, keepdim=True).clamp_min(1e-9)


def _rotation(angle: Tensor) -> Tensor:
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)


def _waves(
    nodes: Tensor, uniform: Callable[..., Tensor], normal: Callable[..., Tensor], components: int
) -> Tensor:
    """(B, N, c) smooth random functions: a constant, a slope and a wave."""
    slope = torch.einsum("bnd,bcd->bnc", nodes, normal(components, 2))
    wave = 2 * math.pi / torch.exp(math.log(0.6) + uniform(components) * math.log(5.0))
    direction = _unit(normal(components, 2)) * wave[..., None]
    angle = torch.einsum("bnd,bcd->bnc", nodes, direction) + 2 * math.pi * uniform(1, components)
    return normal(1, components) + slope + normal(1, components) * torch.sin(angle)


def _local_wave(
    nodes: Tensor, facets: Tensor, uniform: Callable[..., Tensor], normal: Callable[..., Tensor], components: int
) -> Tensor:
    """(B, K, m, c) smooth random functions at the nodes of the facets."""
    whole = _waves(nodes, uniform, normal, components)
    start = nodes.shape[1] * torch.arange(len(nodes), device=nodes.device)
    return whole.flatten(0, 1)[facets + start[:, None, None]]


def _unfolded(shapes: Shapes) -> Tensor:
    """(B,) whether no cell is folded or crushed: least Bernstein coefficient of its Jacobian against its mean."""
    kind = SIMPLICES[2]
    start = shapes.nodes.shape[1] * torch.arange(len(shapes), device=shapes.nodes.device)
    local = shapes.nodes.flatten(0, 1)[shapes.cells + start[:, None, None]]
    slopes = constant(kind.shape_gradients(kind.nodes), local)
    at_nodes = determinant(torch.einsum("bmnd,qnk->bmqdk", local, slopes))
    vertices, middles = at_nodes[..., :3], at_nodes[..., 3:]
    least = torch.cat([vertices, 2 * middles - (vertices + vertices[..., [1, 2, 0]]) / 2], -1).amin(-1)
    return (least > 0.15 * at_nodes.mean(-1)).all(1)
