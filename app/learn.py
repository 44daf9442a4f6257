"""The command that learns all instances of a problem: an operator study, from its file to its errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shapewright.app.outcome import results_go_to
from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.geometries.family.effort import forcing
from shapewright.studies.problem.operator_setup import load_operator_study
from shapewright.studies.problem.surrogates import choose_device
from shapewright.studies.run.operator_run import run_operator_study
from shapewright.studies.run.resolved import claim_folder, write_study
from shapewright.studies.run.workspace import Workspace
from shapewright.surrogate.models.operator_card import OperatorCard


def learn_operator(
    study: Path,
    out: Path | None,
    overrides: list[str],
    device: str,
    seed: int | None,
    overwrite: bool = False,
    force: bool = False,
) -> tuple[OperatorCard, Path]:
    """Run the study in its locked output folder with progress bars; the operator's card, and the folder.

    Raises:
        StudyError, WorkspaceError, and what
            :func:`operator_run.run_operator_study` raises.
    """
    seeds = [f"training.seed={seed}"] if seed is not None else []
    loaded = replace(load_operator_study(study, (*overrides, *seeds)), force=force)
    chosen = choose_device(device)
    workspace = Workspace(out or Path("out") / loaded.model.name)
    with forcing(force), workspace.lock(), ProgressBars() as bars:
        results_go_to(workspace.folder)
        claim_folder(loaded, workspace, overwrite)
        write_study(loaded, workspace, provenance(chosen, loaded.model.training.seed))
        card = run_operator_study(loaded, workspace, chosen, bars)[2]
    return card, workspace.folder


def print_errors(console: Console, card: OperatorCard, folder: Path) -> None:
    """Held-out errors by the size of the input cloud."""
    table = Table("points given", "squared relative error", title="unseen instances, against finite elements")
    for points, error in card.squared_relative_error.items():
        table.add_row(points, f"{error:.3g}")
    console.print(table)
    text = f"trained in {card.seconds:.0f} s; everything is in {folder}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
