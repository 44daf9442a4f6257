"""Promise: equal waved pores in a square that keeps its sides; only the ring around each pore moves."""

import numpy as np
import pytest
import torch

from shapewright.geometries.design.extension import boundary_basis, build_shape_map
from shapewright.geometries.family.parts import FamilyError
from shapewright.geometries.family.porous_square import porous_square
from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from tests.geometries.shapes import designs

FAMILY = porous_square()
CENTRES = [(x, y) for x in (0.25, 0.75) for y in (0.25, 0.75)]


@pytest.fixture(scope="module")
def shape_map():
    return build_shape_map(FAMILY, 0.05)  # that of the shipped study


def box(count=40):
    return torch.cat([torch.cartesian_prod(*FAMILY.bounds), designs(FAMILY, count)])


def test_every_pore_is_the_formula_around_its_centre():
    worst = 0.0
    for r0, c1, c2 in box(10).tolist():
        points = FAMILY.control_points(torch.tensor([r0, c1, c2], dtype=torch.float64)).numpy()
        for loop, centre in enumerate(CENTRES, start=1):
            x, y = (FAMILY.outline(points, loop) - np.array(centre)).T
            angle = np.arctan2(y, x)
            wanted = r0 * (1 + c1 * np.cos(4 * angle) + c2 * np.cos(8 * angle))
            worst = max(worst, np.abs(np.hypot(x, y) - wanted).max())
    print(f"largest distance of a pore from its formula {worst:.2e}")
    assert worst < 5e-5


def test_the_sides_stay(shape_map):
    theta = box()
    moved, reference = shape_map.nodes(theta), shape_map.reference_nodes
    for tag, axis, at in (("bottom", 1, 0.0), ("right", 0, 1.0), ("top", 1, 1.0), ("left", 0, 0.0)):
        nodes = torch.from_numpy(np.unique(shape_map.mesh.facets_on(tag)))
        assert torch.equal(moved[:, nodes], reference[nodes].expand(len(theta), -1, -1))
        assert (reference[nodes, axis] - at).abs().max() < 1e-12


def test_only_the_rings_move(shape_map):
    away = np.min([np.linalg.norm(shape_map.mesh.nodes - np.array(centre), axis=-1) for centre in CENTRES], 0)
    moves = shape_map.extension.abs().sum(-1).numpy() > 0
    assert not moves[away > 0.98 * 0.25].any()
    assert moves[away < 0.2].all()


def test_the_mesh_follows_the_pores_and_does_not_fold(shape_map):
    boundary, basis = boundary_basis(FAMILY, FAMILY.control_points(FAMILY.reference).numpy(), shape_map.mesh)
    pores = basis[:, FAMILY.loop_slices[1].start :]
    on_pore = pores.any(-1)
    found = shape_map.extension[boundary[on_pore]].numpy()
    np.testing.assert_allclose(found[:, FAMILY.loop_slices[1].start :], pores[on_pore], atol=1e-10)
    jacobians = bernstein_jacobians(shape_map.mesh, shape_map.nodes(box()))
    reference = bernstein_jacobians(shape_map.mesh, shape_map.reference_nodes)
    print(f"least Jacobian {float((jacobians / reference).min()):.3f} of the reference's")
    assert (jacobians / reference).min() > 0.2


def test_the_area_is_what_the_pores_leave(shape_map):
    theta = box()
    r0, c1, c2 = theta.unbind(-1)
    wanted = 1 - 4 * torch.pi * r0**2 * (1 + (c1**2 + c2**2) / 2)
    found = cell_points(shape_map.mesh, shape_map.nodes(theta)).weights.sum((-1, -2))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pores": 0}, "1 or more"),
        ({"pores": 1.5}, "pores is 1.5; allowed is a whole number"),
        ({"control_points": 12}, "24 or more"),
        ({"radius": 0.2, "spread": 0.05}, r"reaches 0.3 from its centre; allowed is less than 0.25"),
        ({"spread": 0.2}, "0 < spread < radius"),
        ({"fourfold": -0.1}, "positive bounds"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(FamilyError, match=message):
        porous_square(**options)
