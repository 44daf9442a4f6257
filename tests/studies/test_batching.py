"""Promise: searches in lockstep get what they would get alone, in one batch per round; no failure is swallowed."""

import _thread
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from shapewright.studies.optimize.batching import run_in_lockstep


class Counted:
    """Rosenbrock's function and gradient of a batch, with the sizes of the batches."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        self.sizes.append(len(x))
        a, b = x.T
        gradient = np.stack([2 * (a - 1) - 400 * a * (b - a**2), 200 * (b - a**2)], -1)
        return (1 - a) ** 2 + 100 * (b - a**2) ** 2, gradient


def search_from(start):
    return lambda evaluate: minimize(evaluate, start, jac=True, method="BFGS")


STARTS = [np.array(start) for start in ([-1.0, 1.0], [2.0, -1.0], [0.0, 0.0], [1.5, 1.5])]


def test_together_is_bit_for_bit_as_alone():
    together = run_in_lockstep([search_from(start) for start in STARTS], Counted())
    alone = [run_in_lockstep([search_from(start)], Counted())[0] for start in STARTS]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.x, other.x)
        assert one.nfev == other.nfev
        np.testing.assert_allclose(one.x, [1, 1], atol=1e-4)


def test_every_round_is_one_batch_of_all_that_still_search():
    counted = Counted()
    results = run_in_lockstep([search_from(start) for start in STARTS], counted)
    rounds = sorted(result.nfev for result in results)
    expected = [sum(nfev > round_ for nfev in rounds) for round_ in range(rounds[-1])]
    assert counted.sizes == expected


def test_a_batch_is_in_the_order_of_the_searches_whoever_comes_first():
    """Sums over a batch round by its order: results would depend on how the threads happen to run."""
    batches = []

    def evaluate(x):
        batches.append(x[:, 0].tolist())
        return x[:, 0], x

    def search(index):
        def body(one):
            for _ in range(20):
                time.sleep(1e-3 * ((index * 7) % 5))
                one(np.array([float(index)]))

        return body

    run_in_lockstep([search(index) for index in range(5)], evaluate)
    assert batches == [[0.0, 1.0, 2.0, 3.0, 4.0]] * 20


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_searches_of_any_lengths_all_end(lengths):
    """Also those that never ask, and those that end before the others have begun."""

    def search(count):
        return lambda evaluate: [evaluate(np.array([float(k), count]))[0] for k in range(count)]

    results = run_in_lockstep([search(count) for count in lengths], lambda x: (x.sum(-1), x))
    assert results == [[float(k + count) for k in range(count)] for count in lengths]


def test_an_exception_of_the_model_reaches_the_caller():
    def broken(x):
        raise FloatingPointError("no such design")

    before = set(threading.enumerate())
    with pytest.raises(FloatingPointError, match="no such design"):
        run_in_lockstep([search_from(start) for start in STARTS], broken)
    assert set(threading.enumerate()) <= before


def test_an_exception_of_one_search_ends_the_others():
    """They would wait for ever otherwise, or go on to their end for nothing."""
    counted = Counted()

    def fails(evaluate):
        evaluate(np.zeros(2))
        raise KeyError("third")

    def endless(evaluate):
        while True:
            evaluate(np.zeros(2))

    before = set(threading.enumerate())
    with pytest.raises(KeyError, match="third"):
        run_in_lockstep([endless, fails, endless], counted)
    assert set(threading.enumerate()) <= before
    assert len(counted.sizes) < 100


def test_an_interrupt_in_the_waiting_thread_ends_all_searches():
    def endless(evaluate):
        while True:
            evaluate(np.zeros(2))

    def interrupts(evaluate):
        for _ in range(3):
            evaluate(np.zeros(2))
        _thread.interrupt_main()
        endless(evaluate)

    before = set(threading.enumerate())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started without
    try:
        with pytest.raises(KeyboardInterrupt):
            run_in_lockstep([endless, interrupts], lambda x: (x.sum(-1), x))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert set(threading.enumerate()) <= before
