"""Cards of trained networks: what they were trained for and on, and their errors on what they have not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self, cast

from shapewright.surrogate.models.weights_checks import box_flaw, kind_flaw, numbers_flaw

Kinds = Mapping[str, type | tuple[type, ...]]
"""Entry of a card -> allowed types."""


class Card:
    """What is stored with weights, as plain data.

    Attributes:
        OWNER: what such a card describes, in messages.
        KINDS: its entries.
        trained_for: everything the network depends on.
    """

    OWNER: ClassVar[str]
    KINDS: ClassVar[Kinds]
    trained_for: dict[str, Any]

    def as_json(self) -> str:
        """Indented JSON."""
        return json.dumps(asdict(cast(Any, self)), indent=2)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """The card behind plain data.

        Raises:
            ValueError: an entry is missing, unknown or of the wrong type.
        """
        if flaw := kind_flaw(content, cls.KINDS) or cls.flaw(content):
            raise ValueError(flaw)
        return cls(**content)

    @classmethod
    def flaw(cls, content: Mapping[str, Any]) -> str | None:
        """What is wrong inside entries of the right types, if anything is; of a card that adds no check, nothing."""
        return None


@dataclass(frozen=True)
class Accuracy:
    """Means over designs.

    Attributes:
        field: component -> relative L2 error of the field.
        objective: relative error of the first functional.
        gradient: relative error |g - g_fem| / |g_fem| of its design gradient, in parameters scaled to their bounds.
        cosine: of the angle between g and g_fem.
        designs: how many.
    """

    field: dict[str, float]
    objective: float
    gradient: float
    cosine: float
    designs: int


@dataclass(frozen=True)
class ModelCard(Card):
    """Of a design surrogate.

    Attributes:
        trained_for: family, physics, mesh and architecture.
        training: configuration of the training.
        data_hash: of the training set.
        designs: number of training designs.
        held_out: errors on designs not trained on.
        hardware: machine and library versions.
        seconds: wall time of the training.
        box: parameter -> [lower, upper] of the training designs.
        correlation: of the distance from the training designs with the errors, and of how many designs it was
            measured: ``designs``, ``field_error``, ``gradient_error``; None if it was not measured.
    """

    trained_for: dict[str, Any]
    training: dict[str, Any]
    data_hash: str
    designs: int
    held_out: Accuracy
    hardware: dict[str, str]
    seconds: float
    box: dict[str, list[float]]
    correlation: dict[str, float] | None = None

    OWNER: ClassVar[str] = "a design surrogate"
    KINDS: ClassVar[Kinds] = {
        "trained_for": dict,
        "training": dict,
        "data_hash": str,
        "designs": int,
        "held_out": dict,
        "hardware": dict,
        "seconds": (int, float),
        "box": dict,
        "correlation": (dict, type(None)),
    }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """The card behind plain data; the first version had no correlation."""
        card = super().of({"correlation": None} | dict(content))
        return replace(card, held_out=Accuracy(**content["held_out"]))

    @classmethod
    def flaw(cls, content: Mapping[str, Any]) -> str | None:
        """Of the errors, the box and the correlation."""
        return (
            kind_flaw(content["held_out"], ACCURACY_KINDS)
            or numbers_flaw("field error", content["held_out"]["field"])
            or box_flaw(content["box"])
            or numbers_flaw("correlation", content["correlation"] or {})
        )


@dataclass(frozen=True)
class OperatorCard(Card):
    """Of an operator for all instances of a problem.

    Attributes:
        trained_for: everything the network depends on.
        training: configuration of the training.
        squared_relative_error: points of the input cloud -> mean over unseen instances.
        hardware: machine and library versions.
        seconds: wall time of the training.
    """

    trained_for: dict[str, Any]
    training: dict[str, Any]
    squared_relative_error: dict[str, float]
    hardware: dict[str, str]
    seconds: float

    OWNER: ClassVar[str] = "an operator"
    KINDS: ClassVar[Kinds] = {
        "trained_for": dict,
        "training": dict,
        "squared_relative_error": dict,
        "hardware": dict,
        "seconds": (int, float),
    }

    @classmethod
    def flaw(cls, content: Mapping[str, Any]) -> str | None:
        """Of the errors."""
        return numbers_flaw("error", content["squared_relative_error"])


ACCURACY_KINDS: Kinds = {
    "field": dict,
    "objective": (int, float),
    "gradient": (int, float),
    "cosine": (int, float),
    "designs": int,
}
