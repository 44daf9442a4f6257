"""What a state is loaded from: copies, and one clear error where it does not fit."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.surrogate.galore_cases import feed, galore, parameter, random

SHAPE = (10, 9, 8)


def test_loaded_state_is_a_copy():
    first, second = [parameter(SHAPE)], [parameter(SHAPE)]
    one, two = galore(first), galore(second)
    feed(one, [random(SHAPE)])
    two.load_state_dict(one.state_dict())
    before = one.state[first[0]]["mean"].clone()
    feed(two, [random(SHAPE, seed=2)])
    assert torch.equal(one.state[first[0]]["mean"], before)


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


FORMER_STATE = {
    "mean": "first",
    "mean_square": "second",
    "mean_scale": "first_scale",
    "mean_square_scale": "second_scale",
}
FORMER_OPTIONS = {"residual_weight": "discarded", "recompute_every": "cold_every"}


def under_former_names(saved):
    """A ``state_dict`` as it was written before its entries and options were renamed."""
    renamed = copy.deepcopy(saved)
    for group in renamed["param_groups"]:
        for name, former in FORMER_OPTIONS.items():
            group[former] = group.pop(name)
    for number, state in renamed["state"].items():
        renamed["state"][number] = {FORMER_STATE.get(name, name): value for name, value in state.items()}
    return renamed


@pytest.mark.parametrize("moments", ["full", "8bit"])
def test_a_state_under_former_names_continues_bit_for_bit(moments):
    options = {"update_gap": 2, "moments": moments, "residual_weight": 0.5, "recompute_every": 2}
    first = [parameter(SHAPE), parameter((7,))]
    one = galore(first, **options)
    for step in range(3):
        feed(one, [random(SHAPE, seed=step), random((7,), seed=step)])
    second = [torch.nn.Parameter(weight.detach().clone()) for weight in first]
    two = galore(second)
    former = under_former_names(one.state_dict())
    assert {"first", "second"} < former["state"][0].keys()
    two.load_state_dict(former)
    assert two.param_groups[0]["residual_weight"] == 0.5
    assert two.param_groups[0]["recompute_every"] == 2
    assert not {"discarded", "cold_every"} & two.param_groups[0].keys()
    for step in range(3, 7):
        for optimizer in (one, two):
            feed(optimizer, [random(SHAPE, seed=step), random((7,), seed=step)])
    assert all(torch.equal(weight, other) for weight, other in zip(first, second, strict=True))


@pytest.mark.parametrize(("former", "name"), [("discarded", "residual_weight"), ("cold_every", "recompute_every")])
def test_a_group_with_an_option_under_its_former_name_is_refused(former, name):
    """Torch itself ignores what it does not know."""
    with pytest.raises(ValueError, match=f"{former} of a parameter group is called {name} now"):
        galore([{"params": [parameter(SHAPE)], former: 0}])
