"""Errors of a surrogate on designs it has not seen: fields, functionals and design gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geometries.integration import nodal_weights
from surrogate.dataset import Dataset
from surrogate.design_surrogate import DesignSurrogate


@dataclass(frozen=True)
class Accuracy:
    """Means over designs.

    Attributes:
        field: component -> relative L2 error of the field.
        objective: relative error of the first functional.
        gradient: relative error |g - g_fem| / |g_fem| of its design gradient, in parameters scaled to their bounds.
        cosine: of the angle between g and g_fem.
        designs: how many were judged.
    """

    field: dict[str, float]
    objective: float
    gradient: float
    cosine: float
    designs: int


def measure(surrogate: DesignSurrogate, data: Dataset, batch: int = 16) -> Accuracy:
    """Compare with the solver's fields, values and adjoint gradients."""
    like = next(surrogate.parameters())
    mesh, bounds = surrogate.shape_map.mesh, surrogate.shape_map.family.bounds.to(like)
    span = bounds[:, 1] - bounds[:, 0]
    field, objective, gradient, cosine = [], [], [], []
    for start in range(0, len(data), batch):
        part = data.subset(slice(start, start + batch))
        theta = part.theta.to(like)
        with torch.no_grad():
            nodes, predicted = surrogate.fields(theta)
            weights = nodal_weights(mesh, nodes)
        truth = part.solution.to(like)
        field.append(field_errors(predicted, truth, weights))
        values, slopes = surrogate.value_and_gradient(theta)
        objective.append(((values[:, 0] - part.values[:, 0].to(like)) / part.values[:, 0].to(like)).abs())
        ours, exact = slopes[:, 0] * span, part.gradients[:, 0].to(like) * span
        gradient.append((ours - exact).norm(dim=-1) / exact.norm(dim=-1))
        cosine.append(torch.cosine_similarity(ours, exact, dim=-1))
    mean = torch.cat(field).mean(0)
    return Accuracy(
        field={name: float(mean[index]) for index, name in enumerate(surrogate.space.components)},
        objective=float(torch.cat(objective).mean()),
        gradient=float(torch.cat(gradient).mean()),
        cosine=float(torch.cat(cosine).mean()),
        designs=len(data),
    )


def field_errors(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """(B, c) relative L2 errors of nodal fields (B, N, c) under nodal quadrature weights (B, N)."""
    difference = ((predicted - truth) ** 2 * weights[..., None]).sum(1)
    return torch.sqrt(difference / (truth**2 * weights[..., None]).sum(1))
