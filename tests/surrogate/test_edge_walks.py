"""Small steps over the edge of a neighbourhood: what is continuous jumps ever less, what is not keeps its jump.

A neighbourhood ends twice: at the mollifier's ball, and at the cube of nodes that index arithmetic gives. Walks cross
the ball inside a cell, the cube away from the ball, and both at once where they touch.
"""

from __future__ import annotations

import math

import pytest
import torch

from shapewright.surrogate.mgno.derivatives import decoder_jet, field_derivatives, second_order
from shapewright.surrogate.mgno.mollifier import MOLLIFIERS, Mollifier
from tests.surrogate.operator_cases import GRIDS, operator, owners, uniform

STEPS = (1e-3, 1e-4, 1e-5)
CORNERED = [name for name, mollifier in MOLLIFIERS.items() if mollifier.smoothness == 1]
CROSSINGS = {"ball": (math.cos(0.4), math.sin(0.4)), "cube": (1.0, 0.19), "both": (1.0, 0.0)}
"""Places relative to a grid node, in radii; walks go along (1, 0.03)."""

both = pytest.mark.parametrize("dimension", GRIDS)
crossings = pytest.mark.parametrize("crossing", CROSSINGS)


def walk(dimension, crossing, step):
    """(20, d) points a ``step`` of a radius apart, half of them on either side of the crossing."""
    grid = GRIDS[dimension]
    node = torch.tensor([o + h * (n // 2) for o, h, n in zip(grid.origin, grid.spacing, grid.shape, strict=True)])
    start, direction = torch.zeros(2, dimension, dtype=torch.float64)
    start[:2], direction[:2] = torch.tensor(CROSSINGS[crossing]), torch.tensor([1.0, 0.03])
    along = step * (torch.arange(20) - 9.5)
    radius = torch.tensor(grid.spacing, dtype=torch.float64) * grid.radius
    return node + radius * (start + along[:, None] * direction)


def largest_jumps(walks):
    """Between neighbours on each walk, as parts of the values' size on the first."""
    size = walks[0].detach().abs().amax()
    return [float(values.detach().diff(dim=0).abs().amax() / size) for values in walks]


def assert_continuous(walks):
    jumps = largest_jumps(walks)
    assert jumps[0] < 0.3
    assert jumps[1] < 0.2 * jumps[0]
    assert jumps[2] < 0.2 * jumps[1]


def laplacians(dimension, mollifier, crossing, step):
    """As :func:`field_derivatives` has them, without its refusal of mollifiers with a corner."""
    network = operator(dimension, mollifier)
    latent = 2 * uniform(torch.Generator().manual_seed(0), 1, *GRIDS[dimension].shape, 4)
    queries, kind = walk(dimension, crossing, step), second_order("laplacian", dimension)
    jet = decoder_jet(network.decoder, latent, queries, owners(20), kind).gelu(kind).linear(network.projection)
    if mollifier not in CORNERED:
        checked = field_derivatives(network, latent, queries, owners(20), 2, "reverse").laplacians
        torch.testing.assert_close(jet.second.squeeze(-2), checked, atol=1e-9, rtol=1e-9)
    return jet.second.squeeze(-2)


@both
@crossings
@pytest.mark.parametrize("mollifier", ["bump", "octic"])
def test_laplacian_of_a_smooth_mollifier_is_continuous(dimension, mollifier, crossing):
    assert_continuous([laplacians(dimension, mollifier, crossing, step) for step in STEPS])


@both
@pytest.mark.parametrize("crossing", ["ball", "both"])
@pytest.mark.parametrize("mollifier", CORNERED)
def test_laplacian_of_the_others_jumps_at_the_ball(dimension, mollifier, crossing):
    """However small the step: so the test above can fail, and the refusal is about something."""
    jumps = largest_jumps([laplacians(dimension, mollifier, crossing, step) for step in STEPS])
    assert jumps[-1] > 1e-2
    assert jumps[-1] == pytest.approx(jumps[-2], rel=0.1)


def outputs_and_slopes(dimension, mollifier, crossing, step):
    """Of one number of the latent fields, as a single input point walks."""
    network = operator(dimension, "octic")
    network.interior.mollifier = mollifier
    points = walk(dimension, crossing, step).requires_grad_()
    one = torch.ones(20, dtype=torch.float64)
    latent = network.interior(points, one, one[:, None], torch.arange(20), 20)
    seen = torch.randn(latent.shape[1:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = (latent * seen).flatten(1).sum(-1)
    return values, torch.autograd.grad(values.sum(), points)[0]


@both
@crossings
@pytest.mark.parametrize("mollifier", MOLLIFIERS)
def test_outputs_and_their_slopes_are_continuous_in_an_input_point(dimension, mollifier, crossing):
    walks = [outputs_and_slopes(dimension, MOLLIFIERS[mollifier], crossing, step) for step in STEPS]
    for quantity in zip(*walks, strict=True):
        assert_continuous(quantity)


@both
def test_outputs_jump_where_only_the_output_side_is_mollified(dimension):
    """A neighbourhood without a mollifier, as in libraries that leave it out of the encoder."""

    def within(d):
        return (d < 1).to(d)

    sharp = Mollifier("ball", within, torch.zeros_like, torch.zeros_like, -1)
    assert largest_jumps([outputs_and_slopes(dimension, sharp, "ball", step)[0] for step in STEPS])[-1] > 1e-2
