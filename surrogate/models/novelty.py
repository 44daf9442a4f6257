"""How far a design is from what a surrogate has seen: Mahalanobis distance of its latent features.

Features are the encoder's output, after the Fourier blocks, averaged over a coarse grid of cells; their mean and
covariance are those over designs of the training box, reduced to the principal components that hold almost all of the
spread (P. C. Mahalanobis 1936; for the features of a network K. Lee et al., NeurIPS 31 (2018) 7167). No solution is
needed for it, so it can be told of weights that came without their training data. Whether it means anything is
measured: by its rank correlation with the true error on held-out designs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from shapewright.surrogate.models.design_surrogate import DesignSurrogate

CELLS = 4
"""Cells of the coarse grid along an axis."""
SPREAD = 0.99
"""Share of the singular values that the components keep."""


@dataclass(frozen=True)
class Novelty:
    """Statistics of the latent features of a surrogate, in single precision.

    Attributes:
        surrogate: whose encoder it is.
        mean: (K,) of the features over the reference designs.
        whitening: (K, k) to components of unit variance.
        typical: (S,) distances of further designs of the same box.
    """

    surrogate: DesignSurrogate
    mean: Tensor
    whitening: Tensor
    typical: Tensor

    def distance(self, theta: Tensor) -> Tensor:
        """(B,) distances of designs (B, P), root mean square over the components; differentiable; about 1 is usual.

        Raises:
            OutsideGridError: a design leaves the latent grid.
        """
        scaled = (_features(self.surrogate, theta) - self.mean) @ self.whitening
        return scaled.square().mean(-1).sqrt()


@torch.no_grad()
def novelty_over(surrogate: DesignSurrogate, reference: Tensor, others: Tensor) -> Novelty:
    """Statistics over ``reference`` designs (S, P) of the training box; ``others`` (T, P) say what is typical."""
    if next(surrogate.parameters()).dtype != torch.float32:
        surrogate = copy.deepcopy(surrogate).float()
    features = _features(surrogate, reference)
    mean = features.mean(0)
    _, singular, axes = torch.linalg.svd(features - mean, full_matrices=False)
    kept = int((singular.cumsum(0) / singular.sum() < SPREAD).sum()) + 1
    whitening = axes[:kept].T * (len(features) ** 0.5 / singular[:kept])
    found = Novelty(surrogate, mean, whitening, torch.zeros(0))
    return replace(found, typical=found.distance(others))


def _features(surrogate: DesignSurrogate, theta: Tensor) -> Tensor:
    """(B, K) latent features of designs (B, P)."""
    like = next(surrogate.parameters())
    parts = []
    for part in theta.to(like).split(16):
        latent = surrogate.encode(*surrogate.clouds(surrogate.shape_map.nodes(part))).movedim(-1, 1)
        parts.append(adaptive_avg_pool2d(latent, CELLS).flatten(1))
    return torch.cat(parts)
