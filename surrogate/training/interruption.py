"""Ctrl-C and SIGTERM during a training: noted at once, answered between two steps, where its state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class TrainingInterrupted(KeyboardInterrupt):
    """A training that was interrupted; the text says where it is saved, if it is.

    Attributes:
        signal_number: SIGINT or SIGTERM.
    """

    def __init__(self, text: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.signal_number = signal_number


class Interruption:
    """Notes the first SIGINT or SIGTERM while it is entered; a second one acts as it would have without it.

    Signals that are ignored stay so. Outside the main thread, which alone gets signals, it does nothing.

    Attributes:
        noted: the signal; None until there was one.
    """

    def __init__(self) -> None:
        self.noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    self._before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted is None:
            self.noted = number
        else:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
