"""The command that trains an operator for all instances of a problem, from its study to its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shapewright.app.options import Options
from shapewright.app.outcome import results_go_to
from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.geometries.family.effort import forcing
from shapewright.studies.problem.surrogates import choose_device
from shapewright.studies.run.kinds import OPERATOR, OperatorKind, kind_of
from shapewright.studies.run.resolved import claim_folder, write_study
from shapewright.studies.run.stage import Run
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.model_card import OperatorCard


def learn_operator(options: Options) -> tuple[OperatorCard, Path, OperatorKind[Any]]:
    """Run the study in its locked output folder with progress bars; the operator's card, the folder, the kind.

    Raises:
        StudyError, WorkspaceError, and what :meth:`learn.Learner.learn` raises.
    """
    seeds = [f"training.seed={options.seed}"] if options.seed is not None else []
    kind = kind_of(options.study)
    if not isinstance(kind, OperatorKind):
        kind = OPERATOR  # whose schema refuses a design study by name
    overrides = (*(options.overrides or ()), *seeds)
    study = load_study(options.study, overrides, kind.model).forced(options.force)
    device = choose_device(options.device)
    workspace = Workspace(options.out or Path("out") / study.model.name)
    with forcing(options.force), workspace.lock(), ProgressBars() as bars:
        results_go_to(workspace.folder)
        claim_folder(study, workspace, options.overwrite)
        write_study(study, workspace, provenance(device, study.model.training.seed))
        run = Run(kind.build(study), workspace, device, bars)
        learnt = kind.learner.learn(run)
    return learnt.card, workspace.folder, kind


def print_errors(console: Console, card: OperatorCard, folder: Path, kind: OperatorKind[Any]) -> None:
    """Held-out errors by the number of points."""
    table = Table(kind.points, "squared relative error", title=kind.instances)
    for points, error in card.squared_relative_error.items():
        table.add_row(points, f"{error:.3g}")
    console.print(table)
    text = f"trained in {card.seconds:.0f} s; everything is in {folder}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
