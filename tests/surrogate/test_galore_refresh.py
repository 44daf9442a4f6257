"""Refreshes from gradients that hold less than the subspace: what one minibatch does not have is kept."""

from __future__ import annotations

import pytest
import torch

from shapewright.surrogate.optim.state import factors_of
from shapewright.surrogate.optim.subspace import completed, lift, project, spectra_and_bases, sweep, truncate
from tests.surrogate.galore_cases import feed, galore, low_rank, parameter, random

SHAPE = (10, 9, 8)


def batched(factors):
    return tuple(None if factor is None else factor[None] for factor in factors)


def cosine(a, b):
    return float(torch.vdot(a.flatten(), b.flatten()).real / (a.norm() * b.norm()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("recompute_every", [0, 1])
def test_a_gradient_of_lower_rank_does_not_make_a_refresh_drop_the_momentum(dtype, rank, recompute_every):
    """A subspace of (4, 4, 4) that is refreshed from a minibatch of multilinear rank 1 to 3 inside it."""
    factors = batched(truncate(spectra_and_bases(low_rank(SHAPE, 4, dtype))[1], (4, 4, 4)))
    weight = torch.nn.Parameter(torch.zeros(SHAPE, dtype=dtype))
    optimizer = galore([weight], rank=(4, 4, 4), update_gap=20, residual_weight=0.0, recompute_every=recompute_every)
    truth = torch.zeros(SHAPE, dtype=dtype)
    for step in range(21):
        core = low_rank((4, 4, 4), rank, dtype) if step == 20 else random((4, 4, 4), dtype, step)
        gradient = lift(core[None], factors)[0]
        feed(optimizer, [gradient])
        truth = 0.9 * truth + 0.1 * gradient
    state = optimizer.state[weight]
    assert int(state["refreshes"]) == 2
    kept = lift(state["mean"][None], factors_of([state], 3))[0]
    assert cosine(kept, truth) > 0.99
    assert float(kept.norm() / truth.norm()) > 0.99


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_sweep_over_a_gradient_inside_gives_the_factors_it_had(dtype):
    old = truncate(spectra_and_bases(low_rank(SHAPE, 4, dtype))[1], (4, 4, 4))
    gradient = lift(low_rank((4, 4, 4), 2, dtype)[None], batched(old))[0]
    for before, after in zip(old, sweep(gradient, old), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_completed_basis_is_orthonormal_and_takes_what_is_preferred_first(dtype, count):
    preferred = torch.linalg.qr(random((9, 4), dtype))[0]
    basis = torch.linalg.qr(torch.cat([preferred[:, :1], random((9, 2), dtype, 1)], 1))[0][:, :count]
    for rank in (count + 3, 9):
        found = completed(basis, preferred, rank)
        torch.testing.assert_close(found.mH @ found, torch.eye(rank, dtype=dtype), rtol=0, atol=1e-5)
        torch.testing.assert_close(found[:, :count], basis, rtol=0, atol=0)
    found = completed(basis, preferred, count + 4)
    torch.testing.assert_close(found @ (found.mH @ preferred), preferred, rtol=0, atol=1e-3)


def test_ranks_that_the_first_gradient_made_too_small_are_corrected_at_the_first_refresh():
    """A first gradient at a single frequency leaves one direction there; those after it have many."""
    shape = (2, 8, 8, 12, 12)
    weight = parameter(shape, torch.complex64)
    optimizer = galore([weight], rank=0.25, update_gap=3)
    single = torch.zeros(shape, dtype=torch.complex64)
    single[0, 0, 0] = random((12, 12), torch.complex64)
    feed(optimizer, [single])
    assert optimizer.state[weight]["mean"].shape[0] == 1
    for step in range(1, 4):
        gradient = random(shape, torch.complex64, seed=step)
        feed(optimizer, [gradient])
    factors = factors_of([optimizer.state[weight]], 5)
    energy_share = float((project(gradient[None], factors).norm() / gradient.norm()) ** 2)
    assert optimizer.state[weight]["mean"].shape[:3] != (1, 1, 1)
    assert energy_share > 0.9 * 0.25


def test_ranks_stay_if_others_have_hardly_more_energy():
    """Momentum along what is left out would be lost for nothing."""
    weight, gradients = parameter(SHAPE), [random(SHAPE, seed=seed) for seed in range(4)]
    optimizer = galore([weight], rank=0.4, update_gap=3)
    signal = 100 * low_rank(SHAPE, 2)
    shapes = []
    for gradient in gradients:
        feed(optimizer, [signal + gradient])
        shapes.append(optimizer.state[weight]["mean"].shape)
    assert len(set(shapes)) == 1
