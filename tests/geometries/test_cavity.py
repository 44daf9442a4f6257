"""Promise: a straight lid that shifts over a floor that stays, walls that bulge by what they say, no folded cell."""

import numpy as np
import pytest
import torch

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.cavity import cavity
from shapewright.geometries.family.parts import FamilyError
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from tests.geometries.shapes import designs

FAMILY = cavity()


@pytest.fixture(scope="module")
def shape_map():
    return build_shape_map(FAMILY, 0.06)  # that of the shipped study


def box(count=100):
    return torch.cat([torch.cartesian_prod(*FAMILY.bounds), designs(FAMILY, count)])


def test_each_wall_bulges_by_three_quarters_of_its_parameter():
    skew, left, right, floor = theta = torch.tensor([0.2, 0.1, -0.15, 0.12], dtype=torch.float64)
    poles = FAMILY.control_points(theta).numpy()
    middles, start = [], 0
    for curve in FAMILY.curves:
        half = curve.basis(np.array([curve.spans / 2]))
        middles.append((half @ poles[start : start + curve.count])[0])
        start += curve.count
    wanted = [
        (0.5, -0.75 * floor), (1 + skew / 2 + 0.75 * right, 0.5), (0.5 + skew, 1.0), (skew / 2 - 0.75 * left, 0.5)
    ]  # fmt: skip
    np.testing.assert_allclose(middles, wanted, atol=1e-14)


def test_the_lid_stays_straight_and_as_long(shape_map):
    theta = box()
    lid = shape_map.nodes(theta)[:, torch.from_numpy(np.unique(shape_map.mesh.facets_on("lid")))]
    assert (lid[..., 1] - 1).abs().max() < 1e-12
    torch.testing.assert_close(lid[..., 0].amin(-1), theta[:, 0])
    torch.testing.assert_close(lid[..., 0].amax(-1), 1 + theta[:, 0])


def test_no_cell_folds(shape_map):
    reference = bernstein_jacobians(shape_map.mesh, shape_map.reference_nodes)
    ratio = (bernstein_jacobians(shape_map.mesh, shape_map.nodes(box(300))) / reference).min()
    print(f"least Jacobian {float(ratio):.3f} of the reference's")
    assert ratio > 0.4


@pytest.mark.parametrize("options", [{"skew": 0.0}, {"skew": 1.0}, {"bulge": 0.4}, {"bulge": -0.1}])
def test_wrong_options_are_named(options):
    with pytest.raises(FamilyError, match=r"allowed: between 0 and 1, between 0 and 0\.4"):
        cavity(**options)
