"""The report's figures as data URIs: shapes and convergence as SVG, fields as PNG."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from app.report_data import NodalFields

Array = NDArray[np.float64]

STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "lines.solid_joinstyle": "round",
    "svg.hashsalt": "shapewright",
}
BEFORE, AFTER, FAINT = "#b4541a", "#1b4f8a", "#b8bec6"
WIDTH = 3.7
"""Of a figure in inches; about 350 pixels of a page, so that three stand beside each other and one fills a phone."""
SUBTRIANGLES = ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))
"""A six-node triangle as four linear ones on its own nodes."""


@dataclass(frozen=True)
class Figure:
    """An image with its words.

    Attributes:
        title: short, above the image.
        source: data URI.
        alt: what it shows, for those who do not see it.
    """

    title: str
    source: str
    alt: str


@dataclass(frozen=True)
class Trace:
    """A quantity over the iterations of one start; ``feasible`` when it ended with all constraints met."""

    iterations: Array
    values: Array
    feasible: bool


def _drawn(title: str, alt: str, height: float, draw: Callable[[Canvas], None], kind: str = "svg") -> Figure:
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, height))
        draw(canvas)
        buffer = BytesIO()
        canvas.savefig(buffer, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
    media = "image/svg+xml" if kind == "svg" else "image/png"
    return Figure(title, f"data:{media};base64,{base64.b64encode(buffer.getvalue()).decode()}", alt)


def _box(points: Array, margin: float = 0.04) -> tuple[Array, Array]:
    """Lower and upper corner around points (n, 2), widened by a share of the larger side."""
    low, high = points.min(0), points.max(0)
    gap = margin * (high - low).max()
    return low - gap, high + gap


def _plan(canvas: Canvas, box: tuple[Array, Array], length_unit: str, below: float) -> Axes:
    """Axes of equal scale for a plan of the domain, ``below`` inches above the canvas's bottom."""
    width, height = canvas.get_size_inches()
    axes = canvas.add_axes((0.15, below / height, 0.82, (height - below - 0.08) / height))
    axes.set(xlim=(box[0][0], box[1][0]), ylim=(box[0][1], box[1][1]), aspect="equal")
    axes.set_anchor("N")
    axes.set_xlabel(f"x [{length_unit}]", labelpad=1)
    axes.set_ylabel(f"y [{length_unit}]", labelpad=1)
    axes.locator_params(nbins=5)
    return axes


def _height(box: tuple[Array, Array], below: float) -> float:
    """Of a canvas with a plan of the domain, inches; tall domains are held to a page."""
    size = box[1] - box[0]
    return min(0.82 * WIDTH * size[1] / size[0], 1.6 * WIDTH) + below + 0.08


def shape_figures(shapes: dict[str, Any]) -> list[Figure]:
    """Initial against optimal outline with the optimum's control polygon; also the whole domain where the part is in one.

    Args:
        shapes: content of ``shapes.json``.
    """
    loops = [
        (np.array(before["points"]), np.array(after["points"]))
        for before, after in zip(shapes["initial"]["outlines"], shapes["optimum"]["outlines"], strict=True)
    ]
    moved = [pair for pair in loops if pair[0].shape != pair[1].shape or not np.allclose(*pair)] or loops
    fixed = [after for before, after in loops if not any(before is other for other, _ in moved)]
    polygon = _closed(np.array(shapes["optimum"]["control_points"]))
    unit = shapes["unit"]

    def outlines(axes: Axes) -> None:
        for index, (before, after) in enumerate(moved):
            axes.fill(*after.T, facecolor=AFTER, alpha=0.12, edgecolor="none")
            axes.plot(*_closed(after).T, color=AFTER, lw=1.6, label="" if index else "optimum")
            axes.plot(*_closed(before).T, color=BEFORE, lw=1.2, ls=(0, (4, 2)), label="" if index else "start")

    def detail(canvas: Canvas) -> None:
        axes = _plan(canvas, box, unit, 0.75)
        axes.plot(*polygon.T, color=FAINT, lw=0.8, marker="o", ms=2.5, label="control polygon", zorder=1)
        outlines(axes)
        canvas.legend(loc="lower center", ncols=3, columnspacing=1.2, handlelength=1.6)

    def whole(canvas: Canvas) -> None:
        axes = _plan(canvas, domain, unit, 0.5)
        for outline in fixed:
            axes.plot(*_closed(outline).T, color="#333333", lw=0.9)
        outlines(axes)

    box = _box(np.concatenate([*(np.concatenate(pair) for pair in moved), polygon]))
    alt = "Outline of the start shape, dashed, and of the optimal shape, solid, with the control polygon of the optimum"
    figures = [_drawn("The part: start and optimum", alt, _height(box, 0.75), detail)]
    if fixed:
        domain = _box(np.concatenate([*fixed, *(after for _, after in moved)]))
        alt = "The part, start and optimum, in the whole domain"
        figures.append(_drawn("The part in its domain", alt, _height(domain, 0.5), whole))
    return figures


def _closed(points: Array) -> Array:
    return points if np.array_equal(points[0], points[-1]) else np.concatenate([points, points[:1]])


