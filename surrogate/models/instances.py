"""Instances of a family of problems: a shape and the parameters that its sources and boundary values depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Uniform:
    """Between two bounds."""

    low: float
    high: float

    def quantile(self, share: Tensor) -> Tensor:
        """The value below which a ``share`` lies."""
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Normal:
    """With mean and standard deviation."""

    mean: float
    std: float

    def quantile(self, share: Tensor) -> Tensor:
        """The value below which a ``share`` lies."""
        return self.mean + self.std * torch.special.ndtri(share)


Distribution = Uniform | Normal


@dataclass(frozen=True)
class Instances:
    """B problems: designs (B, P) and, by name, the parameters (B,) of each."""

    theta: Tensor
    parameters: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.theta)

    def subset(self, index: Tensor | slice) -> Instances:
        """The instances ``index``."""
        return Instances(self.theta[index], {name: values[index] for name, values in self.parameters.items()})

    def to(self, like: Tensor) -> Instances:
        """In the dtype and on the device of ``like``."""
        return Instances(self.theta.to(like), {name: values.to(like) for name, values in self.parameters.items()})


@dataclass(frozen=True)
class Population:
    """What instances are drawn from.

    Attributes:
        shapes: names of the design parameters, which count among an instance's parameters.
        bounds: (P, 2) within which designs are uniform.
        parameters: distribution of each of the others.
    """

    shapes: tuple[str, ...]
    bounds: Tensor
    parameters: Mapping[str, Distribution]

    def draw(self, count: int, seed: int) -> Instances:
        """``count`` independent instances in float64; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(count, len(self.bounds) + len(self.parameters), generator=generator, dtype=torch.float64)
        share = share.clamp(1e-9, 1 - 1e-9)  # a normal number is finite
        own = share[:, len(self.bounds) :].unbind(-1)
        theta = self.bounds[:, 0] + (self.bounds[:, 1] - self.bounds[:, 0]) * share[:, : len(self.bounds)]
        drawn = zip(self.parameters.items(), own, strict=True)
        parameters = {name: distribution.quantile(part) for (name, distribution), part in drawn}
        return self.instances(theta, parameters)

    def instances(self, theta: Tensor, parameters: Mapping[str, Tensor]) -> Instances:
        """Instances of these designs (B, P) and parameters (B,)."""
        return Instances(theta, dict(zip(self.shapes, theta.unbind(-1), strict=True)) | dict(parameters))
