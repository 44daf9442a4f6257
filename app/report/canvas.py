"""What all figures of the report share: style, size, and the way into the page as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

Array = NDArray[np.float64]
Window = tuple[Array, Array]
"""Lower and upper corner, each (2,)."""

STYLE: dict[RcKeyType, Any] = {
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
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
"""Dublin Core entries of an SVG, left out: their vocabulary is given by addresses."""
BEFORE, AFTER, FAINT = "#b4541a", "#1b4f8a", "#a9b1ba"
WIDTH = 3.7
"""Of a figure in inches; 350 pixels of a page, so that three stand beside each other and one fills a phone."""


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


def drawn(title: str, alt: str, height: float, draw: Callable[[Canvas], None], kind: str = "svg") -> Figure:
    """A figure of ``height`` inches that ``draw`` fills, as SVG, or as PNG where it has thousands of shapes."""
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, height))
        draw(canvas)
        buffer = BytesIO()
        canvas.savefig(buffer, format=kind, dpi=200, metadata=NO_METADATA if kind == "svg" else None)
    image = buffer.getvalue()
    if kind == "svg":
        image = image[image.index(b"<svg") :]  # without the document type, which names an address
    media = "image/svg+xml" if kind == "svg" else "image/png"
    return Figure(title, f"data:{media};base64,{base64.b64encode(image).decode()}", alt)


def frame(points: Array, margin: float = 0.04) -> Window:
    """Lower and upper corner around points (n, 2), widened by a share of the larger side."""
    low, high = points.min(0), points.max(0)
    gap = margin * (high - low).max()
    return low - gap, high + gap


def plan(canvas: Canvas, window: Window, length_unit: str, below: float) -> Axes:
    """Axes of equal scale for a plan of the domain, ``below`` inches above the canvas's bottom."""
    height = canvas.get_size_inches()[1]
    axes = canvas.add_axes((0.15, below / height, 0.79, (height - below - 0.08) / height))
    axes.set(xlim=(window[0][0], window[1][0]), ylim=(window[0][1], window[1][1]), aspect="equal")
    axes.set_anchor("N")
    axes.set_xlabel(f"x [{length_unit}]", labelpad=1)
    axes.set_ylabel(f"y [{length_unit}]", labelpad=1)
    axes.locator_params(nbins=5)
    return axes


def plan_height(window: Window, below: float) -> float:
    """Of a canvas with a plan of the domain, inches; tall domains are held to a page."""
    size = window[1] - window[0]
    return min(0.79 * WIDTH * size[1] / size[0], 1.6 * WIDTH) + below + 0.08
