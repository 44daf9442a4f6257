"""Point clouds: weights that sum to the measure, ragged batches, quasi-random points, derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapely import Polygon, points

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.point_cloud import (
    INTERIOR,
    PointCloud,
    boundary_cloud,
    concatenate,
    nodal_cloud,
    sobol_cloud,
)
from shapewright.geometries.mesh.integration import cell_points, facet_points
from tests.geometries.shapes import FAMILIES, designs, shape_map, taylor_order

NAMES = pytest.mark.parametrize("name", FAMILIES)
CLOUDS = {
    "nodal": nodal_cloud,
    "boundary": boundary_cloud,
    "sobol": lambda mapped, nodes: sobol_cloud(mapped, nodes, 200),
}


@pytest.mark.parametrize("kind", CLOUDS)
@NAMES
def test_weights_sum_to_the_measure(name, kind):
    mapped = shape_map(name)
    nodes = mapped.nodes(designs(mapped.family, 3))
    cloud = CLOUDS[kind](mapped, nodes)
    if kind == "boundary":
        measure = facet_points(mapped.mesh, nodes, points_per_side=2).weights.sum((-1, -2))
    else:
        measure = cell_points(mapped.mesh, nodes).weights.sum((-1, -2))
    assert cloud.shapes == 3
    torch.testing.assert_close(cloud.measures(), measure, rtol=1e-12, atol=0)
    assert float(cloud.weights.min()) > 0


@NAMES
def test_boundary_points_carry_their_region_and_normal(name):
    mapped = shape_map(name)
    nodes = mapped.nodes(designs(mapped.family, 2))
    cloud = boundary_cloud(mapped, nodes)
    for b in range(2):
        own = slice(int(cloud.offsets[b]), int(cloud.offsets[b + 1]))
        for index, tag in enumerate(cloud.tag_names):
            facets = facet_points(mapped.mesh, nodes[b], tag, points_per_side=2)
            here = cloud.tags[own] == index
            torch.testing.assert_close(cloud.points[own][here], facets.points.flatten(0, 1))
            torch.testing.assert_close(cloud.normals[own][here], facets.normals.flatten(0, 1))
    torch.testing.assert_close(cloud.normals.norm(dim=-1), torch.ones(len(cloud.points), dtype=torch.float64))
    assert (nodal_cloud(mapped, nodes).tags == INTERIOR).all()


def test_concatenation_is_ragged_and_keeps_the_order():
    mapped = shape_map("closed_bar")
    nodes = mapped.nodes(designs(mapped.family, 3))
    parts = [sobol_cloud(mapped, nodes[:2], 64), sobol_cloud(mapped, nodes[2:], 100)]
    cloud = concatenate(parts)
    assert cloud.offsets.tolist() == [0, 64, 128, 228]
    assert cloud.shape_index.bincount().tolist() == [64, 64, 100]
    torch.testing.assert_close(cloud.points[128:], parts[1].points)
    torch.testing.assert_close(cloud.measures(), torch.cat([part.measures() for part in parts]))
    single = cloud.to(torch.float32)
    assert single.points.dtype == single.weights.dtype == single.normals.dtype == torch.float32
    assert single.tags.dtype == single.offsets.dtype == torch.int64


def test_clouds_of_different_families_are_not_batched():
    clouds = [nodal_cloud(shape_map(n), shape_map(n).reference_nodes[None]) for n in ("closed_bar", "body_in_channel")]
    with pytest.raises(
        ValueError, match=r"different boundary regions cannot be batched: \[\('wall',\), \('wall', 'out"
    ):
        concatenate(clouds)


def test_parts_that_disagree_are_refused():
    cloud = nodal_cloud(shape_map("closed_bar"), shape_map("closed_bar").reference_nodes[None])
    with pytest.raises(ValueError, match="all must agree"):
        PointCloud(cloud.points, cloud.weights[:-1], cloud.normals, cloud.tags, cloud.offsets, cloud.tag_names)


def test_sobol_points_integrate_without_bias():
    """On few, strongly curved cells: a density that forgot their curvature would converge to something else."""
    mapped = build_shape_map(shape_map("closed_bar").family, 1.0)
    nodes = mapped.nodes(designs(mapped.family, 2, seed=4))
    cells = cell_points(mapped.mesh, nodes)
    exact = ((cells.points**2).sum(-1) * cells.weights).sum((-1, -2))
    counts, errors = (64, 1024, 16384), []
    for count in counts:
        estimates = []
        for seed in range(4):
            cloud = sobol_cloud(mapped, nodes, count, seed)
            terms = cloud.weights * (cloud.points**2).sum(-1)
            estimates.append(torch.zeros(2, dtype=torch.float64).index_add(0, cloud.shape_index, terms))
        errors.append(float(((torch.stack(estimates) - exact) / exact).square().mean().sqrt()))
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order > 0.7  # plain Monte Carlo has 0.5
    assert errors[-1] < 5e-4


def test_sobol_points_lie_in_the_shape_and_repeat():
    mapped = shape_map("body_in_channel")
    theta = designs(mapped.family, 1, seed=2)
    nodes = mapped.nodes(theta)
    cloud = sobol_cloud(mapped, nodes, 333, seed=7)
    outlines = [mapped.family.outline(mapped.family.control_points(theta[0]).numpy(), loop, 200) for loop in range(2)]
    domain = Polygon(outlines[0], [outlines[1]]).buffer(1e-3)
    assert domain.contains(points(cloud.points.numpy())).all()
    torch.testing.assert_close(sobol_cloud(mapped, nodes, 333, seed=7).points, cloud.points, rtol=0, atol=0)
    assert not torch.equal(sobol_cloud(mapped, nodes, 333, seed=8).points, cloud.points)


@pytest.mark.parametrize("kind", CLOUDS)
def test_taylor_remainders_of_an_integral(kind):
    mapped = shape_map("body_in_channel")
    at = mapped.family.reference
    direction = torch.linspace(-0.3, 0.2, len(at), dtype=torch.float64) * at

    def integral(theta: torch.Tensor) -> torch.Tensor:
        cloud = CLOUDS[kind](mapped, mapped.nodes(theta)[None])
        x, y = cloud.points.unbind(-1)
        return (cloud.weights * (x * torch.sin(2 * y) + cloud.normals[:, 0] * x)).sum()

    assert taylor_order(integral, at, direction) == pytest.approx(2.0, abs=0.1)
