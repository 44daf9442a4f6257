"""Stepping inside the backward pass: the same steps, one gradient alive at a time, and loud refusals."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from shapewright.surrogate.optim import tensor_galore
from shapewright.surrogate.optim.in_backward import ReleasedGradient
from tests.surrogate.galore_cases import galore, random


def network(seed=0):
    """Three layers with an order-3 weight each."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(*(torch.nn.Conv1d(8, 8, 5, padding=2, dtype=torch.float64) for _ in range(3)))


INPUTS = random((4, 8, 16), seed=3)


def loss_of(model):
    return model(INPUTS).square().mean()


@pytest.fixture
def stepping():
    model = network()
    return model, galore(model.parameters(), update_gap=4, step_in_backward=True)


def test_steps_are_those_of_the_ordinary_way(stepping):
    inside, optimizer = stepping
    ordinary = network()
    reference = galore(ordinary.parameters(), update_gap=4)
    for _ in range(10):
        for model, each in ((inside, optimizer), (ordinary, reference)):
            each.zero_grad(set_to_none=model is inside)
            loss_of(model).backward()
            each.step()
    for p, q in zip(inside.parameters(), ordinary.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)


def test_one_large_gradient_is_alive_at_a_time(monkeypatch):
    """Memory and not Python's wrappers of it, seen by hooks that come before the optimizer's; a leak makes it 3."""
    monkeypatch.setattr(tensor_galore, "STACKED_ENTRIES", 0)
    model, seen, alive = network(), [], []

    def watch(parameter):
        seen.append(StorageWeakRef(parameter.grad.untyped_storage()))
        alive.append(sum(not reference.expired() for reference in seen))

    for layer in model:
        layer.weight.register_post_accumulate_grad_hook(watch)
    optimizer = galore(model.parameters(), update_gap=4, step_in_backward=True)
    loss_of(model).backward()
    assert alive == [1, 1, 1]
    assert all(isinstance(parameter.grad, ReleasedGradient) for parameter in model.parameters())
    optimizer.zero_grad(set_to_none=False)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("most", "expected"), [(10**6, [6]), (8 * 8 * 5 + 8, [3, 3]), (0, [1] * 6)])
def test_small_parameters_wait_for_each_other(stepping, monkeypatch, most, expected):
    """Six parameters, each layer's bias first, of 8 and 320 entries."""
    model, optimizer = stepping
    monkeypatch.setattr(tensor_galore, "STACKED_ENTRIES", most)
    together, step = [], optimizer._step_all
    monkeypatch.setattr(optimizer, "_step_all", lambda own, options: (together.append(len(own)), step(own, options)))
    loss_of(model).backward()
    assert together == expected
    assert all(isinstance(parameter.grad, ReleasedGradient) for parameter in model.parameters())


def test_a_backward_pass_that_breaks_off_leaves_nothing_waiting(stepping):
    model, optimizer = stepping

    def fail(gradient):
        raise ValueError("in the first layer")

    handle = model[0].weight.register_hook(fail)
    with pytest.raises(ValueError, match="in the first layer"):
        loss_of(model).backward()
    handle.remove()
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    assert all(int(optimizer.state[parameter]["step"]) == 2 for parameter in model.parameters())


def test_hooks_go_with_the_optimizer():
    model = network()
    optimizer = galore(model.parameters(), step_in_backward=True)
    reference = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert reference() is None
    before = [p.detach().clone() for p in model.parameters()]
    loss_of(model).backward()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert not any(isinstance(p.grad, ReleasedGradient) for p in model.parameters())
    galore(model.parameters(), step_in_backward=True)


def test_two_optimizers_of_one_parameter_are_refused(stepping):
    model, optimizer = stepping
    with pytest.raises(ValueError, match=r"shape \(8, 8, 5\) is already stepped in the backward pass by another"):
        galore(model.parameters(), step_in_backward=True)
    loss_of(model).backward()
    optimizer.step()


def test_gradient_accumulation_is_refused(stepping):
    model, optimizer = stepping
    loss_of(model).backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="call zero_grad before every backward"):
        loss_of(model).backward()


@pytest.mark.parametrize("foreach", [True, False])
def test_clipping_by_the_global_norm_is_refused(stepping, foreach):
    model, _ = stepping
    loss_of(model).backward()
    with pytest.raises(RuntimeError, match="clipping by the global norm"):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)


def test_gradient_scaling_is_refused(stepping):
    model, optimizer = stepping
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model)).backward()
    with pytest.raises(RuntimeError, match="gradient scaling"):
        scaler.step(optimizer)


def test_a_gradient_set_by_hand_is_refused(stepping):
    model, optimizer = stepping
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with pytest.raises(RuntimeError, match="no backward pass brought"):
        optimizer.step()


def test_distributed_training_is_refused(stepping, monkeypatch):
    model, _ = stepping
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="process group of 2"):
        galore(model.parameters(), step_in_backward=True)
    with pytest.raises(RuntimeError, match="process group of 2"):
        loss_of(model).backward()


def test_options_from_a_loaded_state_count(stepping):
    """The group of a parameter is looked up at its step, as loading replaces the groups."""
    model, optimizer = stepping
    saved = optimizer.state_dict()
    saved["param_groups"][0]["lr"] = 0.0
    optimizer.load_state_dict(saved)
    before = [p.detach().clone() for p in model.parameters()]
    loss_of(model).backward()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
