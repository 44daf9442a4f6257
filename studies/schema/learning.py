"""Sections of a study file about the surrogate: its network, its training, and its tuning on the way."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from shapewright.geometries.fields.names import coordinates
from shapewright.studies.schema.base import (
    Count,
    Decay,
    GridSize,
    Name,
    NotNegative,
    Positive,
    Section,
    Seed,
    Share,
    fault,
)


class Surrogate(Section):
    """The mollified graph neural operator."""

    weights: Name | None = None
    """Trained weights to use instead of training (*.safetensors), relative to this file."""
    grid: Annotated[tuple[GridSize, GridSize], Strict(False)] = (32, 32)
    """Points of the latent grid along x and y."""
    width: Count = 32
    """Channels of the latent grid."""
    modes: Count | Annotated[tuple[Count, Count], Strict(False)] = 10
    """Fourier modes kept, along both directions or [along x, along y]."""
    layers: Count = 4
    """Fourier layers."""
    mollifier: Literal["bump", "octic", "half_cosine", "quartic", "quadratic"] = "octic"
    """Weight of a neighbour by its distance in encoder and decoder."""
    radius: Count = 2
    """Radius of the neighbourhood, in spacings of the latent grid."""
    hidden: Count = 64
    """Width of the hidden layers of the kernels and the projection."""

    @property
    def modes_per_axis(self) -> tuple[int, int]:
        """Fourier modes along x and y."""
        return (self.modes, self.modes) if isinstance(self.modes, int) else self.modes

    @model_validator(mode="after")
    def _grid_resolves_modes(self) -> Self:
        for axis, modes, points in zip(coordinates(2), self.modes_per_axis, self.grid, strict=True):
            if 2 * modes > points:
                limit = f"at most {points // 2} along {axis}, half the points of the grid {list(self.grid)}"
                raise fault("modes", f"found {modes}; expected {limit}, or a finer grid")
        return self


class ShapeSurrogate(Surrogate):
    """One that knows the shapes of a family."""

    grading: Positive | None = None
    """Length beyond which the latent grid becomes coarse around the part, in the length unit; none for an even grid."""
    contrast: Positive | None = None
    """Factor on the difference of an encoding from that of the reference shape, if any; 10 if designs differ little."""


class FineTuning(Section):
    """A second, shorter training from the best weights of the first, in which functionals may count more."""

    steps: Count = 500
    """Largest number of steps."""
    learning_rate: Positive = 5e-4
    """Largest learning rate of the schedule."""
    objective_weight: NotNegative = 0.1
    """Weight of the objective's value."""
    gradient_weight: NotNegative = 0.5
    """Weight of the objective's derivative along the design directions."""


class ModeShares(Section):
    """Shares of directions that moments keep of a spectral weight, by what its modes stand for, in any dimension."""

    frequencies: Share = 1.0
    """Of each axis of frequencies."""
    channels_in: Share = 1.0
    """Of the channels in."""
    channels_out: Share = 1.0
    """Of the channels out."""


