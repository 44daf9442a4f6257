"""A call as bytes that only the worker unpickles, so that the scheduler imports nothing for it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any


def packed(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[[bytes], Any], bytes]:
    """The call as a call of :func:`unpacked`."""
    return unpacked, pickle.dumps((function, arguments))


def unpacked(content: bytes) -> Any:
    """Result of the call."""
    function, arguments = pickle.loads(content)
    return function(*arguments)
