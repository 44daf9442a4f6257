"""Promise: Ctrl-C and SIGTERM save a training at the end of the step it is in, and it resumes as if unbroken."""

import signal
import threading
from dataclasses import replace

import pytest
import torch

from shapewright.surrogate.training.derivative_informed import train
from shapewright.surrogate.training.interruption import Interruption, TrainingInterrupted
from tests.surrogate.design_cases import small_surrogate
from tests.surrogate.test_training import DATA, HELD_OUT, SHORT, assert_same_weights, unbroken, weights_of

RARELY = replace(SHORT, checkpoint_every=1000)
"""12 steps; but for interruptions a checkpoint is only written at the last."""


@pytest.fixture(autouse=True)
def python_handlers():
    """As in a foreground process; a job in the background is started with SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 4, 7, 12])
def test_a_signal_within_a_step_saves_it_and_resumption_is_bit_for_bit(tmp_path, number, step):
    checkpoint, surrogate, calls = tmp_path / "checkpoint", small_surrogate(), []

    def interrupt(gradient):
        calls.append(None)
        if len(calls) == step:
            signal.raise_signal(number)  # half of the step's gradients are there

    surrogate.operator.projection.weight.register_hook(interrupt)
    with pytest.raises(TrainingInterrupted, match=f"^the training is saved at step {step} of 12$") as caught:
        train(surrogate, DATA, HELD_OUT, RARELY, checkpoint)
    assert caught.value.signal_number == number
    assert len(calls) == step
    resumed, steps = small_surrogate(seed=99), []
    history = train(resumed, DATA, HELD_OUT, RARELY, checkpoint, lambda progress: steps.append(progress.step))
    assert steps == list(range(step + 1, 13))
    expected_history, expected_weights = unbroken(RARELY)
    assert_same_weights(weights_of(resumed), expected_weights)
    assert history == expected_history


def test_an_interrupt_raised_by_the_report_is_answered_alike(tmp_path):
    def report(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="saved at step 5 of 12"):
        train(small_surrogate(), DATA, HELD_OUT, RARELY, tmp_path / "checkpoint", report)
    resumed = small_surrogate(seed=99)
    train(resumed, DATA, HELD_OUT, RARELY, tmp_path / "checkpoint")
    assert_same_weights(weights_of(resumed), unbroken(RARELY)[1])


def test_without_a_checkpoint_nothing_is_said_to_be_saved():
    surrogate = small_surrogate()
    surrogate.operator.projection.weight.register_hook(lambda gradient: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match=r"^$"):
        train(surrogate, DATA, HELD_OUT, SHORT)


def test_a_second_signal_does_not_wait_for_the_step():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.noted == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored_and_handlers_are_put_back():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
    assert interruption.noted is None
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_training_in_another_thread_is_none_of_its_business():
    found = []
    thread = threading.Thread(target=lambda: found.append(weights_of(trained())))
    thread.start()
    thread.join()
    assert_same_weights(found[0], unbroken()[1])


def trained() -> torch.nn.Module:
    surrogate = small_surrogate()
    train(surrogate, DATA, HELD_OUT, SHORT)
    return surrogate
