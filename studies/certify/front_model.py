"""Content of ``front.json``: the designs of a front as frozen models, with what is known of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from shapewright.studies.certify.model import Ending, faults
from shapewright.studies.certify.verdict_model import Entry, Number
from shapewright.studies.files import write_json

VERSION: Literal[1] = 1
FRONT = "front.json"


class FrontError(RuntimeError):
    """A file holds no front of this version; the text names file and entry."""


class FrontObjective(Entry):
    """One of the two objectives."""

    name: str
    sense: Literal["minimize", "maximize"]
    unit: str
    best: Number
    """At its own end of the front."""
    worst: Number
    """At the other end."""

    @property
    def sign(self) -> int:
        """Factor that makes it a minimization."""
        return 1 if self.sense == "minimize" else -1


class PointLimit(Entry):
    """The limit under which the other objective was optimized."""

    objective: str
    value: float


class FrontPoint(Entry):
    """A design of the front."""

    number: int
    """From 1, the optimum of the first objective alone, along the front."""
    folder: str
    """With its CAD, its certificate and its study, relative to that of the front."""
    parameters: dict[str, float]
    objectives: tuple[Number, Number]
    """By finite elements, evaluated as ``evaluated`` of the front says."""
    limit: PointLimit | None
    """Null at the two ends."""
    dominated_by: int | None
    """Number of a design that is better or as good in both objectives; null where there is none."""
    certified: bool
    """Whether it has a whole certificate."""
    accepted: bool
    """By its certificate; without one, by KKT residual and constraints on the moved mesh and by the CAD read back."""
    verdict: str
    """In a sentence."""
    kkt_residual: Number
    exit: Ending
    """Why its search ended."""
    search_solves: dict[str, int]
    """Finite-element solves of its search by kind; those of the designs before that it knows are not among them."""
    certificate_solves: dict[str, int]
    seconds: float
    """Of search, export and certificate."""


class FrontResult(Entry):
    """What ``front.json`` holds."""

    version: Literal[1]
    study: str
    accepted: bool
    """Whether every design is accepted and none is dominated."""
    verdict: str
    """In a sentence."""
    objectives: tuple[FrontObjective, FrontObjective]
    evaluated: Literal["extrapolated", "moved mesh"]
    """Extrapolated from fresh meshes of the STEP files, where all designs have a whole certificate; else on the mesh
    that the optimizer moves."""
    points: tuple[FrontPoint, ...]
    hypervolume: Number
    """Area that the designs dominate up to ``reference``, each objective scaled to 0 at its best and 1 at its worst."""
    reference: tuple[float, float]
    """In these coordinates."""
    search_solves: dict[str, int]
    certificate_solves: dict[str, int]

    def __str__(self) -> str:
        """What a person reads first: the verdict, and a line for each design."""
        names = " | ".join(f"{o.sense} {o.name} [{o.unit}]" for o in self.objectives)
        lines = [f"{self.study}: {self.verdict}", f"hypervolume {_shown(self.hypervolume)} | {names}"]
        for point in self.points:
            values = " | ".join(map(_shown, point.objectives))
            told = "accepted" if point.accepted else "not accepted"
            beaten = "" if point.dominated_by is None else f", dominated by {point.dominated_by}"
            lines.append(f"{point.number:3d} | {values} | {told}{beaten}")
        return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "no number" if value is None else f"{value:.6g}"


def write_front(path: Path, front: FrontResult) -> None:
    """Write it as JSON, whole or not at all."""
    write_json(path, front.model_dump(mode="json"))


def read_front(path: Path | str) -> FrontResult:
    """Read and check a front: the file, or that of an output folder.

    Raises:
        FrontError: there is none, or it does not follow the schema; names the entries that do not.
    """
    path = Path(path)
    path = path / FRONT if path.is_dir() else path
    try:
        return FrontResult.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise FrontError(f"{path}: there is no such file") from None
    except ValidationError as error:
        raise FrontError(f"{path}: {faults(error)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FrontError(f"{path}: is no JSON ({error})") from error
