"""Promise: the distance of a design from what a surrogate has seen is usual inside the box and grows outside."""

import math
from dataclasses import fields

import pytest
import torch

from shapewright.studies.problem.novelty import describe_novelty, novelty_of
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.surrogates import build_surrogate
from shapewright.surrogate.models.model_card import Accuracy
from shapewright.surrogate.training import accuracy
from shapewright.surrogate.training.accuracy import correlation_with_error
from shapewright.surrogate.training.dataset import Dataset
from tests.studies.study_cases import setup_of


@pytest.fixture(scope="module")
def known():
    setup = setup_of()
    return novelty_of(setup, build_surrogate(setup), {})


def test_designs_of_the_box_are_at_the_usual_distance(known):
    inside = known.distance(draw_designs(setup_of(), 32, 7)).detach()
    assert 0.8 < float(inside.median() / known.typical.median()) < 1.25
    assert 0.5 < float(known.typical.median()) < 2.0


def test_designs_outside_are_farther(known):
    outside = torch.tensor([[1.8, 0.5, 1.8, 0.5, 1.8, 0.5], [1.9] * 6], dtype=torch.float64)
    assert (known.distance(outside).detach() > known.typical.quantile(0.95)).all()


def test_a_narrower_training_box_makes_the_same_design_less_familiar():
    setup = setup_of()
    network = build_surrogate(setup)
    narrow = {parameter.name: [0.95, 1.05] for parameter in setup.family.parameters}
    design = torch.tensor([[1.3, 0.8, 1.3, 0.8, 1.3, 0.8]], dtype=torch.float64)
    wide, narrowed = (novelty_of(setup, network, box) for box in ({}, narrow))
    assert float(narrowed.distance(design).detach()) > 3 * float(wide.distance(design).detach())


def test_the_distance_has_the_gradient_of_its_values(known):
    theta = torch.tensor([[1.2, 0.9, 1.1, 0.8, 1.0, 1.3]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(known.distance(theta).sum(), theta)
    step = 1e-2 * torch.eye(6, dtype=torch.float64)
    with torch.no_grad():
        slope = (known.distance(theta + step) - known.distance(theta - step)) / 2e-2
    assert float((slope - gradient[0]).norm() / gradient.norm()) < 0.05  # single precision


@pytest.mark.parametrize("sense", [1, -1])
def test_the_correlation_is_that_of_distance_and_true_error(known, monkeypatch, sense):
    designs = draw_designs(setup_of(), 20, 11)
    held_out = Dataset(designs, *[torch.zeros(20, 1) for _ in fields(Dataset)[1:]])

    def error_that_goes_with_the_distance(network, data):
        distance = float(known.distance(data.theta).detach())
        return Accuracy({"u": sense * distance, "v": 0.0}, 0.0, math.exp(-sense * distance), 0.0, 1)

    monkeypatch.setattr(accuracy, "measure", error_that_goes_with_the_distance)
    found = correlation_with_error(known, held_out)
    assert found == {"designs": 20, "field_error": pytest.approx(sense), "gradient_error": pytest.approx(-sense)}
    assert correlation_with_error(known, held_out.subset(slice(0, 8))) is None  # too few to say


def test_a_design_is_described_beside_others_of_the_box(known):
    described = describe_novelty(known, torch.full((6,), 1.9, dtype=torch.float64))
    assert described["distance"] > described["typical_95_percent"] > described["typical_median"]
    assert described["farther_in_box"] < 0.05