class GradientDescent(Section):
    """The optimizer of the training, and its settings except the learning rate."""

    optimizer: Literal["tensor_galore", "adamw"] = "tensor_galore"
    """Method of gradient descent; tensor_galore is AdamW with moments in a low-rank Tucker subspace of the gradient.

    It is the default on every device. With a quarter of the channels in it takes 74 % less memory than AdamW and 2 %
    more time for a step; test errors are 0.95, 0.98 and 0.94 times AdamW's, means over three seeds on Darcy flow and
    on Navier-Stokes at two viscosities (benchmarks/results/tensor_galore.md).
    """
    rank: (
        Share | ModeShares | Annotated[tuple[Share, ...], Strict(False), Field(min_length=3)]
    ) = ModeShares(channels_in=0.25)
    """Of tensor_galore: shares of a spectral weight's modes, such as {channels_in: 0.25}, which truncates only that.

    That is the default because each truncated mode costs time: 0.25 of the parameters by the spectrum takes 16 % more
    of a step at the same memory. A number is the share of the parameters that each moment, with the factors, may take,
    see rank_rule; a list is the share of each mode's directions, the last two modes being the channels in and out.
    """
    rank_rule: Literal["spectrum", "uniform", "energy"] = "spectrum"
    """Of tensor_galore with a number as rank: spent by the spectrum or alike on all modes, or a share of the energy."""
    update_gap: Count = 200
    """Of tensor_galore: steps between refreshes of the subspaces."""
    scale: Positive | None = None
    """Of tensor_galore: factor on the step from a subspace; by default the root of full size by core size."""
    residual_weight: NotNegative = 1.0
    """Of tensor_galore: weight of the step along what lies outside the subspace; 0 is the published method."""
    moments: Literal["full", "bfloat16", "8bit"] = "full"
    """Of tensor_galore: how moments are stored."""

    @model_validator(mode="after")
    def _moments_are_of_tensor_galore(self) -> Self:
        for key in ("rank", "rank_rule", "update_gap", "scale", "residual_weight", "moments"):
            value = getattr(self, key)
            idle = [GradientDescent.model_fields[key].default, *([_FORMER_RANK] if key == "rank" else [])]
            if self.optimizer == "adamw" and value not in idle:
                shown = value if isinstance(value, str | int | float) else "it"
                raise fault(key, f"found {shown}, which optimizer adamw has no use for; expected tensor_galore")
        return self


_FORMER_RANK = 0.25
"""The default of rank while adamw was the default; resolved.yaml of those days has it beside adamw."""


class TrainingLoop(GradientDescent):
    """What every training takes, whatever it learns; see :class:`loop.TrainerConfig`."""

    steps: Count = 3000
    """Largest number of steps."""
    batch: Count = 8
    """Designs per step."""
    learning_rate: Positive = 2e-3
    """Largest learning rate of the schedule."""
    weight_decay: NotNegative = 1e-5
    """Decoupled weight decay."""
    check_every: Count = 250
    """Steps between evaluations of the held-out error; the best weights are kept."""
    patience: Count = 8
    """Evaluations without improvement after which training stops."""
    checkpoint_every: Count = 250
    """Steps between checkpoints, from which an interrupted training goes on."""
    ema_decay: Decay = 0.0
    """Decay of the running average of the weights, which is evaluated and kept; 0 for the weights themselves."""
    seed: Seed = 0
    """Seed of initial weights and batches."""


class FreshInstances(TrainingLoop):
    """A training that draws its instances anew for each step, so that it cannot overfit: others are the defaults."""

    batch: Count = 8
    """Fresh instances per step."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    patience: Count = 1000
    """Evaluations without improvement after which training stops."""
    checkpoint_every: Count = 100
    """Steps between checkpoints, from which an interrupted training goes on."""
    ema_decay: Decay = 0.995
    """Decay of the running average of the weights, which is evaluated and kept; 0 for the weights themselves."""


class Training(TrainingLoop):
    """How the surrogate learns; each part of the loss is scaled to be comparable with that of the fields."""

    field_gradient_weight: NotNegative = 0.3
    """Weight of the fields' spatial gradients in the loss, beside 1 for the fields."""
    tangent_weight: NotNegative = 0.5
    """Weight of the fields' material derivatives along the design directions."""
    tangent_gradient_weight: NotNegative = 0.0
    """Weight of the spatial gradients of the material derivatives; for objectives that are made of gradients."""
    objective_weight: NotNegative = 0.1
    """Weight of the objective's value."""
    gradient_weight: NotNegative = 0.5
    """Weight of the objective's derivative along the design directions."""
    fine_tuning: FineTuning | None = None
    """For functionals whose location changes by leaps, such as a peak: they are noise until the fields are learnt."""


class Infill(Section):
    """Learning on the way: what trust_region solves joins the training set, and AdamW tunes the surrogate to it."""

    steps: Count = 200
    """Steps of the tuning."""
    learning_rate: Positive = 3e-5
    """Its largest learning rate; far below that of the training, whose end it would otherwise undo."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the new designs in a batch; the others replay the original training set."""
    margin: NotNegative = 0.02
    """Relative growth of a mean held-out error that is tolerated; with more, the tuned weights are thrown away."""
