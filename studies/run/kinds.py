"""Kinds of study: how each is read, built and divided into stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright.studies.problem.evolution_setup import EvolutionSetup
from shapewright.studies.problem.operator_setup import build_operator_setup
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.solid_setup import build_solid_setup
from shapewright.studies.run import evolution_run, operator_run
from shapewright.studies.run.learn import Learner
from shapewright.studies.run.pipeline import design_stages
from shapewright.studies.run.solid_run import solid_stages
from shapewright.studies.run.stage import Run, Stage
from shapewright.studies.run.workspace import Workspace, WorkspaceError
from shapewright.studies.schema.base import Section
from shapewright.studies.schema.evolution_study import EvolutionStudyModel
from shapewright.studies.schema.loader import RESOLVED, Study, is_solid, load_study
from shapewright.studies.schema.operator_study import OperatorStudyModel
from shapewright.studies.schema.solid_study import SolidStudyModel
from shapewright.studies.schema.study import StudyModel
from shapewright.studies.schema.yaml_source import read


@dataclass(frozen=True)
class Kind[M: Section]:
    """A kind of study.

    Attributes:
        model: schema of its files.
        build: from the checked study to its setup.
        stages: of a study, each behind those that it needs.
    """

    model: type[M]
    build: Callable[[Study[M]], Any]
    stages: Callable[[Any], tuple[Stage[Any], ...]]


@dataclass(frozen=True)
class OperatorKind[M: OperatorStudyModel | EvolutionStudyModel](Kind[M]):
    """A kind of study that trains an operator for all instances of a problem.

    Attributes:
        learner: how it is trained.
        instances: what its errors are measured on, and against what, in words.
        points: what its errors are listed by, in words.
    """

    learner: Learner[Any]
    instances: str
    points: str


DESIGN = Kind(StudyModel, build_setup, design_stages)
OPERATOR = OperatorKind(
    OperatorStudyModel,
    build_operator_setup,
    operator_run.LEARNER.stages,
    operator_run.LEARNER,
    "unseen instances, against finite elements",
    "points given",
)
EVOLUTION = OperatorKind(
    EvolutionStudyModel,
    EvolutionSetup,
    evolution_run.LEARNER.stages,
    evolution_run.LEARNER,
    "unseen initial data, against the resolved solution",
    "points of the grid along x",
)
SOLID = Kind(SolidStudyModel, build_solid_setup, solid_stages)
"""Told by its geometry, which is CAD."""
KINDS: dict[str, OperatorKind[Any]] = {"operator": OPERATOR, "evolution": EVOLUTION}
"""By the entry ``kind`` of a study file; a design study has none."""


def kind_of(path: Path) -> Kind[Any]:
    """Kind of a study file; a design study where the entry names none that there is.

    Raises:
        StudyError: the file cannot be read.
    """
    data = read(path)[0]
    if is_solid(data):
        return SOLID
    kind = data.get("kind")
    return KINDS.get(kind, DESIGN) if isinstance(kind, str) else DESIGN


def load(path: str | Path, overrides: Sequence[str] = ()) -> Study[Any]:
    """A study of a planar shape or of a solid, as its geometry says; see :func:`loader.load_study`."""
    if isinstance(path, str | Path) and Path(path).is_file() and kind_of(Path(path)) is SOLID:
        return load_study(path, overrides, SolidStudyModel)
    return load_study(path, overrides)


def open_folder(folder: Path) -> tuple[Run[Any], Sequence[Stage[Any]]]:
    """The study of an output folder as a run in it, and its stages; whatever its size, it was run.

    Raises:
        WorkspaceError: that is no output folder.
        StudyError: its study cannot be read.
    """
    path = folder / RESOLVED
    if not path.is_file():
        found = f"no {RESOLVED} in it" if folder.is_dir() else "no folder"
        raise WorkspaceError(f"{folder}: found {found}; expected the output folder of a study, such as out/torsion")
    kind = kind_of(path)
    study = load_study(path, (), kind.model).forced()
    return Run(kind.build(study), Workspace(folder)), kind.stages(study.model)