def triangulation(fields: NodalFields) -> Triangulation:
    """Four linear triangles for each quadratic one, on the same nodes."""
    return Triangulation(*fields.points.T, fields.cells[:, SUBTRIANGLES].reshape(-1, 3))


def boundary(fields: NodalFields) -> list[Array]:
    """(3, 2) polylines first corner, middle, second corner of the edges that only one cell has."""
    edges = fields.cells[:, ((0, 3, 1), (1, 4, 2), (2, 5, 0))].reshape(-1, 3)
    _, index, count = np.unique(np.sort(edges[:, [0, 2]], 1), axis=0, return_index=True, return_counts=True)
    return list(fields.points[edges[index[count == 1]]])


def common_limits(*values: Array) -> tuple[float, float]:
    """One colour scale for several fields; narrower than their range where single peaks would take up most of it."""
    together = np.concatenate(values)
    low, high = float(together.min()), float(together.max())
    inner_low, inner_high = np.quantile(together, [0.005, 0.995]).tolist()
    if high - low > 1.5 * (inner_high - inner_low) > 0:
        low, high = inner_low, inner_high
    return _apart(low, high)


def symmetric_limits(values: Array) -> tuple[float, float]:
    """A colour scale with zero in its middle, up to the largest magnitude."""
    size = float(np.abs(values).max())
    return _apart(-size, size)


def _apart(low: float, high: float) -> tuple[float, float]:
    """Limits that differ by more than rounding, so that a constant field has a colour."""
    room = 1e-9 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > room else (low - room, high + room)


def field_figure(
    title: str, fields: NodalFields, values: Array, limits: tuple[float, float], label: str, unit: str, signed: bool = False
) -> Figure:
    """A nodal field (N,) in colours between ``limits``, beyond which the bar has arrows.

    Args:
        title: above the image.
        fields: the mesh.
        values: nodal values.
        limits: of the colours.
        label: of the colour bar, with its unit.
        unit: of lengths.
        signed: with the diverging colours of differences.
    """
    low, high = limits
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
        int(values.min() < low), int(values.max() > high)
    ]
    box = _box(fields.points, 0.02)

    def draw(canvas: Canvas) -> None:
        axes = _plan(canvas, box, unit, 1.05)
        colours = "RdBu_r" if signed else "viridis"
        filled = axes.tricontourf(
            triangulation(fields),
            values,
            levels=np.linspace(low, high, 41),
            cmap=colours,
            norm=Normalize(low, high),
            extend=extend,
        )
        for line in boundary(fields):
            axes.plot(*line.T, color="#222222", lw=0.8, solid_capstyle="round")
        height = canvas.get_size_inches()[1]
        bar = canvas.colorbar(
            filled, cax=canvas.add_axes((0.15, 0.47 / height, 0.82, 0.1 / height)), orientation="horizontal"
        )
        bar.outline.set_linewidth(0.5)
        bar.locator = MaxNLocator(5)
        bar.formatter.set_powerlimits((-3, 4))
        bar.formatter.set_useMathText(True)
        bar.update_ticks()
        bar.set_label(label, labelpad=2)

    alt = f"{title}: {label} between {values.min():.3g} and {values.max():.3g} on the domain"
    return _drawn(title, alt, _height(box, 1.05), draw, "png")


def convergence_figure(
    title: str,
    traces: Sequence[Trace],
    best: int,
    label: str,
    line: tuple[float, str],
    log: bool = False,
) -> Figure:
    """A quantity over iterations, the best start bold and the others faint.

    Args:
        title: above the image.
        traces: of each start.
        best: index of the best start among them.
        label: of the vertical axis, with its unit.
        line: height and name of a horizontal reference line.
        log: vertical axis in powers of ten.
    """

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_axes((0.19, 0.255, 0.77, 0.69))
        if log:
            axes.set_yscale("log")
        others = [trace for index, trace in enumerate(traces) if index != best]
        for index, trace in enumerate(others):
            name = "" if index else f"other starts ({len(others)})"
            axes.plot(trace.iterations, trace.values, color=FAINT, lw=0.9, label=name)
        bold = traces[best]
        axes.plot(bold.iterations, bold.values, color=AFTER, lw=1.6, marker="o", ms=2.5, label="best start")
        axes.axhline(line[0], color=BEFORE, lw=1.0, ls=(0, (4, 2)), label=line[1], zorder=1)
        if not log:
            axes.set_ylim(*_window(traces, best, line[0]))
            axes.ticklabel_format(useMathText=True, scilimits=(-3, 4))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("iteration", labelpad=1)
        axes.set_ylabel(label, labelpad=2)
        canvas.legend(loc="lower center", ncols=3, columnspacing=0.9, handlelength=1.4, handletextpad=0.5, fontsize=8)

    return _drawn(title, f"{label} over the iterations of {len(traces)} start(s), with {line[1]}", 2.9, draw)


def _window(traces: Sequence[Trace], best: int, line: float) -> tuple[float, float]:
    """Heights that show the best start whole and where the other feasible ones end; wilder values are cut off."""
    ends = [trace.values[-1] for trace in traces if trace.feasible]
    shown = np.concatenate([traces[best].values, ends, [line]])
    low, high = float(shown.min()), float(shown.max())
    room = 0.08 * (high - low) or 0.01 * max(abs(high), 1e-12)
    return low - room, high + room
