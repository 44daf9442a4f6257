"""Subspaces: against tensorly, against what is provably best, and that a sweep follows a moving tensor."""

from __future__ import annotations

import pytest
import tensorly
import torch
from tensorly.decomposition import tucker
from tensorly.tenalg import multi_mode_dot

from shapewright.surrogate.optim.tucker import lift, project, spectra_and_bases, sweep, truncate

SHAPE, RANKS = (7, 6, 5, 4), (3, 2, 4, 4)
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
