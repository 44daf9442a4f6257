"""What a state is loaded from: copies, and one clear error where it does not fit."""

from __future__ import annotations

import pytest
import torch

from tests.surrogate.galore_cases import feed, galore, parameter, random

SHAPE = (10, 9, 8)


def test_loaded_state_is_a_copy():
    first, second = [parameter(SHAPE)], [parameter(SHAPE)]
    one, two = galore(first), galore(second)
    feed(one, [random(SHAPE)])
    two.load_state_dict(one.state_dict())
    before = one.state[first[0]]["first"].clone()
    feed(two, [random(SHAPE, seed=2)])
    assert torch.equal(one.state[first[0]]["first"], before)


def test_state_of_another_shape_is_refused():
    one, two = galore([parameter(SHAPE)]), galore([parameter((10, 9, 7))])
    feed(one, [random(SHAPE)])
    with pytest.raises(ValueError, match=r"shape \(10, 9, 8\); the parameter's is \(10, 9, 7\)"):
        two.load_state_dict(one.state_dict())


def test_state_of_another_optimizer_is_refused():
    """Of torch's AdamW, which torch itself would load."""
    weight = parameter(SHAPE)
    other, ours = torch.optim.AdamW([weight]), galore([weight])
    feed(other, [random(SHAPE)])
    with pytest.raises(ValueError, match=r"'exp_avg', .* it is of another optimizer"):
        ours.load_state_dict(other.state_dict())
    assert not ours.state[weight]


def test_an_option_that_the_saved_state_lacks_is_the_optimizers_own():
    weight, copied = parameter(SHAPE), parameter(SHAPE)
    one, two = galore([weight]), galore([{"params": [copied], "residual_weight": 0.25}])
    feed(one, [random(SHAPE)])
    saved = one.state_dict()
    del saved["param_groups"][0]["residual_weight"]
    two.load_state_dict(saved)
    assert two.param_groups[0]["residual_weight"] == 0.25
    feed(two, [random(SHAPE, seed=1)])


@pytest.mark.parametrize(
    ("options", "text"), [({"rank": -3}, "rank is -3"), ({"complex_pairs": True}, "last dimension is 2")]
)
def test_options_of_a_saved_state_are_checked(options, text):
    weight = parameter(SHAPE)
    optimizer = galore([weight])
    saved = optimizer.state_dict()
    saved["param_groups"][0].update(options)
    with pytest.raises(ValueError, match=text):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["rank"] == 0.3
