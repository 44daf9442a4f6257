"""The command line: a thin layer over the stages of :mod:`run.pipeline`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from shapewright.app.options import Force, Options, Set, StudyFile, study_command
from shapewright.app.outcome import Exit, reported_errors, results_go_to
from shapewright.app.progress import ProgressBars

if TYPE_CHECKING:
    from shapewright.studies.run.pipeline import Run
    from shapewright.studies.run.workspace import Workspace
    from shapewright.studies.schema.loader import Study
    from shapewright.studies.schema.study import StudyModel


class _Commands(TyperGroup):
    """Whatever a command raises, while modules are imported too, becomes one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # a context of click, which typer has a copy of in a private module
        """Run the command that was typed."""
        with reported_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="Shape optimization with a neural surrogate, certified by finite elements.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Processes = Annotated[int, typer.Option("--processes", min=1, help="Processes that train together, on GPUs one each.")]
TestSeed = Annotated[int, typer.Option("--seed", help="Seed of the directions of the Taylor tests.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a study.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StepFile = Annotated[Path, typer.Argument(metavar="PART.step", help="A STEP file.")]
Pictures = Annotated[Path | None, typer.Option("--out", help="Folder for the pictures; out/inspect/PART by default.")]
SolidNumber = Annotated[int | None, typer.Option("--solid", min=1, help="Number of the solid, if there are several.")]
LengthUnit = Annotated[str | None, typer.Option("--unit", help="m, cm or mm; the file's own by default.")]
Resolve = Annotated[bool, typer.Option("--resolve", help="Solve it again, on fresh meshes of the STEP file.")]


def _loaded(options: Options) -> tuple[Study[StudyModel], Workspace, str]:
    """A study with what the command line says of it, its output folder, and the device."""
    from shapewright.studies.problem.surrogates import choose_device
    from shapewright.studies.run.engines import engine_overrides
    from shapewright.studies.run.workspace import Workspace
    from shapewright.studies.schema.loader import load_study

    sections = ("sampling", "training", "optimizer") if options.seed is not None else ()
    seeds = [f"{section}.seed={options.seed}" for section in sections]
    overrides = [*(options.overrides or []), *seeds, *engine_overrides(options.engine)]
    study = load_study(options.study, overrides).forced(options.force)
    return study, Workspace(options.out or Path("out") / study.model.name), choose_device(options.device)


@contextmanager
def _run(options: Options, searches: bool = True) -> Iterator[Run]:
    """A study in its locked output folder, with progress bars; see :func:`library.opened`."""
    from shapewright.app.library import opened

    study, workspace, device = _loaded(options)
    results_go_to(workspace.folder)
    with ProgressBars() as bars, opened(
        study, workspace, device, bars, options.overwrite, searches=searches
    ) as run:
        yield run


@study_command(app)
def run(options: Options) -> None:
    """Everything: sample, train (or take the shipped surrogate), optimize, export, validate, report."""
    if _is_solid(options.study):
        _run_solid(options)
    with _run(options) as current:
        from shapewright.app.library import finish

        finish(current)
    _end_by_verdict(current.workspace.folder)


@study_command(app)
def sample(options: Options) -> None:
    """Solve designs by finite elements for a surrogate to learn from."""
    with _run(options, searches=False) as current:
        from shapewright.studies.run import pipeline

        if current.setup.study.model.operator is not None:
            return
        data, held_out, _ = pipeline.sample(current)
    _say(f"{len(data)} designs and {len(held_out)} held-out ones in {current.workspace.folder}")


@study_command(app)
def train(options: Options, processes: Processes = 1) -> None:
    """Train the surrogate from nothing, whether or not the study ships one, or tune the operator that it names.

    torchrun may start this, too.
    """
    torchrun = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if torchrun and os.environ["RANK"] != "0":
        _train_with_others(options)
        return
    with _run(options, searches=False) as current:
        from shapewright.studies.problem.surrogates import open_surrogate
        from shapewright.studies.run import pipeline
        from shapewright.studies.run.together import Lead, in_processes

        if current.setup.study.model.operator is not None:
            from shapewright.studies.run.tune import tune

            _say(str(tune(current)))
            return
        if torchrun:
            lead = Lead(current.device)
            path = pipeline.train(current, lead.train)
            lead.dismiss()
        elif processes > 1:
            path = pipeline.train(current, in_processes(processes))
        else:
            path = pipeline.train(current)
        _, card = open_surrogate(current.setup, path)
    held_out = card.held_out
    fields = ", ".join(f"{name} {error:.2%}" for name, error in held_out.field.items())
    _say(
        f"{path}: held out on {held_out.designs} designs: field {fields}; objective {held_out.objective:.3%};"
        f" design gradient {held_out.gradient:.2%}, cosine {held_out.cosine:.5f}; trained in {card.seconds:.0f} s"
    )


def _train_with_others(options: Options) -> None:
    """Train as torchrun's first process does, which does everything else, and says for all how the training ends."""
    from shapewright.geometries.family.effort import forcing
    from shapewright.studies.run.together import follow
    from shapewright.surrogate.training.interruption import TrainingInterrupted
    from shapewright.surrogate.training.loop import TrainingError

    study, workspace, device = _loaded(options)
    if study.model.operator is not None:
        return
    try:
        with forcing(options.force):
            follow(study, workspace.path("surrogate.safetensors"), device)
    except TrainingError as error:
        raise typer.Exit(Exit.FAILED) from error
    except TrainingInterrupted as error:
        raise typer.Exit(128 + error.signal_number) from error


@study_command(app)
def optimize(options: Options) -> None:
    """Find the optimum on the surrogate (or on finite elements: --set optimizer.on=fem)."""
    if _is_solid(options.study):
        _search_solid(options)
        return
    with _run(options) as current:
        from shapewright.studies.run.pipeline import find_optimum

        found = find_optimum(current)
    _say(f"{found.exit.text} Objective {found.objective:.8g} from start {found.best_start}.")
    for name, value in found.parameters.items():
        _say(f"  {name} = {value:.8g}")


@study_command(app)
def export(options: Options) -> None:
    """Write the optimum as CAD and read it back."""
    if _is_solid(options.study):
        _export_solid(options)
        return
    with _run(options) as current:
        from shapewright.studies.run import pipeline

        exported = pipeline.export(current)
    kind = "volume" if exported.check.solid else "area"
    _say(
        f"{', '.join(exported.files)} in {current.workspace.folder}: {kind} read back {exported.check.measure:.9g},"
        f" {exported.relative_error:.1e} off the design's; curve within {exported.check.max_deviation:.1e}"
    )


@study_command(app)
def validate(options: Options) -> None:
    """Certify the optimum by finite elements on its CAD read back."""
    if _is_solid(options.study):
        _run_solid(options)
    with _run(options) as current:
        from shapewright.studies.run import pipeline

        pipeline.validate(current)
    _end_by_verdict(current.workspace.folder)


@study_command(app)
def report(options: Options) -> None:
    """Write report.html of a validated study."""
    if _is_solid(options.study):
        _run_solid(options)
    with _run(options) as current:
        from shapewright.app.library import finish

        finish(current)
    _say(str(current.workspace.path("report.html")))


@app.command()
def check(study: StudyFile, overrides: Set = None, seed: TestSeed = 0, force: Force = False) -> None:
    """Check schema and geometry, and Taylor-test every derivative in the chain."""
    from shapewright.app.tables import print_taylor_tests
    from shapewright.studies.certify.taylor import check_study
    from shapewright.studies.problem.setup import build_setup
    from shapewright.studies.schema.loader import load_study

    if _is_solid(study):
        from shapewright.app.solid import check_solid_study

        whole = check_solid_study(console, study, overrides, seed, force)
        raise typer.Exit(Exit.OK if whole else Exit.FAILED)
    setup = build_setup(load_study(study, overrides or []).forced(force))
    _say(
        f"{study}: schema and geometry are in order; {len(setup.family.parameters)} parameters,"
        f" {len(setup.shape_map.mesh.nodes)} nodes"
    )
    passed = print_taylor_tests(console, check_study(setup, seed))
    raise typer.Exit(Exit.OK if passed else Exit.FAILED)


@app.command()
def plan(study: StudyFile, overrides: Set = None, as_json: AsJson = False, force: Force = False) -> None:
    """What an optimum costs by finite elements, an operator or a surrogate, measured here; what `model: auto` takes."""
    from shapewright.app import plan as plans
    from shapewright.studies.problem.setup import build_setup
    from shapewright.studies.run.plan import make_plan
    from shapewright.studies.schema.loader import load_study

    found = make_plan(build_setup(load_study(study, overrides or []).forced(force)))
    if as_json:
        typer.echo(plans.as_json(found))
    else:
        plans.print_plan(console, found)


@app.command()
def verify(folder: Folder, resolve: Resolve = False) -> None:
    """Check a finished folder again: files, certificate and CAD against each other; exits with 1 where they differ."""
    from shapewright.app.tables import print_findings
    from shapewright.studies.run.verify import verify as verify_folder
    from shapewright.studies.run.workspace import WorkspaceError
    from shapewright.studies.schema.loader import RESOLVED

    if not folder.is_dir():
        raise WorkspaceError(f"{folder}: found no folder; expected the output folder of a finished study")
    if _is_solid(folder / RESOLVED):
        from shapewright.studies.run.solid_verify import verify_solid

        whole = print_findings(console, verify_solid(folder, resolve), folder)
        raise typer.Exit(Exit.OK if whole else Exit.NOT_ACCEPTED)
    whole = print_findings(console, verify_folder(folder, resolve), folder)
    raise typer.Exit(Exit.OK if whole else Exit.NOT_ACCEPTED)


@app.command()
def inspect(
    part: StepFile, out: Pictures = None, solid: SolidNumber = None, unit: LengthUnit = None, force: Force = False
) -> None:
    """Solids and faces of a STEP file, what would be refused and why, a numbered picture, and regions to begin with."""
    from shapewright.app.inspection.command import inspect_part
    from shapewright.geometries.family.effort import forcing

    with forcing(force):
        usable = inspect_part(console, part, unit, solid, out or Path("out") / "inspect" / part.stem)
    raise typer.Exit(Exit.OK if usable else Exit.NOT_ACCEPTED)


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Stages of an output folder: done, stale and why, missing, or damaged."""
    from shapewright.app import status as stages

    name, states = stages.folder_states(folder)
    if as_json:
        typer.echo(stages.as_json(folder, name, states))
    else:
        stages.print_states(console, folder, name, states)


@study_command(app, without=("engine",))
def learn(options: Options) -> None:
    """Train the operator of an operator or evolution study; its errors are on unseen instances."""
    from shapewright.app.learn import learn_operator, print_errors

    print_errors(console, *learn_operator(options))


@app.command(name="list")
def list_() -> None:
    """Families, physics, objectives and quantities, with their parameters and units."""
    from shapewright.app.tables import print_catalogue

    print_catalogue(console)


@app.command()
def doctor() -> None:
    """Versions, compilers, GPU, and what is missing."""
    from shapewright.app.doctor.doctor import diagnose, print_report

    raise typer.Exit(Exit.OK if print_report(diagnose()) else Exit.FAILED)


def _is_solid(study: Path) -> bool:
    from shapewright.app.solid import is_solid_study

    return is_solid_study(study)


def _run_solid(options: Options) -> NoReturn:
    """Everything of a study of a solid; ends by its verdict."""
    from shapewright.app.solid import print_solid_certificate, run_solid

    finished = run_solid(options)
    print_solid_certificate(console, finished.certificate, finished.folder)
    raise typer.Exit(Exit.OK if finished.certificate.accepted else Exit.NOT_ACCEPTED)


def _search_solid(options: Options) -> None:
    from shapewright.app.solid import run_solid_to
    from shapewright.studies.run.solid_run import OPTIMIZE

    found = run_solid_to(options, OPTIMIZE)
    for entry in found.rounds:
        _say(f"{entry.reason} Objective {entry.objective:.8g} after {entry.solves} designs solved.")


def _export_solid(options: Options) -> None:
    from shapewright.app.solid import run_solid_to
    from shapewright.studies.run.solid_run import EXPORT

    exported = run_solid_to(options, EXPORT)
    _say(f"{exported.file}: volume read back {exported.volume:.9g}")


def _say(text: str) -> None:
    """Print plain text: brackets in names and paths are no markup."""
    console.print(escape(text))


def _end_by_verdict(folder: Path) -> NoReturn:
    """Print the certificate of a folder, or its front, and exit by the verdict."""
    from shapewright.app.tables import print_certificate, print_front
    from shapewright.studies.certify.front_model import FRONT, read_front
    from shapewright.studies.certify.model import read_certificate

    if (folder / FRONT).is_file():
        front = read_front(folder)
        print_front(console, front, folder)
        raise typer.Exit(Exit.OK if front.accepted else Exit.NOT_ACCEPTED)
    certificate = read_certificate(folder / "certificate.json")
    print_certificate(console, certificate, folder)
    raise typer.Exit(Exit.OK if certificate.accepted else Exit.NOT_ACCEPTED)


def main(entry: Callable[[], Any] = app) -> None:
    """Entry point."""
    sys.exit(entry())


if __name__ == "__main__":
    main()
