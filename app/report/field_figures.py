"""Nodal fields on quadratic triangles in colours."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from matplotlib.tri import Triangulation

from shapewright.app.report.canvas import Array, Figure, drawn, frame, plan, plan_height
from shapewright.app.report.data import NodalFields
from shapewright.geometries.mesh.simplex import TRIANGLE


def triangulation(fields: NodalFields) -> Triangulation:
    """Four linear triangles for each quadratic one, on the same nodes."""
    x, y = fields.points.T
    return Triangulation(x, y, fields.cells[:, TRIANGLE.subcells].reshape(-1, 3))


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
    return _distinct(low, high)


def symmetric_limits(values: Array) -> tuple[float, float]:
    """A colour scale with zero in its middle, up to the largest magnitude."""
    size = float(np.abs(values).max())
    return _distinct(-size, size)


def peak_text(when: str, fields: NodalFields, values: Array, unit: str, length_unit: str) -> str:
    """The largest of nodal values (N,) with its unit and position, for a sentence."""
    x, y = fields.points[int(values.argmax())]
    return f"{float(values.max()):.4g} {unit} at ({x:.4g}, {y:.4g}) {length_unit} at the {when}"


def _distinct(low: float, high: float) -> tuple[float, float]:
    """Limits that differ by more than rounding, so that a constant field has a colour."""
    room = 1e-9 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > room else (low - room, high + room)


def field_figure(
    title: str,
    fields: NodalFields,
    values: Array,
    limits: tuple[float, float],
    label: str,
    unit: str,
    signed: bool = False,
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
    window = frame(fields.points, 0.02)

    def draw(canvas: Canvas) -> None:
        axes = plan(canvas, window, unit, 1.05)
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
            filled, cax=canvas.add_axes((0.15, 0.47 / height, 0.79, 0.1 / height)), orientation="horizontal"
        )
        bar.outline.set_linewidth(0.5)
        bar.locator = MaxNLocator(5)
        powers = ScalarFormatter(useMathText=True)
        powers.set_powerlimits((-3, 4))
        bar.formatter = powers
        bar.update_ticks()
        bar.set_label(label, labelpad=2)

    alt = f"{title}: {label} between {values.min():.3g} and {values.max():.3g} on the domain"
    return drawn(title, alt, plan_height(window, 1.05), draw, "png")
