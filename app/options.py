"""What the command line says of a study: options that several commands share, and their help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study.")]
Out = Annotated[Path | None, typer.Option("--out", help="Output folder; out/NAME by default.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. optimizer.max_iterations=50."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of sampling, training and random starts.")]
Force = Annotated[bool, typer.Option("--force", help="Go on beyond the limits of memory for meshes and networks.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results of another study in the output folder.")
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="NAME[:ADDRESS]", help="Solve designs by processes, dask:tcp://HOST:PORT, slurm or mpi."
    ),
]


@dataclass(frozen=True)
class Options:
    """Study file and options of a command that works in an output folder."""

    study: StudyFile
    out: Out = None
    overrides: Set = None
    device: Device = "auto"
    seed: Seed = None
    overwrite: Overwrite = False
    force: Force = False
    engine: EngineName = None


def study_command(
    app: typer.Typer, without: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command ``f(options: Options, ...)`` whose ``options`` are typed one by one on the command line.

    Args:
        app: that the command belongs to.
        without: names of options that it does not have.
    """

    def register(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        shared = [p for p in inspect.signature(Options).parameters.values() if p.name not in without]
        hints = get_type_hints(Options, include_extras=True) | get_type_hints(command, include_extras=True)
        names = [option.name for option in shared]

        @wraps(command)
        def called(**values: Any) -> None:
            options = Options(**{name: values.pop(name) for name in names})
            command(options, **values)

        typed = [*shared, *list(own.values())[1:]]
        parameters = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in typed]
        # inspect reads the attribute from any function; typeshed's functions have none
        called.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        return app.command()(called)

    return register
