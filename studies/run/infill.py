"""Learning on the way: what the trust region solved joins the training set, and the surrogate is tuned to it.

Every batch is drawn from the original training set and from the new designs, which are repeated to make up their
share; that replay, a small learning rate, and a held-out set that must not do worse keep it from forgetting. The
optimum itself is not learnt, but the error there chooses the weights: the certificate judges the surrogate that
searched, and states beside it what the tuned one would say. The tuned weights serve the next study.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from shapewright.studies.problem.novelty import novelty_of
from shapewright.studies.problem.setup import Setup, fixed_key
from shapewright.studies.problem.surrogates import hardware, split_held_out, training_config
from shapewright.studies.schema.learning import Infill
from shapewright.surrogate.models.design_surrogate import DesignSurrogate
from shapewright.surrogate.models.model_card import (
    Accuracy,
    ModelCard,
    half_precision,
    reference_tensors,
    save_surrogate,
)
from shapewright.surrogate.training.accuracy import correlation_with_error, measure
from shapewright.surrogate.training.dataset import Dataset
from shapewright.surrogate.training.derivative_informed import train
from shapewright.surrogate.training.loop import Progress


@dataclass(frozen=True)
class Tuned:
    """How a tuning went.

    Attributes:
        designs: how many were learnt.
        held_out: errors on the held-out designs that judge, before and after.
        optimum: errors at the optimum, before and after.
        kept: whether the tuned weights are better at the optimum and no worse on the held-out designs.
    """

    designs: int
    held_out: tuple[Accuracy, Accuracy]
    optimum: tuple[Accuracy, Accuracy]
    kept: bool

    def as_data(self) -> dict[str, Any]:
        """For the certificate."""
        pairs = {"held_out": self.held_out, "optimum": self.optimum}
        named = {name: {"before": asdict(p[0]), "after": asdict(p[1])} for name, p in pairs.items()}
        return {"designs": self.designs, "kept": self.kept, **named}


def tune(
    setup: Setup,
    surrogate: DesignSurrogate,
    card: ModelCard,
    replay: tuple[Dataset, Dataset],
    solved: Sequence[Dataset],
    optimum: int,
    config: Infill,
    path: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Tune a copy of the surrogate; its weights are written to ``path`` if they are kept.

    Args:
        setup: study.
        surrogate: as it was during the search.
        card: of it.
        replay: original training set and held-out set.
        solved: data sets of one design each, from the trust region.
        optimum: which of them is the optimum; it is not learnt.
        config: how.
        path: of the new weights.
        report: called after every step.
    """
    started = time.monotonic()
    data, (choosing, judging) = replay[0], split_held_out(replay[1])
    device = next(surrogate.parameters()).device
    network = copy.deepcopy(surrogate).float().train().requires_grad_(True)
    there = solved[optimum]
    learnt = [entry for index, entry in enumerate(solved) if index != optimum]
    before = measure(network, judging.to(device)), measure(network, there.to(device))
    if not learnt:
        return Tuned(0, (before[0],) * 2, (before[1],) * 2, False)
    repeats = math.ceil(config.share * len(data) / ((1 - config.share) * len(learnt)))
    mixture = joined([data, *learnt * repeats])
    chosen_by = joined([choosing, *[there] * len(choosing)])  # the error there counts half
    looks = max(1, config.steps // 5)
    how = replace(
        training_config(setup),
        optimizer="adamw",
        steps=config.steps,
        learning_rate=config.learning_rate,
        check_every=looks,
        patience=config.steps,
    )
    train(network, mixture, chosen_by, how, report=report, trained=True)
    network.eval()
    weights = half_precision(network)
    after = measure(network, judging.to(device)), measure(network, there.to(device))
    kept = after[1].gradient < before[1].gradient and not regressed(before[0], after[0], config.margin)
    tuned = Tuned(len(learnt), (before[0], after[0]), (before[1], after[1]), kept)
    if kept:
        new = replace(
            card,
            trained_for=card.trained_for | fixed_key(setup.study),
            training=card.training | {"infill": config.model_dump() | {"designs": len(learnt)}},
            data_hash=joined([data, *learnt]).hash,
            designs=card.designs + len(learnt),
            held_out=after[0],
            correlation=correlation_with_error(novelty_of(setup, network, card.box), judging),
            hardware=hardware(device.type),
            seconds=round(card.seconds + time.monotonic() - started, 1),
        )
        tensors = reference_tensors(setup.shape_map.mesh, network.operator.grid)
        save_surrogate(path, weights | tensors, new)
    return tuned


def regressed(before: Accuracy, after: Accuracy, margin: float) -> bool:
    """Whether a mean held-out error, of a field, the objective or its gradient, has grown by more than the margin."""
    pairs = [(getattr(before, part), getattr(after, part)) for part in ("objective", "gradient")]
    pairs += ((before.field[c], after.field[c]) for c in before.field)
    return not all(new <= (1 + margin) * old for old, new in pairs)  # errors that are not numbers have grown


def joined(parts: Sequence[Dataset]) -> Dataset:
    """One data set of several that have as many tangents each."""
    return Dataset(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Dataset)))
