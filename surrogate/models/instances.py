"""Instances of a family of problems: a shape and the numbers that its sources and boundary values depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Distribution:
    """Of one number: ``uniform`` between two bounds, or ``normal`` with mean and standard deviation."""

    kind: str
    first: float
    second: float

    def quantile(self, share: Tensor) -> Tensor:
        """The value below which ``share`` of the numbers lie."""
        if self.kind == "uniform":
            return self.first + (self.second - self.first) * share
        return self.first + self.second * torch.special.ndtri(share)


@dataclass(frozen=True)
class Instances:
    """B problems: designs (B, P) and, by name, the numbers (B,) of each."""

    theta: Tensor
    numbers: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.theta)

    def subset(self, index: Tensor | slice) -> Instances:
        """The instances ``index``."""
        return Instances(self.theta[index], {name: values[index] for name, values in self.numbers.items()})

    def to(self, like: Tensor) -> Instances:
        """In the dtype and on the device of ``like``."""
        return Instances(self.theta.to(like), {name: values.to(like) for name, values in self.numbers.items()})


@dataclass(frozen=True)
class Population:
    """What instances are drawn from.

    Attributes:
        shapes: names of the design parameters, which count among an instance's numbers.
        bounds: (P, 2) within which designs are uniform.
        numbers: law of each of the other numbers.
    """

    shapes: tuple[str, ...]
    bounds: Tensor
    numbers: Mapping[str, Distribution]

    def draw(self, count: int, seed: int) -> Instances:
        """``count`` independent instances in float64; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(count, len(self.bounds) + len(self.numbers), generator=generator, dtype=torch.float64)
        share = share.clamp(1e-9, 1 - 1e-9)  # a normal number is finite
        own = share[:, len(self.bounds) :].unbind(-1)
        theta = self.bounds[:, 0] + (self.bounds[:, 1] - self.bounds[:, 0]) * share[:, : len(self.bounds)]
        numbers = {name: law.quantile(part) for (name, law), part in zip(self.numbers.items(), own, strict=True)}
        return self.instances(theta, numbers)

    def instances(self, theta: Tensor, numbers: Mapping[str, Tensor]) -> Instances:
        """Instances of these designs (B, P) and numbers (B,)."""
        return Instances(theta, dict(zip(self.shapes, theta.unbind(-1), strict=True)) | dict(numbers))
