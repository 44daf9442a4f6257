"""Derivatives carried forward against nested reverse mode, and what can be differentiated further."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from shapewright.surrogate.mgno.derivatives import SECONDS, field_derivatives
from shapewright.surrogate.mgno.gelu_derivatives import gelu_derivatives
from tests.surrogate.formulas import WEIGHTS
from tests.surrogate.operator_cases import GRIDS, operator, random_points, uniform

KEPT = {
    "hessian": ("hessians", "diagonals", "laplacians"),
    "diagonal": ("diagonals", "laplacians"),
    "laplacian": ("laplacians",),
}
both = pytest.mark.parametrize("dimension", GRIDS)
reductions = pytest.mark.parametrize("reduction", ["mean", "integral"])
seconds = pytest.mark.parametrize("second", SECONDS)


def case(dimension, mollifier="octic", reduction="mean", count=12):
    network = operator(dimension, mollifier, reduction=reduction)
    latent = 2 * uniform(torch.Generator().manual_seed(0), 2, *GRIDS[dimension].shape, 4)
    return network, latent, random_points(GRIDS[dimension], count, seed=1), torch.arange(count) % 2


def weighted(found, names):
    """One number in which every derivative counts differently."""
    parts = torch.cat([getattr(found, name).flatten() for name in ("values", "gradients", *names)])
    return (parts * torch.linspace(-1, 2, len(parts), dtype=parts.dtype)).sum()


@both
@reductions
@pytest.mark.parametrize("mollifier", WEIGHTS)
def test_gradients_agree_with_reverse_mode(dimension, reduction, mollifier):
    given = case(dimension, mollifier, reduction)
    forward, reverse = (field_derivatives(*given, mode=mode) for mode in ("forward", "reverse"))
    torch.testing.assert_close(forward.values, reverse.values, atol=1e-13, rtol=1e-12)
    torch.testing.assert_close(forward.gradients, reverse.gradients, atol=1e-12, rtol=1e-11)
    assert all(getattr(forward, name) is None for name in KEPT["hessian"])


@both
@reductions
@seconds
@pytest.mark.parametrize("mollifier", ["bump", "octic"])
def test_second_derivatives_agree_with_nested_reverse_mode(dimension, reduction, second, mollifier):
    """And so do their derivatives in the weights, in the latent fields and in the queries."""
    network, latent, queries, owner = case(dimension, mollifier, reduction)
    inputs = [latent.requires_grad_(), queries.requires_grad_(), network.projection.weight]
    inputs += network.decoder.parameters()
    results = []
    for mode in ("forward", "reverse"):
        found = field_derivatives(network, latent, queries, owner, 2, mode, second)
        results.append((found, torch.autograd.grad(weighted(found, KEPT[second]), inputs)))
    (forward, forward_slopes), (reverse, reverse_slopes) = results
    for name in ("values", "gradients", *KEPT[second]):
        torch.testing.assert_close(getattr(forward, name), getattr(reverse, name), atol=1e-10, rtol=1e-10)
    for name in set(KEPT["hessian"]) - set(KEPT[second]):
        assert getattr(forward, name) is None
    for a, b in zip(forward_slopes, reverse_slopes, strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@both
def test_single_precision_agrees_to_1e_5(dimension):
    network, latent, queries, owner = case(dimension)
    network, latent, queries = network.float(), latent.float(), queries.float()
    weights = list(network.decoder.parameters())
    results = []
    for mode in ("forward", "reverse"):
        found = field_derivatives(network, latent, queries, owner, 2, mode)
        slopes = torch.autograd.grad(weighted(found, ("laplacians",)), weights)
        results.append((found.values, found.gradients, found.hessians, found.laplacians, *slopes))
    for a, b in zip(*results, strict=True):
        assert float(((a - b).norm() / b.norm()).detach()) < 1e-5


@both
@reductions
@pytest.mark.parametrize("order", [1, 2])
def test_carried_derivatives_by_weights_and_latent_against_central_differences(dimension, reduction, order):
    network, latent, queries, owner = case(dimension, "octic", reduction, 3)
    layers = {name: value for name, value in network.named_parameters() if name.startswith(("decoder", "projection"))}
    given = [value.detach().clone().requires_grad_() for value in layers.values()]

    def carried(latent, *values):
        def through(net):
            return field_derivatives(net, latent, queries, owner, order, second="laplacian")

        found = _with_parameters(network, dict(zip(layers, values, strict=True)), through)
        return found.gradients if order == 1 else found.laplacians

    assert torch.autograd.gradcheck(carried, (latent.requires_grad_(), *given), fast_mode=True, rtol=1e-6, atol=1e-8)


def _with_parameters(network, values, function):
    """``function(network)`` with some of its parameters replaced."""
    holder = torch.nn.Module()
    holder.network, holder.forward = network, lambda: function(network)
    return torch.func.functional_call(holder, {f"network.{name}": value for name, value in values.items()}, ())


@seconds
def test_forward_over_forward(second):
    """A design that moves latent fields and queries moves the Laplacian: by jvp as by reverse mode."""
    network, latent, queries, owner = case(2)

    def residual(latent, queries):
        return weighted(field_derivatives(network, latent, queries, owner, 2, second=second), KEPT[second])

    directions = (torch.cos(latent), torch.sin(queries))
    slope = torch.func.jvp(residual, (latent, queries), directions)[1]
    gradient = torch.func.grad(residual, (0, 1))(latent, queries)
    reverse = sum((g * d).sum() for g, d in zip(gradient, directions, strict=True))
    torch.testing.assert_close(slope, reverse, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_gelu_and_its_derivatives(order):
    z = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    found = gelu_derivatives(z, order)
    value = torch.tensor([t * 0.5 * math.erfc(-t / math.sqrt(2)) for t in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found[0], value, atol=1e-14, rtol=1e-12)
    assert len(found) == order + 1
    for lower, higher in itertools.pairwise(found):
        (slope,) = torch.autograd.grad(lower.sum(), z, retain_graph=True)
        torch.testing.assert_close(higher, slope, atol=1e-14, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda t: gelu_derivatives(t, order), (z,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda t: gelu_derivatives(t, order), (z,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "central"}, "mode is 'central'; allowed are forward, reverse"),
        ({"order": 2, "second": "trace"}, "second is 'trace'; allowed are hessian, diagonal, laplacian"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        field_derivatives(*case(2), **options)


@pytest.mark.gpu
@both
@seconds
def test_devices_agree(dimension, second):
    network, latent, queries, owner = case(dimension)
    expected = field_derivatives(network, latent, queries, owner, 2, second=second)
    found = field_derivatives(network.cuda(), latent.cuda(), queries.cuda(), owner.cuda(), 2, second=second)
    for name in ("values", "gradients", *KEPT[second]):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), atol=1e-9, rtol=1e-9)
