"""Where the values of a coefficient leave those that it may have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from shapewright.geometries.fields.interval import Interval


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
