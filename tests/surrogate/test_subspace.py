"""Subspaces: against tensorly, against what is provably best, and that a sweep follows a moving tensor.

Ranks: what each rule promises, for any shape and budget.
"""

from __future__ import annotations

import math

import pytest
import tensorly
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tensorly.decomposition import tucker
from tensorly.tenalg import multi_mode_dot
from tensorly.tucker_tensor import validate_tucker_rank

from shapewright.surrogate.optim.subspace import (
    check_rank,
    choose_ranks,
    lift,
    project,
    size,
    spectra_and_bases,
    sweep,
    truncate,
)

SHAPE, RANKS = (7, 6, 5, 4), (3, 2, 4, 4)
shapes = st.lists(st.integers(1, 12), min_size=2, max_size=5).map(tuple)
shares = st.floats(0.01, 1.0)
both_fields = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])


@pytest.fixture(autouse=True)
def _torch_backend():
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        yield


def decaying(dtype, seed=0, shape=SHAPE):
    """A tensor whose singular values fall in every mode, as those of gradients do."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, dtype=dtype, generator=generator)
    for mode, n in enumerate(shape):
        basis = torch.linalg.qr(torch.randn(n, n, dtype=dtype, generator=generator))[0]
        tensor = tensorly.tenalg.mode_dot(tensor, basis * 0.4 ** torch.arange(n), mode)
    return tensor / tensor.norm()


def recompute(tensor, ranks):
    return truncate(spectra_and_bases(tensor)[1], ranks)


def batched(factors):
    return tuple(None if factor is None else factor[None] for factor in factors)


def projection(tensor, factors):
    return lift(project(tensor[None], batched(factors)), batched(factors))[0]


@both_fields
def test_products_are_tensorlys(dtype):
    tensor, factors = decaying(dtype), recompute(decaying(dtype), RANKS)
    modes = [mode for mode, factor in enumerate(factors) if factor is not None]
    present = [factors[mode] for mode in modes]
    core = project(tensor[None], batched(factors))[0]
    torch.testing.assert_close(core, multi_mode_dot(tensor, [f.mH for f in present], modes), rtol=0, atol=1e-14)
    full = lift(core[None], batched(factors))[0]
    torch.testing.assert_close(full, multi_mode_dot(core, present, modes), rtol=0, atol=1e-14)


@both_fields
def test_cold_subspace_is_that_of_tensorlys_hosvd(dtype):
    """Equal projections, so equal spaces, though tensorly decomposes the unfoldings and we their Gram matrices."""
    tensor = decaying(dtype)
    bases = [
        torch.linalg.svd(tensorly.unfold(tensor, mode), full_matrices=False)[0][:, :rank]
        for mode, rank in enumerate(RANKS)
    ]
    expected = multi_mode_dot(multi_mode_dot(tensor, [b.mH for b in bases]), bases)
    torch.testing.assert_close(projection(tensor, recompute(tensor, RANKS)), expected, rtol=0, atol=1e-9)


@both_fields
def test_error_is_within_the_bounds_of_the_best_approximation(dtype):
    """Tails of the spectra bound the error from above; tensorly's converged iteration is as good as the best known.

    A sweep after the cold start comes within 1 % of the latter.
    """
    tensor = decaying(dtype)
    spectra, _ = spectra_and_bases(tensor)
    tails = [float(values[rank:].sum() / values.sum()) for values, rank in zip(spectra, RANKS, strict=True)]
    core, factors = tucker(tensor, RANKS, n_iter_max=200, tol=1e-12)
    best = float((tensor - multi_mode_dot(core, factors)).norm())
    start = recompute(tensor, RANKS)
    error = float((tensor - projection(tensor, start)).norm())
    assert max(tails) ** 0.5 <= best * (1 + 1e-9) <= error * (1 + 2e-9)
    assert error <= min(sum(tails) ** 0.5, 1.05 * best)
    assert float((tensor - projection(tensor, sweep(tensor, start))).norm()) <= 1.01 * best


def test_single_precision_keeps_the_energy():
    """Squaring in the Gram matrices costs accuracy in directions of no energy only."""
    tensor = decaying(torch.complex128)
    single = tensor.to(torch.complex64) * 1e-22  # squares of gradients this small are below single precision
    factors = recompute(single, RANKS)
    lost = 1 - (projection(single * 1e22, factors).norm() / (single * 1e22).norm()) ** 2
    exact = 1 - (projection(tensor, recompute(tensor, RANKS)).norm() / tensor.norm()) ** 2
    assert float(lost - exact) < 1e-5


@both_fields
def test_projection_is_an_orthogonal_one(dtype):
    tensor, other = decaying(dtype), decaying(dtype, seed=1)
    factors = recompute(tensor, RANKS)
    inside = projection(other, factors)
    torch.testing.assert_close(projection(inside, factors), inside, rtol=0, atol=1e-14)
    assert abs(torch.vdot(inside.flatten(), (other - inside).flatten())) < 1e-14


@both_fields
def test_a_batch_is_its_members(dtype):
    tensors = [decaying(dtype, seed) for seed in range(3)]
    factors = [recompute(tensor, RANKS) for tensor in tensors]
    stacked = tuple(None if f[0] is None else torch.stack(f) for f in zip(*factors, strict=True))
    together = lift(project(torch.stack(tensors), stacked), stacked)
    for tensor, own, result in zip(tensors, factors, together, strict=True):
        torch.testing.assert_close(result, projection(tensor, own), rtol=0, atol=1e-14)


@both_fields
def test_sweep_leaves_a_subspace_that_is_right_and_its_axes(dtype):
    tensor = decaying(dtype)
    factors = recompute(projection(tensor, recompute(tensor, RANKS)), RANKS)
    swept = sweep(projection(tensor, factors), factors)
    for before, after in zip(factors, swept, strict=True):
        if before is not None:
            torch.testing.assert_close(after, before, rtol=0, atol=1e-7)


def test_sweeps_reach_the_subspace_of_another_tensor():
    old, new = decaying(torch.float64), decaying(torch.float64, seed=1)
    factors, kept = recompute(old, RANKS), []
    for _ in range(5):
        factors = sweep(new, factors)
        kept.append(float(projection(new, factors).norm()))
    assert kept[0] > 2 * float(projection(new, recompute(old, RANKS)).norm())
    assert kept[-1] > (1 - 1e-3) * float(projection(new, recompute(new, RANKS)).norm())


def test_complex_matrix_is_its_real_embedding():
    """[[Re, -Im], [Im, Re]] with twice the ranks has the embedded projection."""

    def embed(matrix):
        return torch.cat([torch.cat([matrix.real, -matrix.imag], 1), torch.cat([matrix.imag, matrix.real], 1)])

    matrix = decaying(torch.complex128, shape=(8, 6))
    expected = embed(projection(matrix, recompute(matrix, (3, 3))))
    result = projection(embed(matrix), recompute(embed(matrix), (6, 6)))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)


def energy_kept(tensor, ranks):
    factors = tuple(f if f is None else f[None] for f in truncate(spectra_and_bases(tensor)[1], ranks))
    return float((lift(project(tensor[None], factors), factors).norm() / tensor.norm()) ** 2)


@pytest.mark.parametrize("shape", [(64, 64, 64, 33), (32, 48, 16), (20, 20, 12, 7)])
@pytest.mark.parametrize("share", [0.5, 0.25, 0.1, 0.05])
def test_uniform_is_tensorlys_between_its_roundings(shape, share):
    """What rounding down leaves of the budget is spent; tensorly's rounding up would exceed it."""
    ranks = choose_ranks(shape, share, "uniform")
    down, up = (validate_tucker_rank(shape, share, rounding=rounding) for rounding in ("floor", "ceil"))
    assert all(low <= rank <= high + 1 for low, rank, high in zip(down, ranks, up, strict=True))
    assert size(shape, ranks) <= share * math.prod(shape)


