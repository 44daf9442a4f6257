"""Gradients as other programs leave them, parameters of any shape and precision, and steps that are whole or none."""

from __future__ import annotations

import pytest
import torch

from shapewright.surrogate.optim.options import Options
from shapewright.surrogate.optim.tensor_galore import TensorGaLore
from shapewright.surrogate.optim.update import update
from tests.surrogate.galore_cases import feed, galore, parameter, random

KINDS = ("full", "bfloat16", "8bit")


def stepped(weight, gradient, **options):
    weight = torch.nn.Parameter(weight.detach().clone())
    optimizer = TensorGaLore([weight], **options)
    for _ in range(2):
        weight.grad = gradient
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("rank", [0.3, 1.0])
def test_a_view_of_a_bucket_at_an_odd_offset_is_taken_as_pairs(rank):
    """As DistributedDataParallel leaves it with gradient_as_bucket_view=True behind an odd number of entries."""
    weight, gradient = random((4, 5, 6, 2), torch.float32), random((4, 5, 6, 2), torch.float32, seed=1)
    bucket = torch.zeros(3 + gradient.numel())
    bucket[3:] = gradient.flatten()
    options = {"complex_pairs": True, "rank": rank}
    expected = stepped(weight, gradient, **options)
    assert torch.equal(stepped(weight, bucket[3:].view(4, 5, 6, 2), **options), expected)
    assert torch.equal(bucket[3:], gradient.flatten())


@pytest.mark.parametrize("residual_weight", [0.0, 1.0])
def test_a_parameter_that_is_a_view_at_an_odd_offset_is_stepped_in_place(residual_weight):
    gradient, flat = random((4, 5, 6, 2), torch.float32, seed=1), random((3 + 240,), torch.float32)
    options = {"complex_pairs": True, "rank": 0.3, "residual_weight": residual_weight}
    expected = stepped(flat[3:].view(4, 5, 6, 2), gradient, **options)
    weight = torch.nn.Parameter(flat[3:].view(4, 5, 6, 2))
    optimizer = TensorGaLore([weight], **options)
    for _ in range(2):
        feed(optimizer, [gradient])
    torch.testing.assert_close(flat[3:].view(4, 5, 6, 2), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "rank"), [((6, 5, 4), 0.3), ((6, 5, 4), 1.0), ((7,), 1.0)])
def test_a_gradient_that_is_conjugated_lazily_is_its_value(shape, rank):
    weight, gradient = random(shape, torch.complex64), random(shape, torch.complex64, seed=1)
    lazy = gradient.conj()
    assert lazy.is_conj()
    assert torch.equal(stepped(weight, lazy, rank=rank), stepped(weight, lazy.resolve_conj(), rank=rank))


def test_autograd_leaves_such_gradients():
    weight = parameter((6, 5, 4), torch.complex64)
    optimizer, before = galore([weight]), weight.detach().clone()
    (weight.conj() * random((6, 5, 4), torch.complex64, seed=1)).real.sum().backward()
    assert weight.grad.is_conj()
    optimizer.step()
    assert (weight.detach() != before).any()


@pytest.mark.parametrize("moments", KINDS)
def test_a_scalar_is_stepped_in_every_kind_of_moments(moments):
    moved = stepped(torch.tensor(0.5), torch.tensor(1.0), moments=moments, lr=1e-3, weight_decay=0.0)
    assert float(moved) == pytest.approx(0.498, abs=1e-5)


@pytest.mark.parametrize("moments", KINDS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3, 4)])
def test_empty_parameters_are_no_hindrance(moments, shape):
    assert stepped(torch.zeros(shape), torch.zeros(shape), moments=moments).shape == shape


def test_a_refused_gradient_decays_nothing_either():
    """A parameter whose first gradients are zero only decays: not before the others are seen to be well."""
    first, second = (torch.nn.Parameter(torch.ones(shape)) for shape in ((6, 5, 4), (5, 5, 4)))
    optimizer = TensorGaLore([first, second], weight_decay=0.5, lr=0.1)
    with pytest.raises(RuntimeError, match="not finite"):
        feed(optimizer, [torch.zeros(6, 5, 4), torch.full((5, 5, 4), torch.nan)])
    assert (first == 1).all()
    assert not optimizer.state[first]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(8, 8, 8), (64,)])
def test_steps_below_half_a_digit_move_a_half_precision_parameter_on_average(dtype, shape):
    """Rounded to the nearest, 100 steps of 2.5e-4 move a bfloat16 of 1.0 by less than 1 % of what they should."""
    means = {}
    for kind in (torch.float32, dtype):
        weight = torch.nn.Parameter(torch.ones(shape, dtype=kind))
        optimizer = TensorGaLore([weight], lr=2.5e-4, weight_decay=0.0)
        for step in range(100):
            feed(optimizer, [(1 + 0.1 * random(shape, torch.float32, seed=step)).to(kind)])
        means[kind] = float(weight.detach().float().mean())
    assert 1 - means[torch.float32] > 5e-3
    assert 1 - means[dtype] == pytest.approx(1 - means[torch.float32], rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("rank", [(3, 3, 3), (3, 5, 4), (6, 5, 2), (6, 2, 4)])
@pytest.mark.parametrize("residual_weight", [0.0, 0.7])
def test_a_step_straight_into_the_weight_is_that_of_a_stack(dtype, rank, residual_weight):
    """Two alike are stacked, lifted and added; one alone takes the last lift into the weight itself."""
    weight = random((6, 5, 4), dtype)
    alone = [torch.nn.Parameter(weight.clone()) for _ in range(2)]
    together = [torch.nn.Parameter(weight.clone()) for _ in range(2)]
    optimizers = [galore([p], rank=rank, residual_weight=residual_weight, weight_decay=0.1, lr=0.05) for p in alone]
    stack = galore(together, rank=rank, residual_weight=residual_weight, weight_decay=0.1, lr=0.05)
    for step in range(6):
        gradients = [random((6, 5, 4), dtype, seed=2 * step + i) for i in range(2)]
        for optimizer, gradient in zip(optimizers, gradients, strict=True):
            feed(optimizer, [gradient])
        feed(stack, gradients)
    for p, q in zip(alone, together, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-5 if dtype != torch.float64 else 1e-12)


def test_no_tensor_of_the_weights_size_is_allocated_in_a_step():
    weight = parameter((64, 64, 64), torch.float32)
    optimizer = galore([weight], rank=0.1)
    gradient = random((64, 64, 64), torch.float32, seed=1)
    feed(optimizer, [gradient])
    weight.grad = gradient
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer.step()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest < 0.8 * 4 * weight.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (7,), (6, 5)])
def test_torchs_kernel_for_what_is_not_projected_takes_the_steps_of_our_own(dtype, shape):
    first, second = (torch.nn.Parameter(random(shape, dtype)) for _ in range(2))
    kernel, own = (TensorGaLore([p], lr=0.05, weight_decay=0.1) for p in (first, second))
    for step in range(30):
        gradient = random(shape, dtype, seed=step)
        feed(kernel, [gradient])
        if step:
            second.grad = gradient.clone()
            with torch.no_grad():
                update([second], [own.state[second]], Options.of(own.param_groups[0]))
        else:
            feed(own, [gradient])
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)
    for name, value in kernel.state[first].items():
        torch.testing.assert_close(value, own.state[second][name], rtol=1e-5, atol=1e-7)
