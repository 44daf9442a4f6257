"""What the optimizer computes: AdamW at full rank, descent in the subspace below it, complex as real."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from shapewright.surrogate.optim import update
from shapewright.surrogate.optim.state import factors_of
from shapewright.surrogate.optim.subspace import lift, project
from shapewright.surrogate.optim.tensor_galore import TensorGaLore
from tests.surrogate.galore_cases import ComplexAdamW, descend, feed, galore, least_squares, low_rank, parameter, random

SHAPE = (6, 5, 4)
both_fields = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])


def in_subspace(optimizer, weight, tensor):
    factors = factors_of([optimizer.state[weight]], weight.dim())
    return lift(project(tensor[None], factors), factors)[0]


@both_fields
@pytest.mark.parametrize("options", [{"rank": 1.0}, {"rank": (6, 5, 4)}, {"rank": 1.0, "rank_rule": "energy"}])
def test_full_rank_is_adamw_step_for_step(dtype, options):
    settings = {"lr": 3e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}
    shapes = [SHAPE, (6, 4), (5,)] if not isinstance(options["rank"], tuple) else [SHAPE]
    ours = [parameter(shape, dtype) for shape in shapes]
    theirs = [parameter(shape, dtype) for shape in shapes]
    optimizer = TensorGaLore(ours, **settings, **options, update_gap=7, matrices=len(shapes) > 1)
    reference = ComplexAdamW(theirs, **settings)
    for step in range(25):
        gradients = [random(shape, dtype, seed=100 * step + i) for i, shape in enumerate(shapes)]
        feed(optimizer, gradients)
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def test_full_rank_is_torchs_adamw_where_that_is_real():
    ours, theirs = parameter(SHAPE), parameter(SHAPE)
    optimizer, reference = TensorGaLore([ours], rank=1.0), torch.optim.AdamW([theirs])
    for step in range(20):
        feed(optimizer, [random(SHAPE, seed=step)])
        feed(reference, [random(SHAPE, seed=step)])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@both_fields
def test_low_rank_quadratic_converges_to_its_optimum_in_the_subspace(dtype):
    """The optimum over the subspace of the first gradient is the projection of the target."""
    target = low_rank((8, 7, 6), 2, dtype) + 0.3 * random((8, 7, 6), dtype, seed=5)
    weight = torch.nn.Parameter(torch.zeros_like(target))
    optimizer = galore([weight], rank=(3, 3, 3), update_gap=10**6, eps=1e-12, residual_weight=0.0)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        feed(optimizer, [weight.detach() - target])
    best, reached = in_subspace(optimizer, weight, target), weight.detach()
    assert float((target - best).norm() / target.norm()) > 0.1
    assert float((reached - best).norm() / best.norm()) < 1e-3
    torch.testing.assert_close(in_subspace(optimizer, weight, reached), reached, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"update_gap": 3}, {"residual_weight": 0.5}, {"rank_rule": "energy", "rank": 0.8}]
)
def test_real_storage_of_a_complex_tensor_is_the_complex_tensor(options):
    complex_weight = parameter(SHAPE, torch.complex128)
    pairs = torch.nn.Parameter(torch.view_as_real(complex_weight.detach()).clone())
    first, second = galore([complex_weight], **options), galore([pairs], complex_pairs=True, **options)
    for step in range(10):
        gradient = random(SHAPE, torch.complex128, seed=step)
        feed(first, [gradient])
        feed(second, [torch.view_as_real(gradient)])
    assert torch.equal(torch.view_as_real(complex_weight.detach()), pairs.detach())


@pytest.mark.parametrize(
    "options", [{"update_gap": 4}, {"rank_rule": "uniform"}, {"residual_weight": 0.0, "update_gap": 4}]
)
def test_complex_tensor_with_real_gradients_is_the_real_tensor(options):
    real = parameter(SHAPE)
    embedded = torch.nn.Parameter(real.detach().to(torch.complex128))
    first, second = galore([real], **options), galore([embedded], **options)
    for step in range(12):
        gradient = low_rank(SHAPE, 3, seed=step) + 0.1 * random(SHAPE, seed=step)
        feed(first, [gradient])
        feed(second, [gradient.to(torch.complex128)])
        torch.testing.assert_close(embedded.detach().real, real.detach(), rtol=0, atol=1e-8)
        assert float(embedded.detach().imag.abs().max()) < 1e-8


def test_default_scale_makes_the_step_as_long_as_adamws():
    weight = parameter((12, 12, 12))
    before = weight.detach().clone()
    feed(galore([weight], lr=1.0, rank=0.2, residual_weight=0.0), [random((12, 12, 12), seed=3)])
    # the first step of Adam is a sign in every core entry, so of length sqrt(core), scaled to sqrt(full)
    assert float((weight.detach() - before).norm()) == pytest.approx(math.sqrt(12**3), rel=1e-6)


def test_matrix_in_two_factors_and_on_one_side():
    gradient = random((16, 12)) @ torch.diag(0.5 ** torch.arange(12, dtype=torch.float64))
    for rank, expected in (((3, 3), {"factor_0", "factor_1"}), ((3, 12), {"factor_0"})):
        weight = parameter((16, 12))
        optimizer = galore([weight], rank=rank, matrices=True)
        feed(optimizer, [gradient])
        state = optimizer.state[weight]
        assert {key for key in state if key.startswith("factor")} == expected
        assert state["mean"].shape == rank
    untouched = galore([parameter((16, 12))])
    feed(untouched, [gradient])
    assert next(iter(untouched.state.values()))["mean"].shape == (16, 12)


def test_discarded_part_is_stepped_along_at_the_rate_inside_and_never_further():
    gradient = random((6, 6, 6), seed=2)
    moved = []
    for residual_weight in (0.0, 1.0):
        weight = torch.nn.Parameter(torch.zeros(6, 6, 6, dtype=torch.float64))
        optimizer = galore([weight], lr=1.0, residual_weight=residual_weight, scale=1.0)
        feed(optimizer, [gradient])
        moved.append(-weight.detach())
    inside, outside = moved[0], moved[1] - moved[0]
    residual = gradient - in_subspace(optimizer, weight, gradient)
    torch.testing.assert_close(in_subspace(optimizer, weight, outside), torch.zeros_like(outside), rtol=0, atol=1e-12)
    torch.testing.assert_close(outside / outside.norm(), residual / residual.norm(), rtol=0, atol=1e-12)
    rate = inside.norm() / (gradient - residual).norm()
    assert float(outside.norm()) == pytest.approx(float(min(rate * residual.norm(), inside.norm())), rel=1e-9)


def test_discarded_part_reaches_what_the_subspace_cannot():
    target = low_rank((8, 7, 6), 2) + 0.3 * random((8, 7, 6), seed=5)
    errors = []
    for residual_weight in (0.0, 1.0):
        weight = torch.nn.Parameter(torch.zeros_like(target))
        optimizer = galore([weight], rank=(3, 3, 3), update_gap=10**6, eps=1e-12, residual_weight=residual_weight)
        for step in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
            feed(optimizer, [weight.detach() - target])
        errors.append(float((weight.detach() - target).norm() / target.norm()))
    assert errors[0] > 0.1
    assert errors[1] < 0.03


def test_descent_is_kept_across_refreshes():
    """On a convex problem no refresh makes the loss jump; a subspace of a third of the size reaches the optimum."""
    weight = torch.nn.Parameter(torch.zeros(8, 7, 6, dtype=torch.float64))
    optimizer = galore([weight], lr=0.06, update_gap=15)
    losses = descend(optimizer, least_squares(weight), 240)
    state = optimizer.state[weight]
    assert int(state["refreshes"]) == 16
    ratios = [after / before for before, after in itertools.pairwise(losses)]
    at_refresh = [ratios[step] for step in range(15, 75, 15)]
    between = [ratios[step] for step in range(10, 75) if step % 15]
    assert max(at_refresh) < max(between) < 1.0
    assert losses[-1] < 1e-2 * losses[0]


@pytest.mark.parametrize("residual_weight", [1.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_large_parameters_step_together_as_one_by_one(monkeypatch, dtype, residual_weight):
    """As on a GPU; of different shapes and ranks, with refreshes, real, complex and in pairs."""
    shapes, ends, calls = [(6, 5, 4), (3, 8, 4), (6, 5, 4)], [], []
    alone, whole = update.is_unstacked, update.update_unstacked
    monkeypatch.setattr(update, "update_unstacked", lambda *given: (calls.append(len(given[0])), whole(*given)))
    for chosen in (alone, lambda each, state, options: update.has_subspace(state)):
        monkeypatch.setattr(update, "is_unstacked", chosen)
        weights = [random(shape, dtype, seed).requires_grad_() for seed, shape in enumerate(shapes)]
        pairs = random((4, 5, 6, 2), seed=9).requires_grad_()
        groups = [{"params": weights, "rank": 0.4}, {"params": [pairs], "rank": (1.0, 0.5, 1.0), "complex_pairs": True}]
        optimizer = TensorGaLore(groups, lr=1e-2, update_gap=3, residual_weight=residual_weight)
        for step in range(7):
            for seed, each in enumerate([*weights, pairs]):
                each.grad = random(each.shape, each.dtype, 100 * step + seed)
            optimizer.step()
        ends.append([each.detach() for each in [*weights, pairs]])
    assert calls == [3, 1] * 7
    for expected, found in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_what_steps_together_is_bounded():
    members = [torch.ones(count) for count in (3, 4, 9, 1, 2, 2)]
    groups = update._of_entries(members, [len(each) for each in members], 7)
    assert [[len(each) for each in group] for group in groups] == [[3, 4], [9], [1, 2, 2]]


def test_group_options_are_each_groups_own():
    first, second = parameter((8, 8, 8)), parameter((8, 8, 8))
    groups = [{"params": [first], "rank": 0.1}, {"params": [second], "rank": 0.5}]
    optimizer = galore(groups)
    feed(optimizer, [random((8, 8, 8)), random((8, 8, 8))])
    assert optimizer.state[first]["mean"].numel() < 0.1 * 8**3 < optimizer.state[second]["mean"].numel() < 0.5 * 8**3


def test_learning_rate_schedulers_and_clipping_work():
    weight = torch.nn.Parameter(torch.zeros(8, 7, 6, dtype=torch.float64))
    loss = least_squares(weight)
    optimizer = galore([weight], lr=0.15)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    for _ in range(60):
        optimizer.zero_grad(set_to_none=False)
        loss().backward()
        torch.nn.utils.clip_grad_norm_([weight], 0.1)
        optimizer.step()
        scheduler.step()
    start = least_squares(torch.zeros(8, 7, 6, dtype=torch.float64))
    assert float(loss().detach()) < 0.1 * float(start())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_closure_is_evaluated_with_gradients():
    weight = torch.nn.Parameter(torch.zeros(8, 7, 6, dtype=torch.float64))
    loss, optimizer = least_squares(weight), galore([weight], lr=0.05)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return float(value.detach())

    assert optimizer.step(closure) > optimizer.step(closure) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e15, 1e19, 1e30])
@pytest.mark.parametrize("gap", [200, 1])
@pytest.mark.parametrize("moments", ["full", "8bit"])
def test_gradients_that_vanish_or_grow_beyond_bounds_leave_the_weights_finite(dtype, size, gap, moments):
    """With momentum still there: a hinge that is met, a branch that is not used. With refreshes and without."""
    weight = parameter((8, 8, 8), dtype)
    optimizer = galore([weight], lr=1e-2, update_gap=gap, moments=moments)
    feed(optimizer, [random((8, 8, 8), dtype, seed=0)])
    for step in range(1, 6):
        before = weight.detach().clone()
        feed(optimizer, [size * random((8, 8, 8), dtype, seed=step)])
        assert torch.isfinite(torch.view_as_real(weight) if weight.is_complex() else weight).all()
        assert (weight - before).abs().max() < 1.0
    assert size == 1e30 or (weight != before).any()  # momentum goes on; Adam's second moment overflows with the last


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("size", [1e19, 1e30])
def test_gradients_that_are_large_from_the_start_leave_the_weights_finite(dtype, size):
    weight = parameter((8, 8, 8), dtype)
    optimizer = galore([weight], lr=1e-2, update_gap=1)
    for step in range(6):
        feed(optimizer, [size * random((8, 8, 8), dtype, seed=step)])
        assert torch.isfinite(torch.view_as_real(weight) if weight.is_complex() else weight).all()


def test_a_gradient_that_is_refused_moves_no_weight_of_any_group():
    weights = [parameter((6, 5, 4)), parameter((5, 5, 4))]
    optimizer = TensorGaLore([{"params": [weight]} for weight in weights])
    feed(optimizer, [random((6, 5, 4), seed=1), random((5, 5, 4), seed=2)])
    before = [weight.detach().clone() for weight in weights]
    optimizer.state[weights[1]]["step"].fill_(100)  # where its refresh is due
    with pytest.raises(RuntimeError, match="not finite"):
        feed(optimizer, [random((6, 5, 4), seed=3), torch.full((5, 5, 4), torch.nan, dtype=torch.float64)])
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


def test_a_group_that_is_refused_is_not_added():
    optimizer = TensorGaLore([parameter((6, 5, 4))])
    with pytest.raises(ValueError, match="rank"):
        optimizer.add_param_group({"params": [parameter((5, 5, 4))], "rank": -1.0})
    assert len(optimizer.param_groups) == 1
