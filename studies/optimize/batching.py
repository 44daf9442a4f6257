"""Several sequential searches whose evaluations are answered together.

scipy's optimizers ask for one design at a time; run in threads, all of them wait at the same moment, and one
batched evaluation answers them all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class SearchStopped(Exception):
    """Raised in a search that has to end because the whole optimization does."""


class LockstepEvaluator:
    """Collects one request of every running search, then evaluates them as a batch."""

    def __init__(self, evaluate: Callable[[Array], tuple[Array, Array]], searches: int) -> None:
        self._evaluate = evaluate
        self._condition = threading.Condition()
        self._running = searches
        self._requests: dict[int, Array] = {}
        self._answers: dict[int, tuple[Any, Array] | BaseException] = {}
        self._stopped = False

    def __call__(self, search: int, design: Array) -> tuple[Any, Array]:
        """Values and gradients at ``design`` (P,) for one search; waits for the others."""
        with self._condition:
            if not self._stopped:
                self._requests[search] = design
                self._answer_if_complete()
                self._condition.wait_for(lambda: self._stopped or search in self._answers)
            answer = self._answers.pop(search, None)
        if answer is None:
            raise SearchStopped
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def leave(self) -> None:
        """A search has ended: the others no longer wait for it."""
        with self._condition:
            self._running -= 1
            self._answer_if_complete()
            self._condition.notify_all()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether all searches have ended, after ``seconds`` at the latest; unlike Thread.join it bears Ctrl-C."""
        with self._condition:
            return self._condition.wait_for(lambda: self._running == 0, seconds)

    def stop(self) -> None:
        """End every search at its next evaluation."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def _answer_if_complete(self) -> None:
        if self._stopped or not self._requests or len(self._requests) < self._running:
            return
        searches = sorted(self._requests)  # not in the order of their arrival, which rounding would show
        try:
            values, gradients = self._evaluate(np.stack([self._requests[s] for s in searches]))
            answers: list[Any] = list(zip(values, gradients, strict=True))
        except BaseException as error:  # every waiting search has to end with it
            answers = [error] * len(searches)
        self._requests.clear()
        self._answers.update(zip(searches, answers, strict=True))
        self._condition.notify_all()


def run_in_lockstep(
    searches: Sequence[Callable[[Callable[[Array], tuple[Any, Array]]], Any]],
    evaluate: Callable[[Array], tuple[Array, Array]],
) -> list[Any]:
    """Run every search(evaluate_one) in a thread of its own; results in order.

    Raises:
        the first exception of any search.
    """
    evaluator = LockstepEvaluator(evaluate, len(searches))
    results: list[Any] = [None] * len(searches)
    errors: list[BaseException] = []

    def body(index: int) -> None:
        try:
            results[index] = searches[index](lambda design: evaluator(index, design))
        except SearchStopped:
            pass
        except BaseException as error:
            errors.append(error)
            evaluator.stop()
        finally:
            evaluator.leave()

    threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(len(searches))]
    try:
        for thread in threads:  # the first may search already while the last is started, and Ctrl-C comes at any time
            thread.start()
        while not evaluator.wait(0.2):  # in pieces, so that Ctrl-C gets through
            pass
    except BaseException:
        evaluator.stop()
        raise
    finally:  # a thread inside torch or PETSc at the interpreter's end would abort the process
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
    return results
