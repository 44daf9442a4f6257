"""Derivatives of the predicted fields in space, and the refusal of those that would jump."""

from __future__ import annotations

import pytest
import torch

from shapewright.surrogate.mgno.derivatives import field_derivatives
from tests.surrogate.operator_cases import GRIDS, operator, random_points, uniform


def case(dimension, mollifier):
    network = operator(dimension, mollifier)
    latent = 2 * uniform(torch.Generator().manual_seed(0), 2, *GRIDS[dimension].shape, 4)
    return network, latent, random_points(GRIDS[dimension], 5, seed=1), torch.tensor([0, 1, 1, 0, 1])


@pytest.mark.parametrize("dimension", GRIDS)
@pytest.mark.parametrize("mollifier", ["bump", "octic"])
def test_against_central_differences(dimension, mollifier):
    network, latent, queries, owner = case(dimension, mollifier)
    exact = field_derivatives(network, latent, queries, owner, order=2)
    torch.testing.assert_close(exact.values, network.decode(latent, queries, owner))
    torch.testing.assert_close(exact.hessians, exact.hessians.mT, atol=1e-12, rtol=1e-12)
    for axis in range(dimension):
        step = torch.zeros_like(queries)
        step[:, axis] = 1e-6
        ahead, behind = (field_derivatives(network, latent, queries + s * step, owner) for s in (1, -1))
        assert ahead.hessians is None
        for name, derivative in (("values", exact.gradients), ("gradients", exact.hessians)):
            difference = (getattr(ahead, name) - getattr(behind, name)) / 2e-6
            torch.testing.assert_close(derivative[..., axis], difference, atol=1e-7, rtol=1e-6)


def test_laplacian_is_differentiable_in_the_weights():
    network, latent, queries, owner = case(2, "octic")

    def laplacian():
        return field_derivatives(network, latent, queries, owner, 2).hessians.diagonal(dim1=-2, dim2=-1).sum()

    weight = network.decoder.per_edge.weight
    (slope,) = torch.autograd.grad(laplacian(), weight)
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            weight[2, 1] += step
        values.append(float(laplacian().detach()))
        with torch.no_grad():
            weight[2, 1] -= step
    assert float(slope[2, 1]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("mollifier", ["half_cosine", "quartic", "quadratic"])
def test_second_derivatives_that_jump_are_refused(mollifier):
    network, latent, queries, owner = case(2, mollifier)
    assert field_derivatives(network, latent, queries, owner, order=1).gradients.isfinite().all()
    with pytest.raises(ValueError, match=f"mollifier is '{mollifier}', whose .* order 2 jump; allowed are bump, octic"):
        field_derivatives(network, latent, queries, owner, order=2)


def test_third_derivatives_are_refused():
    with pytest.raises(ValueError, match="order of the derivatives is 3; allowed are 1 and 2"):
        field_derivatives(*case(2, "bump"), order=3)
