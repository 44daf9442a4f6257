"""Commands on studies of solids: run, check, verify, and what they print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shapewright.app.options import Options
from shapewright.app.outcome import results_go_to
from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.geometries.family.effort import forcing
from shapewright.studies.certify.solid_model import SolidCertificate
from shapewright.studies.problem.solid_setup import SolidSetup, build_solid_setup
from shapewright.studies.run.kinds import SOLID, kind_of
from shapewright.studies.run.resolved import claim_folder, write_study
from shapewright.studies.run.solid_check import SolidCheck, check_solid
from shapewright.studies.run.solid_run import STAGES, certificate_of_solid
from shapewright.studies.run.stage import Report, Run, Stage, run_stages, silent
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import Study, load_study
from shapewright.studies.schema.solid_study import SolidStudyModel
from shapewright.studies.schema.yaml_source import StudyError


@dataclass(frozen=True)
class FinishedSolid:
    """Certificate of a study of a solid, its folder, and its report."""

    certificate: SolidCertificate
    folder: Path
    report: Path


def is_solid_study(path: Path) -> bool:
    """Whether a study file is one of a solid; a file that cannot be read is none."""
    try:
        return kind_of(path) is SOLID
    except StudyError:
        return False


def load_solid(path: Path, overrides: list[str] | None) -> Study[SolidStudyModel]:
    """The study; StudyError as of :func:`load_study`."""
    return load_study(path, overrides or [], SolidStudyModel)


@contextmanager
def opened_solid(
    study: Study[SolidStudyModel], workspace: Workspace, report: Report, overwrite: bool
) -> Iterator[Run[SolidSetup]]:
    """A study in its locked output folder, its stages ready to run."""
    with forcing(study.force), workspace.lock():
        claim_folder(study, workspace, overwrite)
        report("read CAD", 0, 1, study.model.geometry.cad)
        setup = build_solid_setup(study)
        write_study(study, workspace, provenance("cpu", 0))
        mesh = setup.shape_map.mesh
        text = f"{len(mesh.cells)} cells, {len(setup.family.parameters)} parameters"
        report("read CAD", 1, 1, text)
        yield Run(setup, workspace, "cpu", report)


def run_solid(options: Options) -> FinishedSolid:
    """Everything of a study on the command line."""
    with _opened_by(options) as current:
        return _finished(current)


def run_solid_to[T](options: Options, last: Stage[T]) -> T:
    """The result of the stage ``last`` of a study on the command line, and all that it needs."""
    with _opened_by(options) as current:
        return run_stages(current, STAGES, last)[last]


@contextmanager
def _opened_by(options: Options) -> Iterator[Run[SolidSetup]]:
    study = load_solid(options.study, options.overrides).forced(options.force)
    workspace = Workspace(options.out or Path("out") / study.model.name)
    results_go_to(workspace.folder)
    with ProgressBars() as bars, opened_solid(study, workspace, bars, options.overwrite) as current:
        yield current


def run_solid_study(
    study: Study[SolidStudyModel], folder: Path, overwrite: bool = False, report: Report = silent
) -> SolidCertificate:
    """Everything of a study in a Python program; the certificate."""
    with opened_solid(study, Workspace(folder), report, overwrite) as current:
        return _finished(current).certificate


def _finished(current: Run[SolidSetup]) -> FinishedSolid:
    from shapewright.app.report.solid_report import write_solid_report  # pyvista, which nothing else needs

    certificate = certificate_of_solid(current)
    current.report("report", 0, 1, "")
    report = write_solid_report(current.workspace.folder)
    current.report("report", 1, 1, report.name)
    return FinishedSolid(certificate, current.workspace.folder, report)


def print_solid_certificate(console: Console, certificate: SolidCertificate, folder: Path) -> None:
    """Checks, constraints, load cases and verdict."""
    table = Table("check", "value", "", "limit", "", title=escape(f"{certificate.name}: certificate"))
    for check in certificate.checks:
        mark = "[green]ok[/]" if check.satisfied else "[bold red]FAIL[/]"
        value = "-" if check.value is None else f"{check.value:.3g}"
        table.add_row(check.name, value, check.relation, f"{check.limit:.3g}", mark)
    for row in certificate.constraints:
        mark = "[green]ok[/]" if row.satisfied else "[bold red]FAIL[/]"
        table.add_row(escape(row.name), f"{row.value:.6g}", "", f"{row.target:.6g}", mark)
    console.print(table, highlight=False)
    objective = certificate.objective
    lines = [
        f"{objective.name}: {objective.initial:.6g} as it came, {objective.value:.6g} at the optimum"
        f" ({objective.change:+.1%}; extrapolated {objective.extrapolated:.6g}) {objective.unit}",
        *(f"  load case {case}: {v['initial']:.6g} -> {v['final']:.6g}" for case, v in certificate.cases.items()),
        *(f"  {reason}" for reason in certificate.reasons),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)
    style = "bold green" if certificate.accepted else "bold red"
    console.print(f"[{style}]{escape(certificate.verdict)}[/] Everything is in {escape(str(folder))}", highlight=False)


def check_solid_study(
    console: Console, path: Path, overrides: list[str] | None, seed: int, force: bool = False
) -> bool:
    """Check a study of a solid, print what it is made of, and test its derivatives; whether all is in order."""
    with forcing(force):
        setup = build_solid_setup(load_solid(path, overrides))
        found: SolidCheck = check_solid(setup, seed)
    console.print(f"{escape(str(path))}: schema and geometry are in order", highlight=False)
    for line in found.lines:
        console.print(f"  {line}", highlight=False, markup=False)
    table = Table("derivative", "by differences", "by the adjoint", "order of the remainder", "", title="Taylor tests")
    for test in found.tests:
        mark = "[green]ok[/]" if test.passed else "[bold red]FAIL[/]"
        table.add_row(escape(test.name), f"{test.difference:.6g}", f"{test.slope:.6g}", f"{test.order:.2f}", mark)
    console.print(table, highlight=False)
    return all(test.passed for test in found.tests)
