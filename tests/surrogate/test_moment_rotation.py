"""Refreshes: how many, when, and that Adam's moments arrive in the new subspace as if they had always been there."""

from __future__ import annotations

import pytest
import torch

from shapewright.surrogate.optim.moments import Moments, rotate_moments
from shapewright.surrogate.optim.state import factors_of
from shapewright.surrogate.optim.subspace import lift, mode_product, project, spectra_and_bases, truncate
from tests.surrogate.galore_cases import feed, galore, low_rank, parameter, random

SHAPE = (10, 9, 8)
both_fields = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])


def skewed(dtype, seed, strength):
    """The exponential of a random skew-Hermitian matrix a mode: a rotation of every axis."""
    steps = []
    for mode, n in enumerate(SHAPE):
        matrix = random((n, n), dtype, seed + mode)
        steps.append(torch.linalg.matrix_exp(strength * (matrix - matrix.mH) / n**0.5))
    return steps


def drifting(dtype, steps, strength=0.003, noise=0.02):
    """Noisy gradients of low rank whose subspace turns a little at every step.

    Their singular values are all equal, so that decompositions of two agree in the subspace and not in its axes.
    """
    axes = tuple(torch.linalg.qr(random((n, 3), dtype, seed=n))[0][None] for n in SHAPE)
    diagonal = torch.zeros(3, 3, 3, dtype=dtype)
    diagonal[range(3), range(3), range(3)] = 10.0
    signal, turn = lift(diagonal[None], axes)[0], tuple(matrix[None] for matrix in skewed(dtype, 50, strength))
    for step in range(steps):
        yield signal * random((), torch.float64, seed=step).abs().add(0.5) + noise * random(SHAPE, dtype, seed=step)
        signal = lift(signal[None], turn)[0]


def rotated(mean, mean_square, old, new, core, steps, betas=(0.9, 0.99)):
    """Mean and mean square of :func:`rotate_moments` after so many steps."""
    moments = rotate_moments(Moments(mean, mean_square), old, new, core, tuple(1 - beta**steps for beta in betas))
    return moments.mean, moments.mean_square


def cosine(a, b):
    return float(torch.vdot(a.flatten(), b.flatten()).real / (a.norm() * b.norm()))


def projected(optimizer, weight, tensor):
    return project(tensor[None], factors_of([optimizer.state[weight]], len(SHAPE)))[0]


@both_fields
def test_first_moment_after_a_refresh_is_that_of_the_new_subspace(dtype):
    """Cosine with the truth, the full gradients' average in the new coordinates; kept as it is, it points elsewhere."""
    gap, weight = 40, parameter(SHAPE, dtype)
    optimizer = galore([weight], rank=(4, 4, 4), update_gap=gap, recompute_every=1)
    truth, first_after = torch.zeros(SHAPE, dtype=dtype), {}
    for step, gradient in enumerate(drifting(dtype, 4 * gap + 1)):
        kept = optimizer.state[weight].get("mean")
        kept = None if kept is None else kept.clone()
        feed(optimizer, [gradient])
        if step and step % gap == 0:
            now = projected(optimizer, weight, gradient)
            carried = (optimizer.state[weight]["mean"] - 0.1 * now) / 0.9  # before this step's gradient entered
            exact = projected(optimizer, weight, truth)
            first_after[step] = (cosine(carried, exact), cosine(kept, exact))
        truth = 0.9 * truth + 0.1 * gradient
    assert int(optimizer.state[weight]["refreshes"]) == 5
    assert min(carried for carried, _ in first_after.values()) > 0.99
    assert min(kept for _, kept in first_after.values()) < 0.5


@both_fields
def test_second_moment_after_a_refresh_is_near_that_of_the_new_subspace(dtype):
    """Against the average of squares that Adam would hold had it always run in the new subspace."""
    beta1, beta2, steps = 0.9, 0.99, 300
    gradients = list(drifting(dtype, steps + 1, noise=0.3))
    old, new = (truncate(spectra_and_bases(gradients[i])[1], (4, 4, 4)) for i in (steps - 40, steps))

    def averages(factors):
        first, second = 0, 0
        for gradient in gradients[:steps]:
            core = project(gradient[None], tuple(factor[None] for factor in factors))[0]
            first, second = beta1 * first + (1 - beta1) * core, beta2 * second + (1 - beta2) * core.abs() ** 2
        return first, second

    core = project(gradients[steps][None], tuple(factor[None] for factor in new))[0]
    kept, (first, exact) = averages(old), averages(new)
    moved = rotated(*kept, old, new, core, steps, (beta1, beta2))[1]
    uncorrelated = kept[1]  # mixing the squares without subtracting the mean, the simplest rule
    for mode, (after, before) in enumerate(zip(new, old, strict=True)):
        uncorrelated = mode_product(uncorrelated[None], (after.mH @ before).abs().square()[None], mode)[0]

    def step_error(second):
        step = first / exact.sqrt()
        return float((first / second.sqrt() - step).norm() / step.norm())

    assert bool((moved > 0).all())
    assert cosine(moved, exact) > 0.97
    assert step_error(moved) < 0.35
    assert step_error(moved) < 0.5 * min(step_error(kept[1]), step_error(uncorrelated))


@both_fields
def test_turning_the_axes_of_one_subspace_turns_the_moments_exactly(dtype):
    """Of gradients that are all alike: then the square of the mean is all there is."""
    gradient = low_rank(SHAPE, 3, dtype)
    old = truncate(spectra_and_bases(gradient)[1], (4, 4, 4))
    new = tuple(factor @ torch.linalg.qr(random((4, 4), dtype, seed=7))[0] for factor in old)
    before, after = (project(gradient[None], tuple(f[None] for f in factors))[0] for factors in (old, new))
    weights = 1 - 0.9**5, 1 - 0.99**5
    first, second = rotated(weights[0] * before, weights[1] * before.abs() ** 2, old, new, after, 5)
    torch.testing.assert_close(first, weights[0] * after, rtol=0, atol=1e-12)
    torch.testing.assert_close(second, weights[1] * after.abs() ** 2, rtol=1e-9, atol=1e-12)


