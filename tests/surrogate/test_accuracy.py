"""Errors on designs whose true error is known, because it was put there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.surrogate.training.accuracy import field_errors, measure
from shapewright.surrogate.training.dataset import Dataset
from tests.surrogate.design_cases import random_designs, shape_map, small_surrogate

SURROGATE = small_surrogate()


@pytest.fixture(scope="module")
def truth():
    """Data that the surrogate reproduces without error."""
    theta = random_designs(7, seed=9)
    values, gradients = SURROGATE.value_and_gradient(theta)
    fields = SURROGATE.fields(theta)[1].detach()
    return Dataset(theta, fields, values, gradients, torch.zeros(7, 0, 3), torch.zeros(7, 0, *fields.shape[1:]))


def test_no_error_where_there_is_none(truth):
    accuracy = measure(SURROGATE, truth)
    assert accuracy.designs == 7
    assert set(accuracy.field) == {"u", "p"}
    assert max(*accuracy.field.values(), accuracy.objective, accuracy.gradient) < 1e-12
    assert accuracy.cosine == pytest.approx(1)


def test_a_known_error_is_found(truth):
    """Truth = prediction / (1 + e): the relative error of the prediction is e."""
    wrong = replace(
        truth,
        solution=truth.solution / torch.tensor([1.02, 0.95], dtype=torch.float64),
        values=truth.values / torch.tensor([1.03, 7.0], dtype=torch.float64),  # the second is not the objective
        gradients=truth.gradients / torch.tensor([[0.9], [7.0]], dtype=torch.float64),
    )
    accuracy = measure(SURROGATE, wrong)
    assert accuracy.field == {"u": pytest.approx(0.02), "p": pytest.approx(0.05)}
    assert accuracy.objective == pytest.approx(0.03)
    assert accuracy.gradient == pytest.approx(0.1)
    assert accuracy.cosine == pytest.approx(1)


def test_a_gradient_turned_by_a_known_angle(truth):
    """In parameters scaled to their bounds; all spans are equal here, so that angles are those of theta."""
    gradient = truth.gradients[:, 0]
    other = torch.linalg.cross(gradient, torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64).expand_as(gradient))
    across = other / other.norm(dim=-1, keepdim=True) * gradient.norm(dim=-1, keepdim=True)
    turned = 0.6 * gradient + 0.8 * across
    accuracy = measure(SURROGATE, replace(truth, gradients=torch.stack([turned, truth.gradients[:, 1]], 1)))
    assert accuracy.cosine == pytest.approx(0.6)
    assert accuracy.gradient == pytest.approx((0.4**2 + 0.8**2) ** 0.5)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_mean_over_designs_whatever_the_batch(truth, batch):
    factors = torch.linspace(1, 1.6, 7, dtype=torch.float64)
    wrong = replace(truth, values=truth.values / factors[:, None])
    assert measure(SURROGATE, wrong, batch).objective == pytest.approx(0.3)


def test_field_error_is_an_integral_over_the_shape():
    """A field x on boxes of width 1 against x + 1: sqrt(int 1 / int (x + 1)^2) = sqrt(3 / 7), by fine nodal weights."""
    nodes = shape_map().nodes(torch.ones(1, 3, dtype=torch.float64))
    weights = nodal_weights(shape_map().mesh, nodes)
    x = nodes[..., :1]
    assert float(field_errors(x, x + 1, weights)) == pytest.approx((3 / 7) ** 0.5, rel=2e-3)
