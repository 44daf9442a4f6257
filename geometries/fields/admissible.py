"""Where the values of a coefficient leave those that it may have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from shapewright.geometries.fields.interval import Interval
from shapewright.geometries.fields.names import COORDINATES


@dataclass(frozen=True)
class Excess:
    """A value of a coefficient that is not admissible.

    Attributes:
        name: of the coefficient.
        value: the worst found.
        point: where it has it; None for a constant.
        allowed: values in words.
    """

    name: str
    value: float
    point: tuple[float, ...] | None
    allowed: str

    @property
    def found(self) -> str:
        """The value and where, for messages."""
        if self.point is None:
            return f"{self.value:.6g}"
        at = (f"{x} = {value:.4g}" for x, value in zip(COORDINATES, self.point, strict=False))
        return f"{self.value:.6g} at {', '.join(at)}"


def excess(name: str, allowed: Interval, value: Any, points: Mapping[str, Any]) -> Excess | None:
    """The worst value that lies outside, None if all are admissible.

    Args:
        name: of the coefficient.
        allowed: its values.
        value: number or tensor that broadcasts with the points.
        points: quantities among which are the coordinates, unless the value is a constant.
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
    at = [torch.as_tensor(points[x]).expand(values.shape).reshape(-1)[index] for x in COORDINATES if x in points]
    return Excess(name, float(values.reshape(-1)[index]), tuple(map(float, at)), allowed.text)
