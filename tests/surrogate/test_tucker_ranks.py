"""Rank rules: what each promises, for any shape and budget."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tensorly.tucker_tensor import validate_tucker_rank

from shapewright.surrogate.optim.tucker import lift, project, spectra_and_bases, truncate
from shapewright.surrogate.optim.tucker_ranks import check_rank, choose_ranks, size

shapes = st.lists(st.integers(1, 12), min_size=2, max_size=5).map(tuple)
shares = st.floats(0.01, 1.0)


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
