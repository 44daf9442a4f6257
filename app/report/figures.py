"""Figures of the shape and of the optimizer's path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from shapewright.app.report.canvas import AFTER, BEFORE, FAINT, Array, Figure, drawn, frame, plan, plan_height
from shapewright.app.report.data import Shapes

CURVES = 0.19, 0.255, 0.77, 0.69
"""Axes of curves in shares of the canvas: room for labels on the left, and for a label and the legend below."""


@dataclass(frozen=True)
class Trace:
    """A quantity over the iterations of one start; ``feasible`` when it ended with all constraints met."""

    iterations: Array
    values: Array
    feasible: bool


def outlines(shapes: Shapes) -> tuple[list[tuple[Array, Array]], list[Array]]:
    """Loops that the optimizer moved, as (n, 2) before and after, and those that stayed; if none moved, all did."""
    loops = [
        (np.array(before.points), np.array(after.points))
        for before, after in zip(shapes.initial.outlines, shapes.optimum.outlines, strict=True)
    ]
    stayed = [before.shape == after.shape and np.allclose(before, after) for before, after in loops]
    if all(stayed):
        return loops, []
    moved = [loop for loop, stays in zip(loops, stayed, strict=True) if not stays]
    return moved, [after for (_, after), stays in zip(loops, stayed, strict=True) if stays]


def shape_figures(shapes: Shapes) -> list[Figure]:
    """Initial against optimal outline with the optimum's control polygon, and the part in its domain."""
    moved, fixed = outlines(shapes)
    polygon = _closed(np.array(shapes.optimum.control_points))
    unit = shapes.unit

    def draw_part(axes: Axes) -> None:
        for index, (before, after) in enumerate(moved):
            axes.fill(*after.T, facecolor=AFTER, alpha=0.12, edgecolor="none")
            axes.plot(*_closed(before).T, color=BEFORE, lw=1.2, ls=(0, (4, 2)), label="" if index else "start")
            axes.plot(*_closed(after).T, color=AFTER, lw=1.6, label="" if index else "optimum")

    def detail(canvas: Canvas) -> None:
        axes = plan(canvas, window, unit, 0.75)
        draw_part(axes)
        axes.plot(*polygon.T, color=FAINT, lw=0.8, marker="o", ms=2.5, label="control polygon")
        canvas.legend(loc="lower center", ncols=3, columnspacing=1.2, handlelength=1.6)

    def whole(canvas: Canvas) -> None:
        axes = plan(canvas, domain, unit, 0.5)
        for outline in fixed:
            axes.plot(*_closed(outline).T, color="#333333", lw=0.9)
        draw_part(axes)

    window = frame(np.concatenate([*(np.concatenate(pair) for pair in moved), polygon]))
    alt = "Outline of the start shape, dashed, and of the optimal shape, solid, with the control polygon of the optimum"
    figures = [drawn("The part: start and optimum", alt, plan_height(window, 0.75), detail)]
    if fixed:
        domain = frame(np.concatenate([*fixed, *(after for _, after in moved)]))
        alt = "The part, start and optimum, in the whole domain"
        figures.append(drawn("The part in its domain", alt, plan_height(domain, 0.5), whole))
    return figures


def _closed(points: Array) -> Array:
    return points if np.array_equal(points[0], points[-1]) else np.concatenate([points, points[:1]])


def profile_figure(title: str, before: Array, after: Array) -> Figure:
    """A quantity around a boundary, (n, 2) angles in degrees and values, at the start and at the optimum."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_axes(CURVES)
        axes.plot(*before.T, color=BEFORE, lw=1.2, ls=(0, (4, 2)), label="start")
        axes.plot(*after.T, color=AFTER, lw=1.6, label="optimum")
        axes.set_xlim(0, 360)
        axes.set_xticks(range(0, 361, 90))
        axes.set_xlabel("angle about the middle [degrees from x]", labelpad=1)
        axes.set_ylabel("quantity", labelpad=2)
        canvas.legend(loc="lower center", ncols=2, columnspacing=1.2, handlelength=1.6)

    return drawn(title, f"{title}, start dashed and optimum solid", 2.9, draw)


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
        axes = canvas.add_axes(CURVES)
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

    return drawn(title, f"{label} over the iterations of {len(traces)} start(s), with {line[1]}", 2.9, draw)


def _window(traces: Sequence[Trace], best: int, line: float) -> tuple[float, float]:
    """Heights that show the best start whole and where the other feasible ones end; wilder values are cut off."""
    ends = [trace.values[-1] for trace in traces if trace.feasible]
    shown = np.concatenate([traces[best].values, ends, [line]])
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    room = 0.08 * (high - low) or 0.01 * max(abs(high), 1e-12)
    return low - room, high + room
