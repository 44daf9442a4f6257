"""Every derivative that training, physics losses and design gradients take, of a whole network, against differences.

All in float64, to 1e-6 of the derivative's own size, for every mollifier, reduction and dimension. Central differences
cannot tell a wrong value from a right one: ``test_kernel_integral.py`` compares values with the formula.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shapewright.surrogate.mgno.derivatives import field_derivatives
from shapewright.surrogate.mgno.mollifier import MOLLIFIERS
from tests.surrogate.operator_cases import GRIDS, operator, owners, random_cloud, random_points, uniform

STEP = 1e-5
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
networks = pytest.mark.parametrize(
    ("mollifier", "reduction", "dimension"),
    [(m, r, d) for m in MOLLIFIERS for r in ("mean", "integral") for d in GRIDS],
)
INPUTS = ("points", "weights", "functions", "boundary points", "boundary weights", "normals", "boundary functions")


class Case:
    """A network with an interior and a boundary function, its inputs by name, and some queries."""

    def __init__(self, mollifier, reduction, dimension, device):
        network = operator(dimension, mollifier, 1, boundary_functions=1, reduction=reduction)
        grid, generator = GRIDS[dimension], torch.Generator().manual_seed(7)
        inner, outer = random_cloud(grid, [3], 1), random_cloud(grid, [3], 2, boundary=True)
        values = (inner.points, inner.weights, uniform(generator, 3, 1))
        values += (outer.points, outer.weights, outer.normals, uniform(generator, 3, 1))
        self.inputs = {name: value.to(device) for name, value in zip(INPUTS, values, strict=True)}
        self.network, self.interior, self.boundary = network.to(device), inner.to(device), outer.to(device)
        self.queries, self.owner = random_points(grid, 4, seed=11).to(device), owners(4).to(device)

    def latent(self, **changed):
        value = self.inputs | changed
        return self.network.encode(
            replace(self.interior, points=value["points"], weights=value["weights"]),
            replace(
                self.boundary,
                points=value["boundary points"],
                weights=value["boundary weights"],
                normals=value["normals"],
            ),
            value["functions"],
            value["boundary functions"],
        )

    def derivatives(self, latent, queries=None, **options):
        queries = self.queries if queries is None else queries
        return field_derivatives(self.network, latent, queries, self.owner, **options)


def assert_close(exact, differences):
    size = differences.norm()
    assert size > 1e-4
    assert float((exact - differences).norm() / size) < 1e-6


def central(function, at):
    """Differences of a function of a tensor in each of its entries, stacked last."""
    slopes = []
    for entry in range(at.numel()):
        step = torch.zeros_like(at).flatten()
        step[entry] = STEP
        step = step.view_as(at)
        slopes.append((function(at + step) - function(at - step)).detach() / (2 * STEP))
    return torch.stack(slopes, -1)


@devices
@networks
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_first_and_second_derivatives_by_query(mollifier, reduction, dimension, device, mode):
    case = Case(mollifier, reduction, dimension, device)
    latent = case.latent().detach()
    smooth = MOLLIFIERS[mollifier].smoothness >= 2
    found = case.derivatives(latent, order=1 + smooth, mode=mode)
    steps = STEP * torch.eye(dimension, dtype=torch.float64, device=device)
    sides = [[case.derivatives(latent, case.queries + s * step, mode=mode) for s in (1, -1)] for step in steps]
    values, gradients = (
        torch.stack([(getattr(a, name) - getattr(b, name)).detach() / (2 * STEP) for a, b in sides], -1)
        for name in ("values", "gradients")
    )
    assert_close(found.gradients.detach(), values)
    if smooth:
        assert_close(found.hessians.detach(), gradients)


@devices
@networks
@pytest.mark.parametrize("name", INPUTS)
def test_first_derivatives_by_input(mollifier, reduction, dimension, device, name):
    """Of the values, gradients and, where they are continuous, Laplacians at the queries."""
    case = Case(mollifier, reduction, dimension, device)
    order = 1 + (MOLLIFIERS[mollifier].smoothness >= 2)
    seen = torch.linspace(-1, 1.5, 4 * 2, dtype=torch.float64, device=device).view(4, 2)

    def outputs(value):
        found = case.derivatives(case.latent(**{name: value}), order=order, second="laplacian")
        parts = [found.values, found.gradients.sum(-1)] + ([] if found.laplacians is None else [found.laplacians])
        return torch.stack([(part * seen).sum() for part in parts])

    at = case.inputs[name].clone().requires_grad_()
    exact = torch.stack([torch.autograd.grad(part, at, retain_graph=True)[0].flatten() for part in outputs(at)])
    for derivative, difference in zip(exact, central(outputs, at.detach()), strict=True):
        assert_close(derivative, difference)


@devices
@networks
def test_query_derivatives_by_every_weight(mollifier, reduction, dimension, device):
    """Along each parameter's slope with something random added: what a step of a physics loss needs.

    ``test_forward_mode.py`` has reverse mode agree.
    """
    case = Case(mollifier, reduction, dimension, device)
    order = 1 + (MOLLIFIERS[mollifier].smoothness >= 2)

    def loss():
        found = case.derivatives(case.latent(), order=order, second="laplacian")
        return found.gradients.square().sum() if order == 1 else found.laplacians.square().sum()

    named = {name: value for name, value in case.network.named_parameters() if name != "projection.bias"}
    slopes = torch.autograd.grad(loss(), list(named.values()), materialize_grads=True)
    generator = torch.Generator().manual_seed(3)
    for (name, value), slope in zip(named.items(), slopes, strict=True):
        random = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(device)
        direction = slope / slope.norm() + 0.5 * random / random.norm()
        difference = central(lambda step, v=value, d=direction: _moved(v, step * d, loss), slope.new_zeros(1))
        assert float(abs((slope * direction).sum() - difference)) < 1e-6 * float(slope.norm()), name


def _moved(value, step, function):
    with torch.no_grad():
        value += step
    result = function().detach()
    with torch.no_grad():
        value -= step
    return result
