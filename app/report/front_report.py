"""The report of a front: one self-contained HTML file with the plot of both objectives and a table of the designs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from shapewright.app.formatting import NOTHING, capital, number, percent, seconds, unit, with_unit, words
from shapewright.app.provenance import Provenance
from shapewright.app.report.canvas import AFTER, BEFORE, FAINT, Array, Figure, drawn, frame
from shapewright.app.report.data import ReportError, read_text, read_typed
from shapewright.app.report.design_tables import Table
from shapewright.app.report.evidence_tables import machine_table
from shapewright.app.report.pages import render
from shapewright.app.report.verdict import pass_or_fail
from shapewright.studies.certify.export import Shape, Shapes
from shapewright.studies.certify.front_model import FrontError, FrontObjective, FrontPoint, FrontResult, read_front
from shapewright.studies.files import write_text
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.studies.schema.study import StudyModel

NAMED = 6
"""Outlines that are drawn into the plot, at most."""


@dataclass(frozen=True)
class FinishedFront:
    """A finished front: content of its folder's files, and the shape of each design."""

    folder: Path
    study: StudyModel
    resolved: str
    run: Provenance
    front: FrontResult
    shapes: tuple[Shape, ...]


def read_front_folder(folder: Path) -> FinishedFront:
    """Read the output folder of a front.

    Raises:
        ReportError: names the first file that is missing or incomplete.
    """
    try:
        front, study = read_front(folder), load_study(folder / "resolved.yaml").model
    except (FrontError, StudyError) as error:
        raise ReportError(f"{error}; `shapewright run` makes it") from error
    shapes = tuple(read_typed(folder, f"{point.folder}/shapes.json", Shapes).optimum for point in front.points)
    resolved = read_text(folder, "resolved.yaml")
    return FinishedFront(folder, study, resolved, read_typed(folder, "run.json", Provenance), front, shapes)


def write_front_report(folder: Path) -> Path:
    """Write ``report.html`` of a finished front, whole or not at all.

    Raises:
        ReportError: a file of the folder is missing or incomplete.
    """
    finished = read_front_folder(folder)
    front = finished.front
    head, _, rest = front.verdict.partition(":")
    content = {
        "study": finished.study,
        "name": capital(words(front.study)),
        "front": front,
        "sentence": (head, f":{rest}." if rest else "."),
        "tiles": _tiles(front),
        "about": _about(front),
        "plot": front_figure(finished),
        "certified": _certified(front),
        "designs": _designs_table(finished),
        "reasons": [f"Design {p.number}: {p.verdict}" for p in front.points if not p.accepted],
        "parameters": _parameters_table(front),
        "command": finished.run.command,
        "date": finished.run.started[:10],
        "machine": machine_table(finished.run, finished.study),
        "resolved": finished.resolved,
    }
    path = folder / "report.html"
    write_text(path, render("front.html.j2", content))
    return path


def _tiles(front: FrontResult) -> list[tuple[str, str, str]]:
    accepted = sum(point.accepted for point in front.points)
    dominated = sum(point.dominated_by is not None for point in front.points)
    search, certificates = front.search_solves.get("forward", 0), front.certificate_solves.get("forward", 0)
    share = front.hypervolume / np.prod(front.reference) if front.hypervolume is not None else None
    return [
        ("Designs", f"{accepted} of {len(front.points)}", "accepted"),
        ("Dominated", str(dominated), "by another design in both objectives"),
        ("Hypervolume", number(front.hypervolume, 5), f"{percent(share)} of the rectangle up to the reference"),
        ("Solves of the searches", str(search), f"{search / len(front.points):.1f} a design, finite elements"),
        ("Solves of the certificates", str(certificates), "on fresh meshes and for tolerances"),
    ]


def _about(front: FrontResult) -> str:
    first, second = front.objectives
    how = {
        "extrapolated": "Values are by finite elements, extrapolated from fresh meshes of the STEP files read back.",
        "moved mesh": "Values are by finite elements on the mesh that the optimizer moves.",
    }[front.evaluated]
    reference = " and ".join(number(value, 3) for value in front.reference)
    return (
        f"{_sense(first)} and {_sense(second).lower()}: no design shown is better in both than another, unless it says"
        f" so. {how} The hypervolume is the area that the designs dominate up to ({reference}), with each objective"
        " scaled to 0 at its best and 1 at its worst of the two ends."
    )


def _sense(objective: FrontObjective) -> str:
    return f"{'Smallest' if objective.sense == 'minimize' else 'Largest'} {words(objective.name)}"


def _certified(front: FrontResult) -> str:
    if all(point.certified for point in front.points):
        return "Each has a whole certificate (certificate.json there)."
    whole = ", ".join(str(point.number) for point in front.points if point.certified)
    return (
        f"Designs {whole} have a whole certificate (certificate.json there). Of the others, the KKT residual and the"
        " constraints were checked by finite elements on the moved mesh, and the CAD was read back."
    )