@given(shapes, shares, st.sampled_from(["uniform", "spectrum"]), st.integers(0, 99))
@example((3, 8, 11), 0.125, "spectrum", 0)  # a first mode that is whole beside ranks of 2 and 1
def test_a_budget_is_kept(shape, share, rule, seed):
    """Unless one direction a mode is already more."""
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spectra = [values.tolist() for values in spectra_and_bases(tensor)[0]]
    ranks = choose_ranks(shape, share, rule, spectra)
    least = size(shape, [1] * len(shape))
    assert all(1 <= rank <= n for rank, n in zip(ranks, shape, strict=True))
    assert size(shape, ranks) <= max(share * math.prod(shape) * (1 + 1e-9), min(least, math.prod(shape)))


@given(shapes.filter(lambda shape: math.prod(shape) > 1), st.floats(0.05, 0.999), st.integers(0, 99))
def test_energy_is_kept(shape, share, seed):
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
    for mode, n in enumerate(shape):
        tensor = tensor * (0.5 ** torch.arange(n)).reshape(-1, *[1] * (len(shape) - mode - 1))
    ranks = choose_ranks(shape, share, "energy", [values.tolist() for values in spectra_and_bases(tensor)[0]])
    assert energy_kept(tensor, ranks) >= share - 1e-9


