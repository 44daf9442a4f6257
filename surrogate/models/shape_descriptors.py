"""Numbers that say what kind of problem on what kind of domain it is: how far a study is from what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shapewright.surrogate.models.shapes import Shapes

DESCRIPTORS = (
    "aspect",
    "perimeter",
    "extent",
    "held share of the boundary",
    "loaded share of the boundary",
    "cooled share of the boundary",
)


def describe(shapes: Shapes) -> Tensor:
    """(B, descriptors) of dimensionless shapes.

    The aspect is the ratio of the principal radii of gyration, the perimeter that over the circle's of equal area, the
    extent the largest coordinate in radii of gyration.
    """
    inside, around = shapes.cell_points(2), shapes.facet_points(2)
    area, length = inside.weights.sum((1, 2)), around.weights.sum((1, 2))
    moments = torch.einsum("beq,beqi,beqj->bij", inside.weights, inside.points, inside.points)
    middle, half = (moments[:, 0, 0] + moments[:, 1, 1]) / 2, (moments[:, 0, 0] - moments[:, 1, 1]) / 2
    radius = (half.square() + moments[:, 0, 1].square()).sqrt()
    aspect = ((middle + radius) / (middle - radius)).sqrt()

    def share(flag: Tensor) -> Tensor:
        return (around.weights.sum(-1) * flag).sum(-1) / length

    held = shapes.prescribed.mean(-1)
    loaded = ((shapes.flux.abs().amax((-1, -2)) > 0) & (shapes.robin == 0)).to(held)
    cooled = (shapes.robin > 0).to(held)
    extent = (shapes.nodes.abs().amax(-1)).amax(-1)
    shares = [share(flag) for flag in (held, loaded, cooled)]
    return torch.stack([aspect, length / (2 * (torch.pi * area).sqrt()), extent, *shares], -1)


def limits(descriptors: Tensor, tail: float = 0.005) -> dict[str, list[float]]:
    """Name -> [low, high] that hold all but the tails of a population's (B, descriptors).

    A disc has the least aspect and perimeter, and is as easy as what surrounds it.
    """
    low, high = (descriptors.double().quantile(q, 0).tolist() for q in (tail, 1 - tail))
    found = {name: [a, b] for name, a, b in zip(DESCRIPTORS, low, high, strict=True)}
    return found | {name: [1.0, found[name][1]] for name in ("aspect", "perimeter")}


def novelty(descriptors: Tensor, known: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Name -> by how much of the population's range one problem (descriptors,) lies outside it; zero inside."""
    outside = {}
    for name, value in zip(DESCRIPTORS, descriptors.tolist(), strict=True):
        low, high = known[name]
        outside[name] = max(0.0, low - value, value - high) / max(high - low, 1e-3)
    return outside
