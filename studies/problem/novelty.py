"""How far a design is from what the surrogate of a study has seen; see :mod:`models.novelty`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.models.design_surrogate import DesignSurrogate
from shapewright.surrogate.models.novelty import Novelty, novelty_over
from shapewright.surrogate.training.accuracy import correlation_with_error

__all__ = [
    "Novelty",
    "correlation_with_error",
    "describe_novelty",
    "designs_of_box",
    "novelty_of",
    "novelty_over",
]

REFERENCE = 160
"""Designs that the statistics are of; half as many further ones say what distances are typical."""


def designs_of_box(setup: Setup, box: Mapping[str, Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Reference designs and further ones, drawn from the training ``box`` (parameter -> bounds) as its designs were."""
    bounds = {p.name: box.get(p.name, (p.lower, p.upper)) for p in setup.family.parameters}
    parameters = tuple(
        replace(p, lower=bounds[p.name][0], upper=bounds[p.name][1], default=float(np.mean(bounds[p.name])))
        for p in setup.family.parameters
    )
    trained = replace(setup, family=replace(setup.family, parameters=parameters))
    seed = setup.study.model.sampling.seed
    return draw_designs(trained, REFERENCE, seed), draw_designs(trained, REFERENCE // 2, seed + 1)


def novelty_of(setup: Setup, surrogate: DesignSurrogate, box: Mapping[str, Sequence[float]]) -> Novelty:
    """Statistics over designs drawn from the training ``box``, as the training set was."""
    return novelty_over(surrogate, *designs_of_box(setup, box))


def describe_novelty(known: Novelty, theta: Tensor) -> dict[str, Any]:
    """What the certificate says of a design (P,): its distance and how usual that is."""
    distance = float(known.distance(theta[None]).detach()[0])
    return {
        "distance": distance,
        "typical_median": float(known.typical.median()),
        "typical_95_percent": float(known.typical.quantile(0.95)),
        "farther_in_box": float((known.typical > distance).double().mean()),
    }
