"""Promise: instances follow the laws that the study states, and depend on the seed alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shapewright.surrogate.models.instances import Normal, Population, Uniform

BOUNDS = torch.tensor([[-0.2, 0.2], [1.0, 3.0]], dtype=torch.float64)
DISTRIBUTIONS = {"load": Uniform(0.02, 0.12), "beta": Normal(1.0, 2.0)}
POPULATION = Population(("c1", "c2"), BOUNDS, DISTRIBUTIONS)


def test_every_number_follows_its_distribution():
    """Kolmogorov-Smirnov at a level that a right sampler misses once in 10,000 seeds; the seed is fixed."""
    drawn = POPULATION.draw(4000, seed=5)
    exact = {
        "c1": stats.uniform(-0.2, 0.4),
        "c2": stats.uniform(1.0, 2.0),
        "load": stats.uniform(0.02, 0.1),
        "beta": stats.norm(1.0, 2.0),
    }
    for name, distribution in exact.items():
        assert stats.kstest(drawn.parameters[name].numpy(), distribution.cdf).pvalue > 1e-4, name


def test_numbers_are_independent():
    drawn = POPULATION.draw(4000, seed=6)
    ranks = np.corrcoef(stats.rankdata(np.stack([v.numpy() for v in drawn.parameters.values()]), axis=1))
    assert np.abs(ranks - np.eye(4)).max() < 4 / 4000**0.5


@given(st.integers(0, 2**40), st.integers(1, 20))
def test_a_draw_depends_on_the_seed_alone(seed, count):
    torch.manual_seed(count)  # the global generator has no part in it
    first, again, other = POPULATION.draw(count, seed), POPULATION.draw(count, seed), POPULATION.draw(count, seed + 1)
    assert torch.equal(first.theta, again.theta)
    assert all(torch.equal(first.parameters[name], again.parameters[name]) for name in first.parameters)
    assert not torch.equal(first.theta, other.theta)
    assert ((first.theta >= BOUNDS[:, 0]) & (first.theta <= BOUNDS[:, 1])).all()
    assert list(first.parameters) == ["c1", "c2", "load", "beta"]


@given(st.floats(1e-9, 1 - 1e-9), st.sampled_from(sorted(DISTRIBUTIONS)))
def test_quantiles_invert_the_distribution(share, name):
    distribution = DISTRIBUTIONS[name]
    exact = stats.norm(1.0, 2.0) if name == "beta" else stats.uniform(0.02, 0.1)
    value = float(distribution.quantile(torch.tensor(share, dtype=torch.float64)))
    assert value == pytest.approx(exact.ppf(share), rel=1e-9, abs=1e-9)


def test_shapes_count_among_the_numbers():
    drawn = POPULATION.draw(6, seed=0)
    assert torch.equal(torch.stack([drawn.parameters["c1"], drawn.parameters["c2"]], -1), drawn.theta)


def test_subsets_keep_designs_and_numbers_together():
    drawn = POPULATION.draw(9, seed=0)
    for index in (torch.tensor([7, 2]), slice(3, 6)):
        part = drawn.subset(index)
        assert torch.equal(part.theta, drawn.theta[index])
        assert torch.equal(part.parameters["c2"], part.theta[:, 1])
        assert torch.equal(part.parameters["beta"], drawn.parameters["beta"][index])
    assert len(drawn.subset(slice(3, 6))) == 3


def test_conversion_reaches_every_number():
    drawn = POPULATION.draw(3, seed=0).to(torch.zeros((), dtype=torch.float32))
    assert {drawn.theta.dtype, *(v.dtype for v in drawn.parameters.values())} == {torch.float32}
