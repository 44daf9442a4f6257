"""Promise: a bound that stops a search is named, with the gain that moving it promises to first order."""

import numpy as np
import pytest
import torch

from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.optimize.stationarity import WIDENING, stationarity
from shapewright.studies.problem.models import FemModel
from tests.studies.study_cases import setup_of

TIGHT = "geometry.bounds={r0: [0.6, 0.9], r2: [0.6, 0.95], r4: [0.6, 0.92]}"
START = "geometry.initial={r0: 0.8, r1: 1.0, r2: 0.8, r3: 1.0, r4: 0.8, r5: 1.0}"
FEM = ("optimizer.on=fem", "optimizer.starts=1", "optimizer.max_iterations=60", "optimizer.tolerance=1e-10")


def found(bounds):
    """Value of the stiffest bar within bounds, and what stops it."""
    setup = setup_of(bounds, START, *FEM)
    model = FemModel(setup)
    best = optimize(setup, model, setup.study.model.optimizer).best
    assert best.reason.ok
    theta = torch.from_numpy(best.theta)
    values, gradients, _ = model.functionals(theta)
    gradient = torch.from_numpy(gradients[0])
    return values[0], stationarity(setup, theta, gradient, gradient, (values, gradients))


@pytest.fixture(scope="module")
def stopped():
    return found(TIGHT)


def test_each_bound_that_stops_the_search_is_named(stopped):
    value, first_order = stopped
    assert first_order.residual < 1e-3
    assert [(s.parameter, s.side, s.bound) for s in first_order.stops] == [
        ("r0", "upper", 0.9), ("r2", "upper", 0.95), ("r4", "upper", 0.92),
    ]  # fmt: skip
    for stop in first_order.stops:
        assert stop.gain > 0
        assert stop.gain == pytest.approx(stop.per_unit * (stop.moved_to - stop.bound))
        assert stop.moved_to == pytest.approx(stop.bound + WIDENING * (stop.bound - 0.6))
        sentence = stop.sentence(value)
        assert sentence.startswith(f"{stop.parameter} stops at its upper bound {stop.bound:g}: moving the bound to ")
        assert f"promises {100 * stop.gain / value:.2g} % more" in sentence


def test_wider_bounds_keep_about_what_is_promised(stopped):
    """To first order: a step of a hundredth of the range keeps it to a tenth."""
    value, first_order = stopped
    moved = {s.parameter: s.bound + 0.1 * (s.moved_to - s.bound) for s in first_order.stops}
    bounds = ", ".join(f"{name}: [0.6, {upper}]" for name, upper in moved.items())
    wider, _ = found(f"geometry.bounds={{{bounds}}}")
    promised = 0.1 * sum(s.gain for s in first_order.stops)
    assert wider - value == pytest.approx(promised, rel=0.1)
    assert promised > 1e-4 * value


def test_a_bound_that_holds_nothing_back_is_not_named(stopped):
    setup = setup_of(TIGHT, START, *FEM)
    lower, upper = setup.family.bounds.numpy().T
    pulled = torch.from_numpy(np.where(np.arange(6) == 0, -1.0, 0.0))  # the objective gets better inside
    theta = torch.from_numpy(np.where(np.arange(6) == 0, upper, 0.5 * (lower + upper)))
    assert stationarity(setup, theta, pulled, pulled).stops == ()
