"""Promise: points on the outline itself whose weights measure it and whose normals leave the domain, holes included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, contains_xy

from shapewright.geometries.design.boundary_sample import outline_cloud
from shapewright.geometries.family.cavity import cavity
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.porous_square import porous_square
from shapewright.geometries.family.spline import LoopQuadrature
from shapewright.geometries.family.star_domain import star_domain
from tests.geometries.shapes import designs

FAMILIES = {"star_domain": star_domain(), "porous_square": porous_square(), "cavity": cavity()}


def loop_measures(family: Family, theta):
    """Perimeter of all loops, and area of the outer one less that of the holes, for one design."""
    points = family.control_points(theta)
    loops = [LoopQuadrature(loop) for loop in family.loops]
    perimeter = sum(q.perimeter(points[rows]) for q, rows in zip(loops, family.loop_slices, strict=True))
    areas = [q.area(points[rows]) for q, rows in zip(loops, family.loop_slices, strict=True)]
    return perimeter, areas[0] - sum(areas[1:])


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_measure_the_perimeter_and_normals_close(name):
    """The divergence theorem: int n ds = 0 and int x . n ds = 2 area, which holes with inward normals would fail."""
    family = FAMILIES[name]
    theta = designs(family, 5)
    cloud = outline_cloud(family, theta, 2000)
    torch.testing.assert_close(cloud.normals.norm(dim=-1), torch.ones_like(cloud.weights))
    for index, each in enumerate(theta):
        own = slice(*cloud.offsets[index : index + 2].tolist())
        x, w, n = cloud.points[own], cloud.weights[own], cloud.normals[own]
        perimeter, area = loop_measures(family, each)
        torch.testing.assert_close(w.sum(), perimeter, rtol=2e-5, atol=0)
        assert (w[:, None] * n).sum(0).norm() < 2e-5
        torch.testing.assert_close((w * (x * n).sum(-1)).sum() / 2, area, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_normals_point_out_of_the_domain(name):
    family = FAMILIES[name]
    theta = designs(family, 1, seed=3)
    poles = family.control_points(theta[0]).numpy()
    outlines = [family.outline(poles, loop) for loop in range(len(family.loops))]
    domain = Polygon(outlines[0], outlines[1:])
    cloud = outline_cloud(family, theta, 150)
    step = 1e-3 * cloud.normals.numpy()
    points = cloud.points.numpy()
    assert not contains_xy(domain, *(points + step).T).any()
    assert contains_xy(domain, *(points - step).T).all()


def test_the_rule_converges_on_a_smooth_outline_and_on_an_open_one():
    for name, least in (("star_domain", 4.0), ("cavity", 1.9)):
        family = FAMILIES[name]
        theta = designs(family, 1, seed=1)
        exact = loop_measures(family, theta[0])[0]
        errors = [float((outline_cloud(family, theta, n).weights.sum() - exact).abs()) for n in (40, 80)]
        order = np.log2(errors[0] / errors[1])
        print(f"{name}: errors {errors}, order {order:.1f}")
        assert order > least


def test_each_region_is_tagged_where_it_lies():
    family = FAMILIES["porous_square"]
    cloud = outline_cloud(family, designs(family, 2), 100)
    x, y = cloud.points.unbind(-1)
    sides = {"bottom": y, "right": 1 - x, "top": 1 - y, "left": x}
    for tag, distance in sides.items():
        own = cloud.tags == family.tags.index(tag)
        assert own.any()
        assert torch.equal(own, distance < 1e-12)
    assert cloud.tag_names == family.tags


@settings(max_examples=25)
@given(st.sampled_from(sorted(FAMILIES)), st.integers(1, 400), st.integers(1, 4))
def test_every_shape_gets_about_as_many_points_as_asked_and_the_same_number(name, count, shapes):
    family = FAMILIES[name]
    cloud = outline_cloud(family, designs(family, shapes), count)
    each = (cloud.offsets[1:] - cloud.offsets[:-1]).unique()
    assert len(each) == 1
    assert abs(int(each) - max(count, 2 * len(family.curves))) <= 2 * len(family.curves)


@settings(max_examples=20)
@given(st.floats(0, 0.99))
def test_a_shift_moves_points_along_a_closed_curve_and_changes_no_measure(shift):
    family = FAMILIES["star_domain"]
    theta = designs(family, 1)
    measures = [outline_cloud(family, theta, 200, s).weights.sum() for s in (shift, 0.5)]
    torch.testing.assert_close(*measures, rtol=1e-4, atol=0)


def test_points_move_with_the_design():
    """Central differences of points and weights in the parameters against reverse mode."""
    family = FAMILIES["cavity"]
    theta, direction = designs(family, 1), torch.full((1, 4), 0.3, dtype=torch.float64)
    for part in ("points", "weights", "normals"):

        def of(at, part=part):
            return getattr(outline_cloud(family, at, 60), part)

        slope = torch.autograd.functional.jvp(of, theta, direction)[1]
        difference = (of(theta + 1e-5 * direction) - of(theta - 1e-5 * direction)) / 2e-5
        torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-8)
