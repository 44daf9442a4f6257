"""Problems of incompressible flow on random domains: inlets, outlets, walls, moving lids, turning bodies, forces.

Of each mesh some choices of what its regions are are stored with the velocities that they prescribe. A draw bends the
domain and carries the velocities along by Piola's transform, which keeps what flows through each piece of boundary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from torch import Tensor

from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import determinant, inverse
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import SIMPLICES
from shapewright.geometries.mesh.stiffness import dirichlet_factor, weighted_stiffness
from shapewright.surrogate.models.shapes import Shapes, dimensionless
from shapewright.surrogate.training import shape_population as shaped
from shapewright.surrogate.training.shape_population import REGIONS, Draw, ShapePopulation, sizes_for

WALL, INLET, OUTLET, LID = range(4)
ENCLOSED = 0.25
"""Share of the problems without an outlet."""
Array = NDArray[np.float64]


def build_flows(
    meshes: Sequence[Mesh], choices: int, seed: int, sizes: tuple[int, int, int] | None = None
) -> ShapePopulation:
    """Meshes with ``choices`` of flows each; see :func:`shape_population.build_population`."""
    generator, sizes = np.random.default_rng(seed), sizes or sizes_for(meshes)
    padded = [shaped._padded(mesh, *sizes) for mesh in meshes]
    rows = []
    for index, mesh in enumerate(meshes):
        for _ in range(choices):
            rows.append((torch.tensor(index), *_flow(generator, mesh, (sizes[0], sizes[2]))))
    own = [torch.stack(column) for column in zip(*padded, strict=True)]
    return ShapePopulation(*own, *[torch.stack(column) for column in zip(*rows, strict=True)])


def _flow(generator: np.random.Generator, mesh: Mesh, sizes: tuple[int, int]) -> tuple[Tensor, ...]:
    """Factor, lifting, prescribed, loaded and cooled of one choice, padded."""
    kinds = _kinds(generator, mesh)
    (nodes, facets), held = sizes, kinds != OUTLET
    velocity, fixed = np.zeros((len(mesh.nodes), 2)), np.zeros(len(mesh.nodes), dtype=bool)
    for walls in (False, True):  # walls last: they hold where they meet an inlet or a lid
        for tag, kind in zip(mesh.tag_names, kinds, strict=True):
            if kind != OUTLET and (kind == WALL) == walls:
                on, value = _prescribed(generator, mesh, tag, int(kind))
                velocity[on], fixed[on] = value, True
    tags = [tag for tag, on in zip(mesh.tag_names, held, strict=True) if on]
    factor, lifting, prescribed = torch.zeros(nodes, 2), torch.zeros(nodes, 2), torch.zeros(facets, 2)
    factor[: len(mesh.nodes)] = torch.from_numpy(dirichlet_factor(mesh, tags)).float()[:, None]
    lifting[: len(mesh.nodes)] = torch.from_numpy(_harmonic(mesh, velocity, fixed)).float()
    prescribed[: len(mesh.facets)] = torch.from_numpy(held[mesh.facet_tags]).float()[:, None]
    loaded = torch.zeros(REGIONS)
    still = not velocity.any()
    for index in np.flatnonzero(~held[:REGIONS]):
        loaded[index] = float(still or generator.random() < 0.3)
    return factor, lifting, prescribed, loaded, torch.zeros(REGIONS)


def _kinds(generator: np.random.Generator, mesh: Mesh) -> NDArray[np.int64]:
    """(R,) what each region is; one at least is held, and one drives the flow or is an outlet."""
    count = len(mesh.tag_names)
    holes = np.array([tag.startswith("hole") for tag in mesh.tag_names])
    ends = np.array([_is_open(mesh, tag) for tag in mesh.tag_names])
    kinds = generator.choice((WALL, INLET, OUTLET, LID), size=count, p=(0.45, 0.2, 0.25, 0.1))
    kinds = np.where(holes, np.where(generator.random(count) < 0.15, LID, WALL), kinds)
    kinds = np.where((kinds == INLET) & ~ends, WALL, kinds)
    if generator.random() < ENCLOSED or count == 1:
        kinds[(kinds == INLET) | (kinds == OUTLET)] = WALL
        if not (kinds == LID).any():
            kinds[generator.integers(count)] = LID
        return kinds
    outer = np.flatnonzero(~holes)
    if not (kinds == OUTLET).any():
        kinds[generator.choice(outer)] = OUTLET
    if (kinds == OUTLET).all():
        kinds[generator.integers(count)] = WALL
    drivers = [k for k in outer if ends[k] and kinds[k] == WALL]
    if not np.isin(kinds, (INLET, LID)).any() and drivers and generator.random() < 0.8:
        kinds[generator.choice(drivers)] = INLET
    return kinds


def _is_open(mesh: Mesh, tag: str) -> bool:
    counts = np.bincount(mesh.facets_on(tag)[:, :2].ravel())
    return bool((counts == 1).any())


def _prescribed(generator: np.random.Generator, mesh: Mesh, tag: str, kind: int) -> tuple[NDArray[np.int64], Array]:
    """Nodes of a region and their velocities."""
    on, along, normal = _walk(mesh, tag)
    if kind == WALL:
        return on, np.zeros((len(on), 2))
    speed, tangent = float(np.exp(0.5 * generator.standard_normal())), np.stack([-normal[:, 1], normal[:, 0]], -1)
    hump = 4 * along * (1 - along) if generator.random() < 0.7 else 1 - (2 * along - 1) ** 6
    if kind == INLET:
        slant = 0.4 * generator.standard_normal() * (generator.random() < 0.3)
        return on, speed * hump[:, None] * (slant * tangent - normal)
    whole = not _is_open(mesh, tag) or generator.random() < 0.5
    sense = generator.choice((-1.0, 1.0))
    return on, sense * speed * (np.ones_like(hump) if whole else hump)[:, None] * tangent


def _walk(mesh: Mesh, tag: str) -> tuple[NDArray[np.int64], Array, Array]:
    """Nodes (k,) of a region, their shares (k,) of its length from one end, and unit outward normals (k, 2)."""
    facets = mesh.facets_on(tag)
    points = mesh.nodes[facets]
    chord = points[:, 1] - points[:, 0]
    length = np.linalg.norm(chord, axis=1)
    by_node: dict[int, list[int]] = {}
    for row, (first, last, _) in enumerate(facets):
        by_node.setdefault(int(first), []).append(row)
        by_node.setdefault(int(last), []).append(row)
    ends = [node for node, rows in by_node.items() if len(rows) == 1]
    node, row = (ends[0], by_node[ends[0]][0]) if ends else (int(facets[0, 0]), 0)
    place, at, left = {node: 0.0}, 0.0, set(range(len(facets)))
    while row in left:
        left.discard(row)
        first, last, middle = (int(i) for i in facets[row])
        place[middle], at = at + length[row] / 2, at + length[row]
        node = last if node == first else first
        place.setdefault(node, at)
        row = next((other for other in by_node[node] if other in left), -1)
    outward = np.stack([chord[:, 1], -chord[:, 0]], -1)  # facets run with the domain to their left
    normal = np.zeros_like(mesh.nodes)
    np.add.at(normal, facets, outward[:, None])
    on = np.array(sorted(place), dtype=np.int64)
    unit = normal[on] / np.linalg.norm(normal[on], axis=1, keepdims=True)
    return on, np.array([place[int(n)] for n in on]) / max(at, 1e-12), unit


def _harmonic(mesh: Mesh, values: Array, fixed: NDArray[np.bool_]) -> Array:
    """(N, 2) harmonic continuation of values at fixed nodes."""
    nodal = np.where(fixed[:, None], values, 0.0)
    stiffness, free = weighted_stiffness(mesh, lambda x: np.ones(x.shape[:-1])), np.flatnonzero(~fixed)
    nodal[free] = splu(stiffness[free][:, free].tocsc()).solve(-(stiffness @ nodal)[free])
    return nodal


def draw_flows(population: ShapePopulation, how: Draw, count: int, generator: torch.Generator) -> Shapes:
    """``count`` dimensionless problems on bent domains, as :func:`shape_population.draw` makes them, for flows."""
    which = torch.randint(len(population), (count,), generator=generator)
    of = population.mesh[which]

    def uniform(*size: int) -> Tensor:
        return torch.rand(count, *size, generator=generator)

    def normal(*size: int) -> Tensor:
        return torch.randn(count, *size, generator=generator)

    nodes, region = population.nodes[of], population.region[of]
    linear, bent = shaped._maps(nodes, how, uniform, normal)
    shapes = Shapes(
        nodes=bent,
        cells=population.cells[of],
        cell_mask=population.cell_mask[of],
        facets=population.facets[of],
        facet_mask=population.facet_mask[of],
        factor=population.factor[which],
        lifting=population.lifting[which],
        prescribed=population.prescribed[which],
        source=torch.zeros_like(population.factor[which]),
        flux=torch.zeros(*population.facets[of].shape, 2),
        robin=torch.zeros_like(population.facet_mask[of]),
        parameters=torch.zeros(count, len(how.parameters)),
    )
    one = torch.ones(count)
    small = dimensionless(shapes, one)[0].nodes.abs().amax((1, 2)) < shaped.EXTENT
    chosen = torch.where((shaped._unfolded(shapes) & small)[:, None, None], bent, linear)
    outside = dimensionless(replace(shapes, nodes=chosen), one)[0].nodes.abs().amax((1, 2)) >= shaped.EXTENT
    chosen = torch.where(outside[:, None, None], nodes, chosen)
    shapes = replace(shapes, nodes=chosen, lifting=_carried(shapes, nodes, chosen))

    wave, uniformly = shaped._waves(chosen, uniform, normal, 2), (uniform(1, 1) < 0.4).float()
    source = (normal(1, 2) * uniformly + wave * (1 - uniformly)) * (uniform(1, 1) < 0.3)
    table = normal(REGIONS, 2).gather(1, region[..., None].expand(-1, -1, 2))[:, :, None]
    loaded = population.loaded[which].gather(1, region)[..., None, None]
    speed = shapes.lifting.square().mean((1, 2)).sqrt()
    size = torch.where(speed > 0, speed, one)[:, None, None] * torch.exp(0.7 * normal(1, 1) + math.log(2.0))
    flux = (table * loaded).expand(-1, -1, 3, -1) * size[..., None]
    return dimensionless(replace(shapes, source=source * size, flux=flux), one)[0]


def _carried(shapes: Shapes, before: Tensor, after: Tensor) -> Tensor:
    """(B, N, 2) velocities F u / det F on moved nodes, F the mean gradient of the map in the cells around a node."""
    kind = SIMPLICES[2]
    slopes = constant(kind.shape_gradients(kind.nodes), before)
    start = before.shape[1] * torch.arange(len(before))[:, None, None]
    index = shapes.cells + start

    def jacobian(nodes: Tensor) -> Tensor:
        return torch.einsum("bmnd,qnk->bmqdk", nodes.flatten(0, 1)[index], slopes)

    gradient = jacobian(after) @ inverse(jacobian(before)) * shapes.cell_mask[..., None, None, None]
    total = gradient.new_zeros(before.shape[0] * before.shape[1], 2, 2)
    total.index_add_(0, index.flatten(), gradient.flatten(0, 2))
    share = determinant(total).abs()
    used = share > 0
    unit = torch.where(used[:, None, None], total, torch.eye(2))
    mask = shapes.cell_mask[..., None].expand(index.shape)
    number = total.new_zeros(len(total)).index_add_(0, index.flatten(), mask.flatten())
    mean = unit / torch.where(used, number, torch.ones_like(number))[:, None, None]
    found = torch.einsum("nij,nj->ni", mean, shapes.lifting.flatten(0, 1)) / determinant(mean)[:, None]
    return found.unflatten(0, before.shape[:2])
