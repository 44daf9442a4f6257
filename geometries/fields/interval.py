"""The values that a coefficient may have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


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

    def contains(self, values: Any) -> Any:
        """Which of ``values`` (a tensor, or an array) are finite and inside; one that is not a number is not."""
        low = values >= self.above if self.closed in ("above", "both") else values > self.above
        high = values <= self.below if self.closed in ("below", "both") else values < self.below
        return low & high & (abs(values) < math.inf)

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
