"""Stage ``infill``: the surrogate tuned to what the trust region solved, for the next study.

Every batch is drawn from the original training set and from the new designs, which are repeated to make up their
share. That replay, a small learning rate, and a held-out set whose errors must not grow keep what was learnt before.
The optimum itself is not learnt, but the error there chooses the weights. The certificate compares the surrogate that
searched with finite elements, and states errors before and after the tuning.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from shapewright.studies.files import file_key
from shapewright.studies.problem.families import fixed_key
from shapewright.studies.problem.novelty import novelty_of
from shapewright.studies.problem.samples import Samples
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.surrogates import hardware, split_held_out, training_config
from shapewright.studies.run.sample import SAMPLE
from shapewright.studies.run.search import OPTIMIZE
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage
from shapewright.studies.run.train import SURROGATE, Surrogate
from shapewright.studies.run.workspace import Record
from shapewright.studies.schema.learning import Infill
from shapewright.surrogate.models.model_card import Accuracy
from shapewright.surrogate.models.weights_file import half_precision, reference_tensors, write_weights
from shapewright.surrogate.training.accuracy import correlation_with_error, measure
from shapewright.surrogate.training.dataset import Dataset, load_dataset
from shapewright.surrogate.training.derivative_informed import TrainingConfig, train
from shapewright.surrogate.training.loop import Progress

INFILL_WEIGHTS = "surrogate.infill.safetensors"


@dataclass(frozen=True)
class Change:
    """Errors of a surrogate before and after its tuning."""

    before: Accuracy
    after: Accuracy

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Change:
        """Of its plain data."""
        return cls(Accuracy(**data["before"]), Accuracy(**data["after"]))


@dataclass(frozen=True)
class Tuned:
    """Result of a tuning.

    Attributes:
        designs: how many were learnt.
        kept: whether the tuned weights are better at the optimum and no worse on the held-out designs.
        held_out: errors on the held-out designs that measure.
        optimum: errors at the optimum.
    """

    designs: int
    kept: bool
    held_out: Change
    optimum: Change

    def as_data(self) -> dict[str, Any]:
        """Plain data, for record and certificate."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Tuned:
        """Of :meth:`as_data`, from JSON too."""
        pairs = {name: Change.of_data(data[name]) for name in ("held_out", "optimum")}
        return cls(data["designs"], data["kept"], **pairs)


@dataclass(frozen=True)
class Learnt:
    """Solutions of a trust region, data sets of one design each, and which of them is the optimum."""

    solved: Sequence[Dataset]
    optimum: int