def test_spectrum_spends_the_budget_where_the_energy_is():
    """A mode of size 2 with two equal directions is halved by the uniform rule, which loses half of everything."""
    generator = torch.Generator().manual_seed(0)
    decay = 0.6 ** torch.arange(12)
    tensor = torch.randn(2, 12, 12, 12, generator=generator) * decay * decay[:, None] * decay[:, None, None]
    spectra = [values.tolist() for values in spectra_and_bases(tensor)[0]]
    uniform, spectrum = (choose_ranks(tensor.shape, 0.2, rule, spectra) for rule in ("uniform", "spectrum"))
    assert uniform[0] == 1
    assert spectrum[0] == 2
    assert energy_kept(tensor, uniform) < 0.7
    assert energy_kept(tensor, spectrum) > 0.9


@pytest.mark.parametrize("shape", [(16, 8, 32, 32), (2, 16, 16, 24, 24)])
@pytest.mark.parametrize("share", [0.5, 0.25, 0.1, 0.05])
def test_spectrum_leaves_little_of_the_budget_where_all_directions_are_alike(shape, share):
    """Dropping whole directions alone would use 63 to 95 % of it."""
    white = [[1.0] * n for n in shape]
    ranks = choose_ranks(shape, share, "spectrum", white)
    assert 0.92 < size(shape, ranks) / (share * math.prod(shape)) <= 1.0


def test_directions_without_energy_are_not_kept_for_the_budgets_sake():
    spectra = [[1.0, *[0.0] * (n - 1)] for n in (16, 8, 32, 32)]
    assert choose_ranks((16, 8, 32, 32), 0.05, "spectrum", spectra)[0] == 1


def test_by_mode_takes_counts_and_shares():
    assert choose_ranks((10, 8, 6), (3, 0.5, 1.0), "uniform") == (3, 4, 6)
    assert choose_ranks((10, 8, 6), (20, 0.01, 6), "uniform") == (10, 1, 6)


def test_no_subspace_where_it_would_be_no_smaller():
    assert choose_ranks((3, 3), (2, 2), "uniform") == (3, 3)


@pytest.mark.parametrize(
    ("rank", "rule", "text"),
    [
        (0.0, "uniform", "rank is 0.0"),
        (1.5, "uniform", "rank is 1.5"),
        (True, "uniform", "rank is True"),
        ("a", "energy", "rank is 'a'"),
        ((4, 1.5), "uniform", r"entry 1\.5"),
        ((0, 4), "uniform", "entry 0"),
        (0.5, "size", "rank_rule is 'size'; allowed are 'spectrum', 'uniform', 'energy'"),
    ],
)
def test_refusals(rank, rule, text):
    with pytest.raises(ValueError, match=text):
        check_rank(rank, rule)


def test_entries_must_be_as_many_as_modes():
    with pytest.raises(ValueError, match=r"2 entries; a tensor of shape \(4, 5, 6\) needs 3"):
        choose_ranks((4, 5, 6), (2, 2), "uniform")
