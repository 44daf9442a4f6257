"""The command line: a thin layer over the stages of :mod:`studies.pipeline`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from app.progress import ProgressBars

if TYPE_CHECKING:
    from studies.pipeline import Run

app = typer.Typer(
    help="Shape optimization with a neural surrogate, judged by finite elements.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    NOT_ACCEPTED = 1
    BAD_INPUT = 2
    FAILED = 3
    INTERRUPTED = 130


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The design study.")]
Out = Annotated[Path | None, typer.Option("--out", help="Output folder; out/NAME by default.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. optimizer.max_iterations=50."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of sampling, training and random starts.")]


@contextmanager
def _reported_errors() -> Iterator[None]:
    """One clear message and an exit code for whatever a stage may raise; nothing else is swallowed."""
    try:
        with _reported_failures():
            yield
    except KeyboardInterrupt:  # while modules are imported, too
        _fail(
            "interrupted; what was finished is kept, and the same command goes on from there.",
            Exit.INTERRUPTED,
        )


@contextmanager
def _reported_failures() -> Iterator[None]:
    from app.report_data import ReportError
    from geometries.cad import CadError
    from geometries.family import FamilyError
    from geometries.mesher import MeshError
    from geometries.quantities import ShapeError
    from solvers.errors import ProblemError, SolveError
    from studies.loader import StudyError
    from studies.pipeline import OptimizationError
    from studies.sampling import SamplingError
    from studies.workspace import WorkspaceError
    from surrogate.latent_grid import OutsideGridError
    from surrogate.model_card import SurrogateFileError
    from surrogate.trainer import TrainingError

    bad_input = (StudyError, FamilyError, ShapeError, ProblemError, SurrogateFileError, WorkspaceError)
    failures = (CadError, MeshError, SolveError, SamplingError, TrainingError)
    failures += (OptimizationError, OutsideGridError, ReportError)
    try:
        yield
    except bad_input as error:
        _fail(str(error), Exit.BAD_INPUT)
    except failures as error:
        _fail(f"{error}\nWhat was finished is kept; the same command goes on from there.", Exit.FAILED)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(
            f"{error.strerror or error}{where}\nWhat was finished is kept; the same command goes on from there.",
            Exit.FAILED,
        )


def _fail(message: str, code: Exit) -> None:
    errors.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """What the program itself warns of, in the same plain words as its errors."""
    from studies.models import OutsideBoxWarning

    with warnings.catch_warnings():
        default = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **options: Any) -> None:
            if issubclass(category, OutsideBoxWarning):
                errors.print(f"[bold yellow]warning:[/] {escape(str(message))}", highlight=False, soft_wrap=True)
            else:
                default(message, category, *where, **options)

        warnings.showwarning = show
        yield


@contextmanager
def _run(study: Path, out: Path | None, overrides: list[str] | None, device: str, seed: int | None) -> Iterator[Run]:
    """A study in its locked output folder, with progress bars."""
    with _reported_errors():
        from studies.loader import load_study
        from studies.pipeline import Run, write_resolved
        from studies.setup import build_setup
        from studies.surrogates import choose_device
        from studies.workspace import Workspace

        seeds = [f"{section}.seed={seed}" for section in ("sampling", "training", "optimizer") if seed is not None]
        loaded = load_study(study, [*(overrides or []), *seeds])
        chosen = choose_device(device)
        workspace = Workspace(out or Path("out") / loaded.model.name)
        with workspace.lock(), ProgressBars() as bars, _shown_warnings():
            run = Run(build_setup(loaded), workspace, chosen, bars)
            from app.provenance import provenance

            write_resolved(run, provenance(chosen, loaded.model.training.seed))
            yield run


@app.command()
def run(study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None) -> None:
    """Everything: sample, train (or take the shipped surrogate), optimize, export, validate, report."""
    with _run(study, out, overrides, device, seed) as current:
        from studies.pipeline import validate

        certificate = validate(current)
        _write_report(current)
    _print_certificate(certificate, current.workspace.folder)
    raise typer.Exit(Exit.OK if certificate["accepted"] else Exit.NOT_ACCEPTED)


@app.command()
def sample(
    study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None
) -> None:
    """Solve designs by finite elements for a surrogate to learn from."""
    with _run(study, out, overrides, device, seed) as current:
        from studies import pipeline

        data, held_out, _ = pipeline.sample(current)
    console.print(f"{len(data)} designs and {len(held_out)} held-out ones in {current.workspace.folder}")


@app.command()
def train(study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None) -> None:
    """Train the surrogate from nothing, whether or not the study ships one."""
    with _run(study, out, overrides, device, seed) as current:
        from studies import pipeline
        from studies.surrogates import open_surrogate

        path = pipeline.train(current)
        _, card = open_surrogate(current.setup, path)
    held_out = card.held_out
    fields = ", ".join(f"{name} {error:.2%}" for name, error in held_out.field.items())
    console.print(
        f"{path}: held out on {held_out.designs} designs: field {fields}; objective {held_out.objective:.3%};"
        f" design gradient {held_out.gradient:.2%}, cosine {held_out.cosine:.5f}; trained in {card.seconds:.0f} s"
    )


@app.command()
def optimize(
    study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None
) -> None:
    """Find the optimum on the surrogate (or on finite elements: --set optimizer.on=fem)."""
    with _run(study, out, overrides, device, seed) as current:
        from studies.pipeline import find_optimum

        _, found = find_optimum(current)
    console.print(f"{found['exit']['text']} Objective {found['objective']:.8g} from start {found['best_start']}.")
    for name, value in found["parameters"].items():
        console.print(f"  {name} = {value:.8g}")


@app.command()
def export(
    study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None
) -> None:
    """Write the optimum as CAD and read it back."""
    with _run(study, out, overrides, device, seed) as current:
        from studies import pipeline

        exported = pipeline.export(current)
    kind = "volume" if exported.check.solid else "area"
    console.print(
        f"{', '.join(exported.files)} in {current.workspace.folder}: {kind} read back {exported.check.measure:.9g},"
        f" {exported.relative_error:.1e} off the design's; curve within {exported.check.max_deviation:.1e}"
    )


@app.command()
def validate(
    study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None
) -> None:
    """Judge the optimum by finite elements on its CAD read back."""
    with _run(study, out, overrides, device, seed) as current:
        from studies import pipeline

        certificate = pipeline.validate(current)
    _print_certificate(certificate, current.workspace.folder)
    raise typer.Exit(Exit.OK if certificate["accepted"] else Exit.NOT_ACCEPTED)


@app.command()
def report(
    study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None
) -> None:
    """Write report.html of a validated study."""
    with _run(study, out, overrides, device, seed) as current:
        from studies import pipeline

        pipeline.validate(current)
        path = _write_report(current)
    console.print(str(path))


@app.command()
def check(study: StudyFile, overrides: Set = None, seed: int = 0) -> None:
    """Check schema and geometry, and Taylor-test every derivative in the chain."""
    with _reported_errors():
        from app.tables import print_taylor_tests
        from studies.checks import check_study
        from studies.loader import load_study
        from studies.setup import build_setup

        setup = build_setup(load_study(study, overrides or []))
        console.print(
            f"{study}: schema and geometry are in order; {len(setup.family.parameters)} parameters,"
            f" {len(setup.shape_map.mesh.nodes)} nodes"
        )
        passed = print_taylor_tests(console, check_study(setup, seed))
    raise typer.Exit(Exit.OK if passed else Exit.FAILED)


@app.command()
def learn(study: StudyFile, out: Out = None, overrides: Set = None, device: Device = "auto", seed: Seed = None) -> None:
    """Train an operator on the physics of an operator study, and judge it on unseen instances by finite elements."""
    with _reported_errors():
        from app.learn import learn_operator, print_errors

        card, folder = learn_operator(study, out, overrides or [], device, seed)
    print_errors(console, card, folder)


@app.command(name="list")
def list_() -> None:
    """Families, physics, objectives and quantities, with their parameters and units."""
    with _reported_errors():
        from app.tables import print_catalogue

        print_catalogue(console)


@app.command()
def doctor() -> None:
    """Versions, compilers, GPU, and what is missing."""
    from app.doctor import diagnose, print_report

    raise typer.Exit(Exit.OK if print_report(diagnose()) else Exit.FAILED)


def _write_report(current: Run) -> Path:
    from app.report import write_report

    return write_report(current.workspace.folder)


def _print_certificate(certificate: dict[str, Any], folder: Path) -> None:
    from app.tables import print_certificate

    print_certificate(console, certificate, folder)


def main(entry: Callable[[], Any] = app) -> None:
    """Entry point."""
    # torch warns of a deprecated function of its own when it is imported
    warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
    sys.exit(entry())


if __name__ == "__main__":
    main()
