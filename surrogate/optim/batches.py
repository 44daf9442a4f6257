"""Which parameters are stepped together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from shapewright.surrogate.optim.dense import is_dense, update_dense
from shapewright.surrogate.optim.state import State
from shapewright.surrogate.optim.update import update

STACKED_ENTRIES = 2**17
"""Parameters of equal shape are stepped together up to this many entries: beyond, a stack costs memory and buys
nothing, as the time goes into arithmetic and not into launching it."""

Update = Callable[[Sequence[Tensor], Sequence[State], dict[str, Any]], None]


def batches(
    parameters: Iterable[Tensor], states: Mapping[Tensor, State], group: dict[str, Any]
) -> Iterator[tuple[Update, list[Tensor]]]:
    """Parameters that can be stepped in one go, with what steps them."""
    alike: dict[tuple[Any, ...], list[Tensor]] = {}
    for parameter in parameters:
        state = states[parameter]
        key: tuple[Any, ...] = (update_dense, parameter.dtype, parameter.device)
        if not is_dense(parameter, state, group):
            shapes = tuple((name, value.shape) for name, value in sorted(state.items()))
            key = (update, *key[1:], parameter.shape, float(state["step"]), shapes)
        alike.setdefault(key, []).append(parameter)
    for (method, *_), members in alike.items():
        most = len(members) if method is update_dense else max(1, STACKED_ENTRIES // max(1, members[0].numel()))
        for begin in range(0, len(members), most):
            yield method, members[begin : begin + most]
