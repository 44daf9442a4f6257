"""The chain theta -> nodes -> clouds -> network -> fields -> functionals and its exact derivatives."""

from __future__ import annotations

import itertools

import pytest
import torch

from shapewright.geometries.design import point_cloud
from shapewright.surrogate.mgno import latent_grid
from shapewright.surrogate.mgno.graded_coordinates import GradedCoordinates
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.models.design_surrogate import latent_grid_for
from tests.surrogate.design_cases import exact_fields, lively_surrogate, random_designs, shape_map, small_surrogate
from tests.surrogate.formulas import WEIGHTS

THETA = random_designs(3, seed=5)
DIRECTION = torch.tensor([0.6, -0.3, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("mollifier", WEIGHTS)
def test_finite_differences_have_a_plateau_around_the_gradient(mollifier):
    """Central differences within 1 % of reverse mode over at least three decades of step, in float64."""
    surrogate = lively_surrogate(mollifier=mollifier)
    gradient = surrogate.value_and_gradient(THETA)[1]
    exact = gradient @ DIRECTION
    assert exact.abs().min() > 1e-4  # the test below is not one of zero against zero
    steps, errors = [10.0**-k for k in range(1, 10)], []
    for h in steps:
        with torch.no_grad():
            ahead, behind = (surrogate.evaluate(THETA + s * h * DIRECTION)[1] for s in (1, -1))
        errors.append(float((((ahead - behind) / (2 * h) - exact) / exact).abs().max()))
    print(f"{mollifier}: " + ", ".join(f"{h:.0e}: {e:.1e}" for h, e in zip(steps, errors, strict=True)))
    good = [error < 0.01 for error in errors]
    assert all(good[2:8]), errors  # 1e-3 to 1e-8: five decades
    assert min(errors) < 1e-6


def test_the_network_has_most_of_the_gradient():
    """Fields that ride on the map have a design gradient too; the tests of this file are to be about the network."""
    still = lively_surrogate()
    still.scale.zero_()
    moving, rest = (surrogate.value_and_gradient(THETA)[1] for surrogate in (lively_surrogate(), still))
    assert ((moving - rest).norm(dim=-1) > 0.7 * moving.norm(dim=-1)).all()


def test_taylor_remainders_are_of_second_order():
    """Over three decades of step, for every functional and design."""
    surrogate = lively_surrogate()
    values, gradients = surrogate.value_and_gradient(THETA)
    slope = gradients @ DIRECTION
    remainders = []
    for h in (10.0**-k for k in (2, 3, 4, 5)):
        with torch.no_grad():
            remainders.append((surrogate.evaluate(THETA + h * DIRECTION)[1] - values - h * slope).abs())
    orders = torch.stack([torch.log10(a / b) for a, b in itertools.pairwise(remainders)])
    print(orders)
    assert (orders[:-1] - 2).abs().max() < 0.1
    assert (orders[-1].median() - 2).abs() < 0.1  # the last remainders are of 1e-11 and begin to feel rounding


def test_forward_mode_equals_reverse_mode():
    surrogate = lively_surrogate()
    directions = DIRECTION.expand_as(THETA)
    _, (fields, forward) = torch.func.jvp(surrogate.evaluate, (THETA,), (directions,))
    gradients = surrogate.value_and_gradient(THETA)[1]
    torch.testing.assert_close(forward, gradients @ DIRECTION, rtol=1e-11, atol=1e-12)
    # and the tangent of the fields, against random cotangents
    seed = torch.randn(fields.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (reverse,) = torch.func.vjp(surrogate.evaluate, THETA)[1]((seed, torch.zeros_like(forward)))
    torch.testing.assert_close((seed * fields).sum(), (reverse * directions).sum(), rtol=1e-11, atol=1e-12)


def test_contrast_widens_what_shapes_differ_by_and_keeps_the_gradient_exact():
    plain, sharp = lively_surrogate(), lively_surrogate()
    sharp.contrast = 1.0
    torch.testing.assert_close(sharp.evaluate(THETA)[1], plain.evaluate(THETA)[1], rtol=1e-12, atol=1e-12)
    sharp.contrast = 10.0
    reference = shape_map().reference_nodes[None]
    torch.testing.assert_close(sharp.fields_at(reference), plain.fields_at(reference), rtol=1e-12, atol=1e-12)
    nodes = shape_map().nodes(THETA)
    encodings = [network.encode(*network.clouds(nodes)) for network in (plain, sharp)]
    spread = [encoding.std(0).mean() for encoding in encodings]
    assert spread[1] > 5 * spread[0]
    directions = DIRECTION.expand_as(THETA)
    _, (_, forward) = torch.func.jvp(sharp.evaluate, (THETA,), (directions,))
    torch.testing.assert_close(forward, sharp.value_and_gradient(THETA)[1] @ DIRECTION, rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        ahead, behind = (sharp.evaluate(THETA + s * 1e-5 * DIRECTION)[1] for s in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2e-5, forward, rtol=1e-5, atol=1e-6)


def test_the_tangent_is_differentiable_in_the_network():
    """What derivative-informed training stands on, against a central difference in one weight."""
    surrogate = lively_surrogate()
    weight = surrogate.operator.interior.per_edge.weight

    def tangent():
        return torch.func.jvp(surrogate.evaluate, (THETA,), (DIRECTION.expand_as(THETA),))[1][1].sum()

    (slope,) = torch.autograd.grad(tangent(), weight)
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight[3, 1] += step
            ends.append(float(tangent()))
            weight[3, 1] -= step
    assert abs(float(slope[3, 1])) > 1e-6
    assert float(slope[3, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_prescribed_values_hold_exactly():
    surrogate = lively_surrogate()
    mesh = shape_map().mesh
    wall = torch.from_numpy(mesh.facets).unique()
    fields = surrogate.fields(THETA)[1].detach()
    reference = exact_fields(shape_map().family.reference)
    assert torch.equal(fields[:, wall, 0], reference[wall, 0].expand(len(THETA), -1))
    assert (fields[:, wall, 1] - reference[wall, 1]).abs().max() > 1e-3  # p is not prescribed


def test_a_batch_is_its_designs_one_by_one_in_any_order():
    surrogate = lively_surrogate()
    values, gradients = surrogate.value_and_gradient(THETA)
    for row in range(len(THETA)):
        value, gradient = surrogate.value_and_gradient(THETA[row : row + 1])
        torch.testing.assert_close(value[0], values[row], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient[0], gradients[row], rtol=1e-11, atol=1e-12)
    flipped = surrogate.value_and_gradient(THETA.flip(0))[1]
    torch.testing.assert_close(flipped, gradients.flip(0), rtol=1e-11, atol=1e-12)


def test_precisions_agree():
    exact_value, exact_gradient = lively_surrogate().value_and_gradient(THETA)
    value, gradient = lively_surrogate().float().value_and_gradient(THETA.float())
    assert value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact_value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-4)


def test_autocast_takes_the_layers_alone_to_half_precision():
    """Positions, weights and integrals keep theirs, so that values lose only what bfloat16's three digits lose."""
    surrogate, theta = lively_surrogate().float(), THETA.float()
    with torch.no_grad():
        nodes, fields = surrogate.fields(theta)
    values, gradients = surrogate.value_and_gradient(theta)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            half_nodes, half_fields = surrogate.fields(theta)
        half_values, half_gradients = surrogate.value_and_gradient(theta)
    assert torch.equal(half_nodes, nodes)
    assert half_fields.dtype == half_values.dtype == half_gradients.dtype == torch.float32
    assert 1e-5 < float((half_fields - fields).norm() / fields.norm()) < 2e-2
    assert float((half_values - values).norm() / values.norm()) < 2e-2
    assert float((half_gradients - gradients).norm() / gradients.norm()) < 5e-2


@pytest.mark.parametrize("graded", [False, True])
def test_a_value_and_its_gradient_ask_the_device_for_no_number(graded, monkeypatch):
    """As a CUDA graph needs it. On the CPU it would not show, so torch's own record of its operations is read."""
    monkeypatch.setattr(latent_grid, "is_capturing", lambda like: True)
    monkeypatch.setattr(point_cloud, "is_capturing", lambda like: True)
    surrogate = lively_surrogate(grading=GradedCoordinates((0.5, 0.5), 0.5) if graded else None)
    surrogate.value_and_gradient(THETA)
    with torch.autograd.profiler.profile() as record:
        surrogate.value_and_gradient(THETA)
    names = {event.key for event in record.key_averages()}
    assert "aten::index_select" in names
    assert not names & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


@pytest.mark.gpu
def test_devices_agree():
    expected = lively_surrogate().value_and_gradient(THETA)
    found = lively_surrogate().cuda().value_and_gradient(THETA.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.is_cuda
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-9, atol=1e-9)


def test_the_gradient_leaves_the_argument_and_the_weights_alone():
    surrogate, theta = small_surrogate(), THETA.clone()
    surrogate.value_and_gradient(theta)
    assert torch.equal(theta, THETA)
    assert not theta.requires_grad
    assert all(parameter.grad is None for parameter in surrogate.parameters())


def test_a_design_far_outside_the_bounds_leaves_the_grid():
    with pytest.raises(OutsideGridError, match="latent grid takes"):
        small_surrogate().fields(torch.full((1, 3), 9.0, dtype=torch.float64))


def test_the_grid_holds_every_corner_of_the_parameter_box():
    bounds = shape_map().family.bounds
    grid = latent_grid_for(shape_map(), (10, 12), radius=2)
    corners = torch.cartesian_prod(*bounds)
    nodes = shape_map().nodes(corners).flatten(0, 1)
    grid.neighbours(nodes, torch.zeros(len(nodes), dtype=torch.int64))
    assert grid == latent_grid_for(shape_map(), (10, 12), radius=2)


def test_the_grid_holds_every_corner_of_a_studys_own_box_too():
    own = shape_map().family.bounds
    wider = torch.stack([own[:, 0], own[:, 1] + 4 * (own[:, 1] - own[:, 0])], 1)
    points = shape_map().family.control_points(torch.cartesian_prod(*wider)).flatten(0, 1)
    none = torch.zeros(len(points), dtype=torch.int64)
    latent_grid_for(shape_map(), (10, 12), radius=2, bounds=wider).neighbours(points, none)
    with pytest.raises(OutsideGridError):
        latent_grid_for(shape_map(), (10, 12), radius=2).neighbours(points, none)


def test_weights_of_one_network_are_those_of_another():
    one, other = small_surrogate(0), small_surrogate(1)
    assert not torch.equal(one.evaluate(THETA)[1], other.evaluate(THETA)[1])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.evaluate(THETA)[1], other.evaluate(THETA)[1])
