"""Free-form deformation: partition of unity, linearity, zones that stay to the last digit, derivatives, inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from shapewright.geometries.design.free_form import free_form, smooth_minimum
from shapewright.geometries.design.keep_zones import KeptBox, KeptCylinder, KeptPlane, fall, freedom, freedom_gradient
from shapewright.geometries.design.lattice import Lattice, cardinal
from shapewright.geometries.family.outlines import ShapeError
from tests.geometries.shapes import taylor_order
from tests.geometries.solids import KEPT, design, form, part, solid_map, solid_mesh

BOX = {"low": (0.0, -1.0, 2.0), "high": (4.0, 1.0, 3.0), "points": (5, 3, 2), "limit": 0.3}
ZONES = (
    KeptCylinder((1.0, 0.0, 2.5), (0.0, 0.6, 0.8), 0.2, 0.3, 0.7, 0.05),
    KeptBox((3.0, 0.5, 2.2), ((1.0, 0.0, 0.0), (0.0, 0.8, 0.6), (0.0, -0.6, 0.8)), (0.2, 0.3, 0.0), 0.5),
    KeptPlane((0.0, 0.0, 2.0), (0.0, 0.0, 1.0), 0.4),
)


def points(count: int, seed: int = 0) -> torch.Tensor:
    """Positions in and around the box."""
    unit = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor([-1.0, -2.0, 1.0]) + unit * torch.tensor([6.0, 4.0, 3.0])


def test_the_cardinal_spline_is_scipys():
    s = np.linspace(-3.5, 3.5, 101)
    spline = BSpline.basis_element(np.arange(-3.0, 4.0), extrapolate=False)
    for derivative in (0, 1):
        expected = np.nan_to_num(spline.derivative(derivative)(s) if derivative else spline(s))
        np.testing.assert_allclose(cardinal(torch.from_numpy(s), derivative).numpy(), expected, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(
    at=st.tuples(*[st.floats(-50, 50)] * 3),
    rows=st.tuples(*[st.integers(1, 7)] * 3),
)
def test_the_functions_are_a_partition_of_unity(at, rows):
    """Everywhere, also far outside the box, so that equal motions of all control points are a translation."""
    basis = Lattice(**{**BOX, "points": rows}).basis(torch.tensor([at], dtype=torch.float64))
    assert basis.shape == (1, np.prod(rows))
    assert float(basis.min()) >= -1e-13
    assert abs(float(basis.sum()) - 1) < 1e-12


def test_the_smoothstep_is_three_times_differentiable_at_both_ends():
    """One-sided differences of the septic polynomial vanish with the fourth power, so three derivatives are zero."""
    for end, sign in ((0.0, 1.0), (2.0, -1.0)):
        h = torch.tensor([0.04, 0.02, 0.01], dtype=torch.float64)
        away = (fall(end + sign * h, 2.0) - fall(torch.tensor([end], dtype=torch.float64), 2.0)).abs()
        assert (away[:-1] / away[1:] > 15).all()
    assert float(fall(torch.tensor(1.0), 2.0)) == pytest.approx(0.5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(-2, 2))
def test_the_map_is_linear_in_the_design(seed, share):
    of = free_form(Lattice(**BOX), ZONES, points(200))
    a, b, at = design(of, seed), design(of, seed + 1), points(20, seed)
    both = of.moved(a + share * b, at)
    torch.testing.assert_close(both - at, of.moved(a, at) - at + share * (of.moved(b, at) - at), rtol=0, atol=1e-14)
    torch.testing.assert_close(of.moved(torch.stack([a, b]), at), torch.stack([of.moved(a, at), of.moved(b, at)]))


@settings(max_examples=20, deadline=None)
@given(turn=st.floats(0, 6.3), out=st.floats(0, 0.25), along=st.floats(-0.35, 0.35), seed=st.integers(0, 99))
def test_zones_stay_to_the_last_digit(turn, out, along, seed):
    of = free_form(Lattice(**BOX), ZONES, points(200))
    axis, first, second = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [0.0, 0.8, -0.6]])
    in_cylinder = np.array([1.0, 0.0, 2.5]) + along * axis + out * (np.cos(turn) * first + np.sin(turn) * second)
    in_plane = np.array([np.cos(turn), 4 * along, 2.0])
    in_box = np.array([3.0, 0.5, 2.2]) + 0.5 * along * first + along / 2 * np.array([0.0, 0.8, 0.6])
    at = torch.from_numpy(np.stack([in_cylinder, in_plane, in_box]))
    assert torch.equal(of.moved(10 * design(of, seed), at), at)


@pytest.mark.parametrize("name", ["bracket", "cantilever", "turned"])
def test_nodes_on_kept_faces_stay_to_the_last_digit(name):
    mesh, theta = solid_mesh(name), 3 * design(form(name), 1)
    kept, of_kept = np.unique(mesh.mesh.facets_on("kept")), mesh.mesh.tag_names.index("kept")
    assert set(mesh.facet_faces[mesh.mesh.facet_tags == of_kept]) == set(KEPT[name])
    moved = solid_map(name).nodes(theta).numpy()
    assert np.array_equal(moved[kept], mesh.mesh.nodes[kept])
    assert np.linalg.norm(moved - mesh.mesh.nodes, axis=1).max() > 0.02 * np.ptp(mesh.mesh.nodes, axis=0).max()


def test_gradients_are_those_of_the_map():
    of, at, h = free_form(Lattice(**BOX), ZONES, points(200)), points(300, 3), 1e-6
    theta = design(of, 5)
    gradient = of.gradient(theta, at)
    for axis in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[axis]
        difference = (of.moved(theta, at + step) - of.moved(theta, at - step)) / (2 * h)
        torch.testing.assert_close(gradient[..., axis], difference, rtol=0, atol=1e-7)
        slope = (freedom(ZONES, at + step) - freedom(ZONES, at - step)) / (2 * h)
        torch.testing.assert_close(freedom_gradient(ZONES, at)[:, axis], slope, rtol=0, atol=1e-7)


def test_the_inverse_finds_every_point():
    of, at = free_form(Lattice(**BOX), ZONES, points(200)), points(500, 4)
    theta = design(of, 6, 0.5)
    assert of.check(theta, at) > 0.2
    torch.testing.assert_close(of.inverse(theta, of.moved(theta, at)), at, rtol=0, atol=1e-13)


def test_a_folded_map_is_refused():
    of, at = free_form(Lattice(**BOX), ZONES, points(200)), points(500, 4)
    theta = 30 * design(of, 6)
    with pytest.raises(ShapeError, match=r"folded map: det grad F is -.* at .*; it must stay positive"):
        of.check(theta, at)
    with pytest.raises(ShapeError, match=r"inverse of the deformation: .* points were not found"):
        of.inverse(theta, at)


def test_mirrors_and_ties_leave_fewer_parameters():
    mirrored = free_form(Lattice(**BOX, move=("x", "y"), symmetric=("y",)), (), points(200))
    # of 5 x 3 x 2 points 5 x 2 x 2 pairs along x, and along y those off the mirror
    assert [p.name[0] for p in mirrored.parameters].count("x") == 20
    assert [p.name[0] for p in mirrored.parameters].count("y") == 10
    theta, at = design(mirrored, 2), points(50)
    flip = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(mirrored.moved(theta, flip * at), flip * mirrored.moved(theta, at), rtol=0, atol=1e-14)
    tied = Lattice(**BOX, move=("z",), ties={"x": ((0, 1), (3, 4)), "y": "all"})
    assert [p.name for p in tied.reduction[1]] == [f"z_{x}_0_{z}" for x in (0, 2, 3) for z in (0, 1)]


def test_parameters_without_influence_are_left_out():
    far = points(200)[:, :] * torch.tensor([0.3, 1.0, 1.0])
    of = free_form(Lattice(**BOX, move=("x",)), (), far)
    assert {p.name.split("_")[1] for p in of.parameters} == {"0", "1", "2", "3"}
    with pytest.raises(ShapeError, match="leave no freedom"):
        free_form(Lattice(**BOX), (KeptPlane((0.0, 0.0, 2.0), (0.0, 0.0, 1.0), 1.0, 9.0),), points(200))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"high": (4.0, -1.0, 3.0)}, "first corner must be less"),
        ({"points": (3, 0, 2)}, r"points \(3, 0, 2\)"),
        ({"limit": 0.0}, "limit 0.0; allowed are positive"),
        ({"move": ("x", "r")}, "move: x, r; allowed are x, y, z"),
        ({"move": ()}, "move: found no axis"),
        ({"symmetric": ("x", "x")}, "symmetric: .*each once"),
        ({"ties": {"x": ((0, 5),)}}, "ties: .* 0 to 4"),
    ],
)
def test_a_wrong_lattice_is_refused(change, message):
    with pytest.raises(ShapeError, match=f"lattice: .*{message}"):
        Lattice(**{**BOX, **change})


def test_a_box_outside_the_part_is_refused():
    with pytest.raises(ShapeError, match="lies outside the part, which is"):
        free_form(Lattice((9, 9, 9), (10, 10, 10), (3, 3, 3), 0.1), (), points(50))


def test_nodes_and_their_pull_back():
    mapped = solid_map("bracket")
    theta, direction = design(mapped.form, 1), design(mapped.form, 2)
    assert torch.equal(mapped.nodes(mapped.form.default), mapped.reference_nodes)
    assert mapped.nodes(torch.stack([theta, direction])).shape == (2, len(mapped.mesh.nodes), 3)
    torch.testing.assert_close(mapped.nodes(theta), mapped.form.moved(theta, mapped.reference_nodes))
    weight = torch.randn(len(mapped.mesh.nodes), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    through_nodes = (weight * mapped.velocity(theta, direction)).sum()
    torch.testing.assert_close(mapped.pull_back(theta, weight) @ direction, through_nodes)


def test_the_least_gradient_bounds_and_has_its_derivative():
    mapped = solid_map("bracket")
    theta = design(mapped.form, 3, 0.6)
    smooth = float(mapped.least_gradient(theta))
    vertices = mapped.reference_nodes[torch.from_numpy(mapped.mesh.vertices)]
    assert float(mapped.form.determinants(theta, vertices).min()) > smooth
    assert smooth > mapped.check(theta) - 0.05
    order = taylor_order(lambda at: smooth_minimum(mapped.least_gradient(at)[None], 1.0), theta, design(mapped.form, 4))
    assert order > 1.9
    torch.testing.assert_close(mapped.least_gradient(torch.stack([theta, theta]))[1], mapped.least_gradient(theta))


def test_a_bore_in_two_halves_is_one_zone():
    """The zone of a bore is the cylinder itself: its radius, and its length along the axis."""
    (zone,) = form("cantilever").zones
    assert isinstance(zone, KeptCylinder)
    assert zone.radius == pytest.approx(6.0)
    assert zone.half_length == pytest.approx(10.0)
    assert zone.centre == pytest.approx((50.0, 10.0, 15.0), abs=1e-6)
    assert part("cantilever").solid
