"""The values that a coefficient may have, and where those of a problem leave them; what of a problem is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """Finite numbers above ``above`` and below ``below``, or at least and at most these where ``closed`` names them.

    Attributes:
        above, below: the ends.
        closed: which ends belong to it: "", "above", "below" or "both".
    """

    above: float = -math.inf
    below: float = math.inf
    closed: str = ""

    def contains(self, values: Tensor) -> Tensor:
        """Which of ``values`` (any shape) are finite and inside; one that is not a number is not."""
        low = values >= self.above if self.closed in ("above", "both") else values > self.above
        high = values <= self.below if self.closed in ("below", "both") else values < self.below
        return low & high & torch.isfinite(values)

    @property
    def text(self) -> str:
        """For messages, such as ``a number above -1 and below 0.5``."""
        ends = []
        if self.above > -math.inf:
            ends.append(f"{'at least' if self.closed in ('above', 'both') else 'above'} {self.above:g}")
        if self.below < math.inf:
            ends.append(f"{'at most' if self.closed in ('below', 'both') else 'below'} {self.below:g}")
        return f"a number {' and '.join(ends)}" if ends else "a finite number"


ANY_NUMBER = Interval()
POSITIVE = Interval(above=0.0)
NOT_NEGATIVE = Interval(above=0.0, closed="above")


@dataclass(frozen=True)
class Excess:
    """A value of a coefficient that is not admissible.

    Attributes:
        name: of the coefficient.
        value: the worst found.
        point: (x, y) where it has it; None for a constant.
        allowed: values in words.
    """

    name: str
    value: float
    point: tuple[float, float] | None
    allowed: str

    @property
    def found(self) -> str:
        """The value and where, for messages."""
        at = "" if self.point is None else f" at x = {self.point[0]:.4g}, y = {self.point[1]:.4g}"
        return f"{self.value:.6g}{at}"


def excess(name: str, allowed: Interval, value: Any, points: Mapping[str, Any]) -> Excess | None:
    """The worst value that lies outside, None if all are admissible.

    Args:
        name: of the coefficient.
        allowed: its values.
        value: number or tensor that broadcasts with the points.
        points: quantities among which are ``x`` and ``y`` if the value depends on them.
    """
    values = torch.as_tensor(value, dtype=torch.float64).detach()
    inside = allowed.contains(values)
    if bool(inside.all()):
        return None
    if values.ndim == 0:
        return Excess(name, float(values), None, allowed.text)
    outside = torch.where(inside, -math.inf, (values - values[inside].mean() if inside.any() else values).abs())
    outside = torch.where(torch.isnan(outside), math.inf, outside)
    index = int(outside.argmax())
    x, y = (torch.as_tensor(points[axis]).expand(values.shape).reshape(-1)[index] for axis in ("x", "y"))
    return Excess(name, float(values.reshape(-1)[index]), (float(x), float(y)), allowed.text)