def front_figure(finished: FinishedFront) -> Figure:
    """Both objectives of all designs, with the outlines of some of them beside their points."""
    front = finished.front
    points = np.array([[np.nan if v is None else v for v in point.objectives] for point in front.points])
    first, second = front.objectives

    def draw(canvas: Canvas) -> None:
        canvas.set_size_inches(7.4, 5.0)
        axes = canvas.add_axes((0.12, 0.11, 0.85, 0.85))
        axes.plot(*points.T, color=FAINT, lw=1.0, zorder=1)
        for point, at in zip(front.points, points, strict=True):
            good = point.accepted and point.dominated_by is None
            axes.plot(*at, marker="o", ms=5, color=AFTER if good else "white", mec=AFTER if good else BEFORE, ls="none")
        if not front.accepted:
            axes.plot([], [], marker="o", ms=5, color=AFTER, ls="none", label="accepted")
            axes.plot([], [], marker="o", ms=5, color="white", mec=BEFORE, ls="none", label="dominated or not accepted")
            canvas.legend(loc="lower left", ncols=2)
        axes.set_xlabel(_axis(first))
        axes.set_ylabel(_axis(second))
        axes.margins(0.15)
        axes.autoscale_view()
        _outlines(axes, finished, points)

    alt = f"{_sense(first)} against {_sense(second).lower()} of {len(front.points)} designs"
    return drawn("The front", alt, 5.0, draw)


def _axis(objective: FrontObjective) -> str:
    arrow = "smaller is better" if objective.sense == "minimize" else "larger is better"
    return f"{words(objective.name)} [{unit(objective.unit) or '1'}], {arrow}"


def _outlines(axes: Axes, finished: FinishedFront, points: Array) -> None:
    """Outlines of some designs, on the side of the front where no design can be."""
    count = len(points)
    chosen = sorted(set(np.linspace(0, count - 1, min(NAMED, count)).round().astype(int).tolist()))
    for index in chosen:
        if not np.isfinite(points[index]).all():
            continue
        inset = axes.inset_axes(_beside(axes, points, index, finished.front), transform=axes.transAxes)
        _outline(inset, finished.shapes[index])
        inset.set_title(str(index + 1), fontsize=7, pad=1)


def _beside(axes: Axes, points: Array, index: int, front: FrontResult) -> tuple[float, float, float, float]:
    """Lower corner and size in shares of the axes, off the point towards what no design reaches."""
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(points[index]))
    better = [-objective.sign for objective in front.objectives]
    size = 0.12
    low = [at + 0.075 * side - size / 2 for at, side in zip((x, y), better, strict=True)]
    return (*(min(max(value, 0.0), 1.0 - size) for value in low), size, size)


def _outline(axes: Axes, shape: Shape) -> None:
    loops = [np.array(outline.points) for outline in shape.outlines]
    for index, loop in enumerate(loops):
        axes.fill(*loop.T, facecolor=AFTER if index == 0 else "white", alpha=0.25 if index == 0 else 1.0, lw=0)
        axes.plot(*np.concatenate([loop, loop[:1]]).T, color=AFTER, lw=0.8)
    low, high = frame(np.concatenate(loops))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.axis("off")


def picture(shape: Shape, alt: str) -> Markup:
    """A small picture of a design, as an image of the page."""

    def draw(canvas: Canvas) -> None:
        canvas.set_size_inches(1.0, 0.8)
        _outline(canvas.add_axes((0.02, 0.02, 0.96, 0.96)), shape)

    found = drawn(alt, alt, 0.8, draw)
    return Markup('<img src="{}" alt="{}">').format(found.source, alt)


def _designs_table(finished: FinishedFront) -> Table:
    front = finished.front
    names = [f"#{capital(words(o.name))}" + (f" [{unit(o.unit)}]" if unit(o.unit) else "") for o in front.objectives]
    columns = ("Design", "Shape", *names, "Limit", "#KKT residual", "Certificate", "#Solves", "#Time", "Files")
    rows = []
    for point, shape in zip(front.points, finished.shapes, strict=True):
        rows.append(
            (
                str(point.number),
                picture(shape, f"Outline of design {point.number}"),
                *(number(value, 6) for value in point.objectives),
                _limit(point, front),
                number(point.kkt_residual, 2),
                _evidence(point),
                str(point.search_solves.get("forward", 0)),
                seconds(point.seconds),
                _files(finished.folder, point),
            )
        )
    note = "Solves: finite-element solutions of the search, without those that the designs before it asked for."
    return Table(columns, rows, f"{note} Time: of search, CAD and certificate.")


def _evidence(point: FrontPoint) -> str:
    if point.dominated_by is not None:
        return f"dominated by {point.dominated_by}"
    return pass_or_fail(point.accepted) if point.certified else f"none; search and CAD: {pass_or_fail(point.accepted)}"


def _limit(point: FrontPoint, front: FrontResult) -> str:
    if point.limit is None:
        return "an end: none"
    objective = next(o for o in front.objectives if o.name == point.limit.objective)
    sign = "≤" if objective.sense == "minimize" else "≥"
    return f"{words(objective.name)} {sign} {with_unit(number(point.limit.value, 6), objective.unit)}"


def _files(folder: Path, point: FrontPoint) -> Markup:
    """Links to the files of a design that are there."""
    wanted = {"report": "report.html", "STEP": "optimum.step", "certificate": "certificate.json"}
    links = [
        Markup('<a href="{}/{}">{}</a>').format(point.folder, file, text)
        for text, file in wanted.items()
        if (folder / point.folder / file).is_file()
    ]
    return Markup('<span class="files">{}</span>').format(Markup(" ").join(links))


def _parameters_table(front: FrontResult) -> Table:
    names = list(front.points[0].parameters)
    rows = [
        (name, *(number(point.parameters.get(name), 5) or NOTHING for point in front.points)) for name in names
    ]
    return Table(("Parameter", *(f"#{point.number}" for point in front.points)), rows)
