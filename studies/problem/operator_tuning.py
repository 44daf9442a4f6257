"""Tuning of the operator that a study names to the study's own shapes and conditions; no solution is learnt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.operators import StudyOperator
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.shape_models import OperatorModel
from shapewright.surrogate.models.shape_descriptors import describe, limits
from shapewright.surrogate.models.shape_operator import EXTENT
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard, save_shape_operator, sizes_of
from shapewright.surrogate.models.shapes import Shapes, dimensionless
from shapewright.surrogate.models.sparse_solution import finite_element_gain
from shapewright.surrogate.training.loop import Progress, TrainerConfig
from shapewright.surrogate.training.shape_training import ReferenceProblems, energy_errors
from shapewright.surrogate.training.shape_tuning import tune_on_energy

STEPS, BATCH, RATE = 200, 8, 5e-4
"""Of a tuning where the study has no section `training`; the rate is a sixth of that of the training from nothing."""
POOL = 512
"""Designs that batches are drawn from."""
HELD_OUT = 32
"""Designs that only measure the error."""


@dataclass(frozen=True)
class Problems:
    """Dimensionless problems of designs of a study.

    Attributes:
        model: the operator on the study.
        designs: (S, P).
    """

    model: OperatorModel
    designs: Tensor

    def of(self, designs: Tensor) -> Shapes:
        """In single precision, for designs (B, P)."""
        nodes = self.model.setup.shape_map.nodes(designs)
        return dimensionless(*self.model.problem.shapes(nodes))[0].to(torch.zeros(0))

    def batch(self, step: int, size: int, seed: int) -> Shapes:
        """``size`` designs drawn at random, the same ones whenever a step is done again."""
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + step)
        return self.of(self.designs[torch.randint(len(self.designs), (size,), generator=generator)])


def within_box(model: OperatorModel, designs: Tensor) -> Tensor:
    """The designs (B, P) whose domains lie in the operator's box."""
    nodes = model.setup.shape_map.nodes(designs)
    found = dimensionless(*model.problem.shapes(nodes))[0].nodes
    return designs[found.abs().amax((1, 2)) < EXTENT]


def tuning_config(setup: Setup) -> TrainerConfig:
    """Of the study's section ``training``, or the defaults of a tuning."""
    given = setup.study.model.training
    if "training" not in setup.study.model.model_fields_set:
        return TrainerConfig(steps=STEPS, batch=BATCH, learning_rate=RATE, check_every=STEPS // 8, seed=given.seed)
    return TrainerConfig(
        steps=given.steps, batch=given.batch, learning_rate=given.learning_rate, weight_decay=given.weight_decay,
        check_every=given.check_every, patience=given.patience, checkpoint_every=given.checkpoint_every,
        ema_decay=given.ema_decay, seed=given.seed,
    )  # fmt: skip


def tune_operator(
    operator: StudyOperator, path: Path, report: Callable[[Progress], None] = lambda progress: None
) -> ShapeOperatorCard:
    """Tune the operator's network in place and write it to ``path`` with its card; goes on from a checkpoint.

    Raises:
        StudyError: it is no operator that is trained by energy.
        SamplingError: too few designs within the bounds are valid shapes.
    """
    setup, model, began = operator.setup, operator.model, time.monotonic()
    if not isinstance(model, OperatorModel) or model.network is None:
        found = f"{operator.name}, which is not trained by energy"
        raise setup.study.error("model.operator", found, "poisson_2d, elasticity_2d or a file of such an operator")
    config = tuning_config(setup)
    network = model.network.cpu().requires_grad_(True).train()
    problems = Problems(model, within_box(model, draw_designs(setup, POOL, config.seed)))
    apart = within_box(model, draw_designs(setup, HELD_OUT, config.seed + 1))
    shapes = problems.of(apart)
    reference = ReferenceProblems(shapes, finite_element_gain(network.physics, shapes.to(apart)))
    before = energy_errors(network, reference)
    checkpoint = path.with_name(f"{path.name}.checkpoint")
    tune_on_energy(
        network, lambda step: problems.batch(step, config.batch, config.seed), reference, config, checkpoint, report
    )
    network.eval().requires_grad_(False)
    after = energy_errors(network, reference)
    own = model.problem.shapes(setup.shape_map.nodes(setup.initial[None]))[0].parameters[0].tolist()
    card = ShapeOperatorCard(
        trained_for={"operator": operator.name, "sizes": sizes_of(network.config)},
        training=asdict(config) | {"from": operator.path.name, "seconds of that": operator.card.seconds},
        population={"trained": {setup.study.model.name: len(problems.designs)}, "meshes": 1, "unseen": {}},
        limits=limits(describe(problems.of(problems.designs[:128]))),
        parameters={name: [value, value] for name, value in zip(operator.card.parameters, own, strict=True)},
        held_out={"before": _summary(before), "study": _summary(after)},
        hardware=hardware("cpu"),
        seconds=round(time.monotonic() - began, 1),
        solves=operator.card.solves,
    )
    save_shape_operator(path, network, card)
    return card


def _summary(errors: Tensor) -> dict[str, float]:
    return {"mean": float(errors.mean()), "worst": float(errors.max()), "problems": len(errors)}
