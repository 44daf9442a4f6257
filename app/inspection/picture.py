"""A picture of a solid from four corners, each face in its colour and with its number where it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from shapewright.geometries.cad.facets import Facets
from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.simplex import Array

PALETTE = ("#8fb8de", "#f2b880", "#a8d5a2", "#d9a5c9", "#e8d87a", "#9bd0cb", "#c8b6e2", "#eaa19a", "#b9c6d0", "#c9d98f")
"""Colours of faces, in turn."""
WINDOW = (1000, 750)
"""Pixels of one view."""
VIEWS = ((1.0, -1.3, 0.8), (-1.0, 1.3, 0.8), (1.0, 1.3, -0.8), (-1.0, -1.3, -0.8))
"""Directions from which the part is seen: every side twice."""
LEAST_PIXELS = 40
"""Of a face that gets a number."""

Image = NDArray[np.uint8]


def face_colour(number: int) -> str:
    """Colour of a face by its number."""
    return PALETTE[(number - 1) % len(PALETTE)]


def write_picture(facets: Sequence[Facets], lines: Sequence[Array], path: Path) -> None:
    """Draw a solid off-screen into a PNG file."""
    figure = Figure(figsize=(2 * WINDOW[0] / 100, 2 * WINDOW[1] / 100), dpi=100)
    FigureCanvasAgg(figure)
    for index, view in enumerate(VIEWS):
        with pyvista.vtk_verbosity("off"):  # it says that there is no display, and goes on without
            image, numbers = _render(facets, lines, view), _render_numbers(facets, view)
        axes = figure.add_axes((index % 2 / 2, 0.5 - index // 2 / 2, 0.5, 0.5))
        axes.imshow(image)
        axes.set_axis_off()
        for number, (row, column) in visible_faces(numbers).items():
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
            axes.text(column, row, str(number), ha="center", va="center", fontsize=13, bbox=box)
    with written_whole(path) as part:
        figure.savefig(part)


def visible_faces(numbers: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """For each face that is seen in an image of the numbers of faces, the pixel of it farthest from all others."""
    found = {}
    for number in np.unique(numbers[numbers > 0]).tolist():
        own = np.pad(numbers == number, 1)
        if own.sum() >= LEAST_PIXELS:
            row, column = np.unravel_index(int(distance_transform_edt(own).argmax()), own.shape)
            found[number] = (int(row) - 1, int(column) - 1)
    return found


def _render(facets: Sequence[Facets], lines: Sequence[Array], view: tuple[float, float, float]) -> Image:
    plotter = _plotter()
    for number, own in enumerate(facets, start=1):
        plotter.add_mesh(_surface(own), color=face_colour(number), ambient=0.25, diffuse=0.75)
    for line in lines:
        plotter.add_mesh(pyvista.lines_from_points(line), color="#333333", line_width=1.5)
    plotter.add_axes(xlabel="x", ylabel="y", zlabel="z")
    return _image(plotter, view)


def _render_numbers(facets: Sequence[Facets], view: tuple[float, float, float]) -> NDArray[np.int64]:
    """(rows, columns) number of the face that is seen at each pixel, 0 for none."""
    plotter = _plotter()
    plotter.set_background("black")
    plotter.disable_anti_aliasing()
    for number, own in enumerate(facets, start=1):
        colour = (number % 256 / 255, number // 256 / 255, 1.0)
        plotter.add_mesh(_surface(own), color=colour, lighting=False)
    red, green, blue = np.moveaxis(_image(plotter, view).astype(np.int64), -1, 0)
    return np.where(blue == 255, red + 256 * green, 0)


def _plotter() -> Any:  # its methods have no types that a checker could follow
    plotter: Any = pyvista.Plotter(off_screen=True, window_size=list(WINDOW))
    plotter.set_background("white")
    return plotter


def _image(plotter: Any, view: tuple[float, float, float]) -> Image:
    plotter.enable_parallel_projection()
    plotter.view_vector(view, viewup=(0.0, 0.0, 1.0))
    image = plotter.screenshot(return_img=True)
    plotter.close()
    return np.asarray(image)[..., :3]


def _surface(own: Facets) -> pyvista.PolyData:
    return pyvista.PolyData(own.points, faces=np.insert(own.triangles, 0, 3, axis=1).ravel())