def tune(
    surrogate: Surrogate,
    replay: Samples,
    learnt: Learnt,
    path: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Tune a copy of the surrogate; its weights are written to ``path`` if they are kept.

    Args:
        surrogate: as it was during the search.
        replay: original training set and held-out set.
        learnt: what a trust region solved.
        path: of the new weights.
        report: called after every step.
    """
    started = time.monotonic()
    setup, card, config = surrogate.setup, surrogate.card, _config(surrogate.setup)
    choosing, measuring = split_held_out(replay.held_out)
    device = next(surrogate.network.parameters()).device
    network = copy.deepcopy(surrogate.network).float().train().requires_grad_(True)
    there = learnt.solved[learnt.optimum]
    others = [entry for index, entry in enumerate(learnt.solved) if index != learnt.optimum]
    before = measure(network, measuring.to(device)), measure(network, there.to(device))
    if not others:
        return Tuned(0, False, *(Change(error, error) for error in before))
    repeats = math.ceil(config.share * len(replay.designs) / ((1 - config.share) * len(others)))
    mixture = joined([replay.designs, *others * repeats])
    chosen_by = joined([choosing, *[there] * len(choosing)])  # the error there counts half
    train(network, mixture, chosen_by, _training(setup, config), report=report, trained=True)
    network.eval()
    weights = half_precision(network)
    after = measure(network, measuring.to(device)), measure(network, there.to(device))
    kept = after[1].gradient < before[1].gradient and not regressed(before[0], after[0], config.margin)
    if kept:
        new = replace(
            card,
            trained_for=card.trained_for | fixed_key(setup.study),
            training=card.training | {"infill": config.model_dump() | {"designs": len(others)}},
            data_hash=joined([replay.designs, *others]).hash,
            designs=card.designs + len(others),
            held_out=after[0],
            correlation=correlation_with_error(novelty_of(setup, network, card.box), measuring),
            hardware=hardware(device.type),
            seconds=round(card.seconds + time.monotonic() - started, 1),
        )
        tensors = reference_tensors(setup.shape_map.mesh, network.operator.grid)
        write_weights(path, weights | tensors, new)
    return Tuned(len(others), kept, *map(Change, before, after))


def _config(setup: Setup) -> Infill:
    config = setup.study.model.infill
    if config is None:
        raise setup.study.error("infill", "nothing", "the section infill")
    return config


def _training(setup: Setup, config: Infill) -> TrainingConfig:
    """The study's training, by AdamW and as short as infill asks for."""
    return replace(
        training_config(setup),
        optimizer="adamw",
        steps=config.steps,
        learning_rate=config.learning_rate,
        check_every=max(1, config.steps // 5),
        patience=config.steps,
    )


def regressed(before: Accuracy, after: Accuracy, margin: float) -> bool:
    """Whether a mean held-out error, of a field, the objective or its gradient, has grown by more than the margin."""
    pairs = [(getattr(before, part), getattr(after, part)) for part in ("objective", "gradient")]
    pairs += ((before.field[c], after.field[c]) for c in before.field)
    return not all(new <= (1 + margin) * old for old, new in pairs)  # errors that are not numbers have grown


def joined(parts: Sequence[Dataset]) -> Dataset:
    """One data set of several that have as many tangents each."""
    return Dataset(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Dataset)))

def _inputs(run: Run[Setup], results: Results) -> Inputs:
    study, samples, found = run.setup.study.model, results[SAMPLE], results[OPTIMIZE]
    return {
        "surrogate": file_key(results[SURROGATE].path),
        "samples": [samples.designs.hash, samples.held_out.hash],
        "solutions": list(found.solved),
        "parameters": found.theta.tolist(),
        "infill": _config(run.setup).model_dump(),
        "training": study.training.model_dump(),
    }


def _make(run: Run[Setup], results: Results, key: str) -> Output:
    theta, steps = results[OPTIMIZE].theta, _config(run.setup).steps
    solved = [load_dataset(run.workspace.path(name)) for name in results[OPTIMIZE].solved]
    nearest = min(range(len(solved)), key=lambda k: float((solved[k].theta[0] - theta).norm()))
    target = run.workspace.path(INFILL_WEIGHTS)

    def report(p: Progress) -> None:
        run.report("infill", p.step, steps, f"loss {p.loss:.4f}")

    surrogate = results[SURROGATE]
    assert isinstance(surrogate, Surrogate)  # the schema refuses infill beside an operator
    tuned = tune(surrogate, results[SAMPLE], Learnt(solved, nearest), target, report)
    if not tuned.kept:
        target.unlink(missing_ok=True)  # of an earlier tuning
    change = tuned.held_out
    errors = f"held-out gradient error {change.before.gradient:.4f} before, {change.after.gradient:.4f} after"
    run.report("infill", steps, steps, f"{errors}; {'kept' if tuned.kept else 'not kept'}")
    return Output((INFILL_WEIGHTS,) if tuned.kept else (), {"result": tuned.as_data()})


def _read(run: Run[Setup], results: Results, record: Record | None) -> Tuned:
    assert record is not None
    return Tuned.of_data(record.content["result"])


INFILL = Stage("infill", (SAMPLE, SURROGATE, OPTIMIZE), _inputs, _make, _read)
