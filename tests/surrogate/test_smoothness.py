"""Nothing jumps where a point enters or leaves a neighbourhood, or where the window of nodes changes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.surrogate.formulas import EXACT_SMOOTHNESS
from tests.surrogate.operator_cases import GRIDS, decoder, encoder, owners, random_latent

GRID = GRIDS[2]
EDGE = 1e-6
angles = st.floats(0, 2 * math.pi) | st.sampled_from([0.0, math.pi / 2, math.pi, 1.5 * math.pi])  # axes: new window
every = pytest.mark.parametrize("mollifier", EXACT_SMOOTHNESS)


def path_over_the_edge(angle):
    """t -> point that is at distance (1 + t) radii from an inner grid node."""
    node = torch.tensor([o + h * i for o, h, i in zip(GRID.origin, GRID.spacing, (4, 4), strict=True)])
    direction = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    radius = torch.tensor(GRID.spacing, dtype=torch.float64) * GRID.radius
    return lambda t: (node + radius * direction * (1 + t))[None]


def derivatives(function, t):
    """Value, first and second derivative of a scalar function of a number."""
    t = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    value = function(t)
    (first,) = torch.autograd.grad(value, t, create_graph=True)
    (second,) = torch.autograd.grad(first, t)
    return [float(part.detach()) for part in (value, first, second)]


def jumps(function):
    """Difference of value and derivatives across t = 0, in excess of what their own slopes explain."""
    before, after = (derivatives(function, t) for t in (-EDGE, EDGE))
    return [abs(b - a) for a, b in zip(before, after, strict=True)]


def query_walk(mollifier, angle):
    module, latent, path = decoder(2, mollifier), random_latent(2), path_over_the_edge(angle)
    return lambda t: module(latent, path(t), owners(1))[0] @ torch.tensor([1.0, 2.0], dtype=torch.float64)


def input_walk(mollifier, angle):
    """The latent values of all nodes, weighted at random: every node within reach contributes."""
    module, path = encoder(2, mollifier), path_over_the_edge(angle)
    seen = torch.randn(1, *GRID.shape, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight, features = torch.ones(1, dtype=torch.float64), torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    return lambda t: (module(path(t), weight, features, owners(1), 1) * seen).sum()


walks = pytest.mark.parametrize("walk", [query_walk, input_walk])


@walks
@every
@given(angle=angles)
@settings(max_examples=30)
def test_as_many_derivatives_are_continuous_as_the_mollifier_has(walk, mollifier, angle):
    jump = jumps(walk(mollifier, angle))
    assert jump[0] < 1e3 * EDGE
    assert jump[1] < 1e3 * EDGE
    if EXACT_SMOOTHNESS[mollifier] >= 2:
        assert jump[2] < 1e4 * EDGE


@walks
@pytest.mark.parametrize("mollifier", ["half_cosine", "quartic", "quadratic"])
def test_second_derivatives_of_the_others_do_jump(walk, mollifier):
    """So the test above can tell: this is what the error for strong residuals is about."""
    assert jumps(walk(mollifier, 0.4))[2] > 0.05