def test_an_unchanged_subspace_changes_nothing():
    factors = truncate(spectra_and_bases(random(SHAPE))[1], (4, 9, 3))
    first, second = random((4, 9, 3), seed=1), random((4, 9, 3), seed=2).square() + 9
    moved = rotated(first, second, factors, factors, random((4, 9, 3), seed=3), 30)
    torch.testing.assert_close(moved[0], first, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved[1], second, rtol=1e-12, atol=0)


def test_new_directions_start_from_the_present_gradient_as_in_adams_first_step():
    basis = torch.linalg.qr(random((9, 9)))[0]
    old, new = (None, basis[:, :3].contiguous()), (None, basis[:, 3:6].contiguous())
    core = random((5, 3), seed=4)
    first, second = rotated(random((5, 3)), random((5, 3)).square(), old, new, core, 3)
    torch.testing.assert_close(first, torch.zeros(5, 3, dtype=first.dtype), rtol=0, atol=1e-12)
    torch.testing.assert_close(second, (1 - 0.99**3) * core.square(), rtol=1e-9, atol=0)


def test_ranks_may_change_at_a_refresh():
    basis = torch.linalg.qr(random((6, 6)))[0]
    narrow, wide = (basis[:, :2].contiguous(), None), (None, None)
    first, second = random((2, 3)), random((2, 3)).square()
    grown = rotated(first, second, narrow, wide, random((6, 3)), 3)
    assert grown[0].shape == grown[1].shape == (6, 3)
    shrunk = rotated(*grown, wide, narrow, first, 3)
    torch.testing.assert_close(shrunk[0], first, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gap", "steps"), [(5, 21), (4, 12), (7, 30)])
def test_refreshes_are_counted_and_spread_over_the_gap(gap, steps):
    weights = [parameter(SHAPE, seed=seed) for seed in range(3)]
    optimizer = galore([*weights, parameter((4,))], update_gap=gap)
    seen = []
    for step in range(steps):
        feed(optimizer, [*(random(SHAPE, seed=10 * step + i) for i in range(3)), random((4,))])
        seen.append([int(optimizer.state[weight]["refreshes"]) for weight in weights])
    at = [[step for step in range(1, steps) if seen[step][i] > seen[step - 1][i]] for i in range(3)]
    assert seen[0] == [1, 1, 1]
    assert at == [[s for s in range(1, steps) if (s + i * gap // 3) % gap == 0] for i in range(3)]
    assert not set(at[0]) & set(at[1]) | set(at[1]) & set(at[2])
    assert optimizer.refresh_count == sum(seen[-1])
    assert optimizer.refresh_seconds > 0


def test_a_warm_subspace_follows_the_gradient_and_a_kept_one_does_not():
    kept = {}
    for gap in (10, 10**6):
        weight = parameter(SHAPE)
        optimizer = galore([weight], rank=(4, 4, 4), update_gap=gap)
        for gradient in drifting(torch.float64, 101, strength=0.01, noise=0.0):
            feed(optimizer, [gradient])
        kept[gap] = float((projected(optimizer, weight, gradient).norm() / gradient.norm()) ** 2)
    assert kept[10] > 0.99
    assert kept[10**6] < 0.7


def test_a_gradient_that_left_the_subspace_is_found_again():
    """No sweep leads from a subspace to one orthogonal to it; the refresh then recomputes it."""
    weight = parameter(SHAPE)
    optimizer = galore([weight], rank=(4, 4, 4), update_gap=1)
    before, after = torch.zeros(2, *SHAPE, dtype=torch.float64)
    before[:5, :4, :4], after[5:, 4:, 4:] = random((5, 4, 4)), random((5, 5, 4))
    feed(optimizer, [before])
    feed(optimizer, [after])
    assert float(projected(optimizer, weight, after).norm() / after.norm()) > 0.8


def test_ranks_by_energy_are_recomputed_at_every_second_refresh():
    weight = parameter(SHAPE)
    optimizer = galore([weight], rank=0.999, rank_rule="energy", update_gap=3, recompute_every=2)
    shapes = []
    for step in range(10):
        feed(optimizer, [low_rank(SHAPE, 2 if step < 4 else 3, seed=step)])
        shapes.append(tuple(optimizer.state[weight]["mean"].shape))
    assert shapes[0] == shapes[5] == (2, 2, 2)
    assert shapes[6] == shapes[9] == (3, 3, 3)


def test_a_gradient_that_is_not_finite_is_named_at_a_refresh():
    optimizer = galore([parameter(SHAPE)])
    with pytest.raises(RuntimeError, match=r"shape \(10, 9, 8\) is not finite at its step 0"):
        feed(optimizer, [torch.full(SHAPE, torch.nan, dtype=torch.float64)])


def test_zero_gradients_at_the_start_decay_and_wait():
    weight = parameter(SHAPE)
    before = weight.detach().clone()
    optimizer = galore([weight], lr=0.1, weight_decay=0.5)
    feed(optimizer, [torch.zeros(SHAPE, dtype=torch.float64)])
    torch.testing.assert_close(weight.detach(), 0.95 * before)
    assert not optimizer.state[weight]
    feed(optimizer, [random(SHAPE)])
    assert int(optimizer.state[weight]["step"]) == 1
