"""Errors of a surrogate on designs it has not seen: fields, functionals and design gradients."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.surrogate.models.design_surrogate import DesignSurrogate
from shapewright.surrogate.models.model_card import Accuracy
from shapewright.surrogate.models.novelty import Novelty
from shapewright.surrogate.training.dataset import Dataset

FEWEST = 16
"""Held-out designs below which no correlation is measured."""
MOST = 64
"""Held-out designs at most that the correlation is of."""


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



def correlation_with_error(known: Novelty, held_out: Dataset) -> dict[str, float] | None:
    """Spearman's rank correlation of the distance with the true errors of held-out designs; None of too few."""
    if len(held_out) < FEWEST:
        return None
    held_out = held_out.subset(slice(0, MOST)).to(known.mean.device)
    with torch.no_grad():
        distances = known.distance(held_out.theta).cpu().numpy()
    errors = [measure(known.surrogate, held_out.subset(slice(k, k + 1))) for k in range(len(held_out))]
    field = [float(np.mean(list(error.field.values()))) for error in errors]
    return {
        "designs": len(held_out),
        "field_error": float(spearmanr(distances, field).statistic),
        "gradient_error": float(spearmanr(distances, [error.gradient for error in errors]).statistic),
    }
