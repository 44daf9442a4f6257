"""Promise: prescribed values hold exactly at boundary nodes, as the solver has them, and the factor keeps them so."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import KDTree

from shapewright.geometries.design.dirichlet_lift import Prescribed, build_dirichlet_lift
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.family.cavity import cavity
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import POISSON, Dirichlet, Problem
from tests.geometries.shapes import designs

FAMILY = cavity()
SHAPE_MAP = build_shape_map(FAMILY, 0.25)
LIFT = build_dirichlet_lift(
    SHAPE_MAP, ("u", "v", "p"), [Prescribed("u", ("lid", "wall")), Prescribed("v", ("lid",))]
)
VALUES = {
    ("u", "lid"): lambda at: torch.sin(3 * at[..., 0]),
    ("u", "wall"): lambda at: at[..., 0] * at[..., 1] ** 2,
    ("v", "lid"): lambda at: 1 + at[..., 0],
}


def on(tag):
    return np.unique(SHAPE_MAP.mesh.facets_on(tag))


def test_prescribed_values_hold_at_the_nodes_of_every_design():
    nodes = SHAPE_MAP.nodes(designs(FAMILY, 4))
    lifted = LIFT.lifting(nodes, VALUES)
    wall, lid = on("wall"), on("lid")
    only_lid = np.setdiff1d(lid, wall)
    for component, index, tag in ((0, wall, "wall"), (0, only_lid, "lid"), (1, lid, "lid")):
        wanted = VALUES["uv"[component], tag](nodes[:, index])
        assert torch.equal(lifted[:, index, component], wanted)
    assert not lifted[..., 2].any()


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_linear_functions_are_reproduced_inside(coefficients):
    """They are harmonic, and in the quadratic space of curved cells: on the reference design the lifting is they."""
    a, b, c = coefficients

    def linear(at):
        return a + b * at[..., 0] + c * at[..., 1]

    values = dict.fromkeys(VALUES, linear)
    nodes = SHAPE_MAP.reference_nodes[None]
    torch.testing.assert_close(LIFT.lifting(nodes, values)[..., 0], linear(nodes), rtol=0, atol=1e-10)


def test_liftings_keep_between_the_prescribed_values():
    lifted = LIFT.lifting(SHAPE_MAP.nodes(designs(FAMILY, 4)), VALUES | {("v", "lid"): lambda at: 2 + 0 * at[..., 0]})
    torch.testing.assert_close(lifted[..., 1], torch.full_like(lifted[..., 1], 2.0))


def test_the_factor_vanishes_on_its_regions_to_first_order_and_nowhere_else():
    """Its ratio to the distance from the regions stays between bounds near them."""
    assert torch.equal(LIFT.factor[:, 2], torch.ones(len(LIFT.factor), dtype=torch.float64))
    for component, tags in ((0, ("lid", "wall")), (1, ("lid",))):
        factor = LIFT.factor[:, component].numpy()
        fixed = np.unique(np.concatenate([on(tag) for tag in tags]))
        free = np.setdiff1d(np.arange(len(factor)), fixed)
        assert not factor[fixed].any()
        assert (factor[free] > 0).all()
        assert factor.max() == 1
        outline = np.concatenate([FAMILY.outline(FAMILY.control_points(FAMILY.reference).numpy(), 0, 200)])
        if tags == ("lid",):
            outline = outline[outline[:, 1] > 1 - 1e-9]
        distance = KDTree(outline).query(SHAPE_MAP.mesh.nodes[free])[0]
        near = distance < 0.2
        ratio = (factor[free] / distance)[near]
        print(f"{tags}: factor over distance {ratio.min():.2f} to {ratio.max():.2f}")
        assert ratio.min() > 0.1
        assert ratio.max() < 10


@pytest.mark.parametrize("tags", [("lid", "wall"), ("wall", "lid")])
def test_the_later_region_wins_in_corners_as_in_the_solver(tags):
    heights = {"lid": 1.0, "wall": 2.0}
    conditions = tuple(Dirichlet("u", tag, lambda ops, q, tag=tag: heights[tag]) for tag in tags)
    solved = FemSolver(Problem(POISSON, dirichlet=conditions), SHAPE_MAP.mesh).solve().fields["u"][:, 0]
    lift = build_dirichlet_lift(SHAPE_MAP, ("u",), [Prescribed("u", tags)])
    values = {("u", tag): lambda at, tag=tag: heights[tag] + 0 * at[..., 0] for tag in tags}
    lifted = lift.lifting(SHAPE_MAP.reference_nodes[None], values)[0, :, 0].numpy()
    corners = np.intersect1d(on("lid"), on("wall"))
    assert len(corners) == 2
    assert (lifted[corners] == heights[tags[-1]]).all()
    boundary = np.union1d(on("lid"), on("wall"))
    np.testing.assert_array_equal(lifted[boundary], solved[boundary])
    np.testing.assert_allclose(lifted, solved, atol=1e-9)  # both are harmonic


def test_every_fixed_node_has_one_owner():
    owned = torch.cat(list(LIFT.fixed["u"].values()))
    assert len(owned) == len(owned.unique()) == len(np.union1d(on("lid"), on("wall")))
    assert "p" not in LIFT.fixed


def test_liftings_are_differentiable_in_the_design():
    theta, direction = designs(FAMILY, 1), torch.tensor([[0.3, -0.2, 0.1, 0.4]], dtype=torch.float64)

    def lifting(at):
        return LIFT.lifting(SHAPE_MAP.nodes(at), VALUES)

    slope = torch.autograd.functional.jvp(lifting, theta, direction)[1]
    difference = (lifting(theta + 1e-5 * direction) - lifting(theta - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-8)


def test_an_unknown_region_is_named():
    with pytest.raises(KeyError, match="no boundary region 'rim'; this mesh has wall, lid"):
        build_dirichlet_lift(SHAPE_MAP, ("u",), [Prescribed("u", ("rim",))])
