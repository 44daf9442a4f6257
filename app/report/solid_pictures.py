"""Pictures of solids by pyvista, off-screen: stress before and after, motion, section, and a view that turns."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyvista as pv
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from pyvista.plotting._typing import ScalarBarArgs

Array = NDArray[np.float64]
SIZE = (760, 560)
"""Pixels of a picture."""
FRAMES = 24
"""Pictures of the view that turns."""
FRAME_SIZE = (560, 460)
QUADRATIC_TETRAHEDRON = 24
"""VTK's number of it, whose order of nodes is that of our meshes."""
Colours = Literal["turbo", "RdBu_r"]
COLOURS: Colours = "turbo"


@dataclass(frozen=True)
class SolidState:
    """A solid with its nodal fields, as it is drawn.

    Attributes:
        nodes: (N, 3) positions.
        cells: (M, 10) nodes of the cells.
        scalar: (N,) what is coloured.
        displacement: (N, 3) of the load case, or zeros.
    """

    nodes: Array
    cells: NDArray[np.int64]
    scalar: Array
    displacement: Array

    def grid(self, magnified: float = 0.0) -> pv.UnstructuredGrid:
        """The mesh with ``scalar``, displaced by ``magnified`` times the displacement."""
        cells = np.hstack([np.full((len(self.cells), 1), 10), self.cells]).ravel()
        types = np.full(len(self.cells), QUADRATIC_TETRAHEDRON, dtype=np.uint8)
        grid = pv.UnstructuredGrid(cells, types, self.nodes + magnified * self.displacement)
        grid.point_data["scalar"] = self.scalar
        return grid


def coloured(
    state: SolidState, title: str, limits: tuple[float, float], magnified: float = 0.0, colours: Colours = COLOURS
) -> str:
    """The surface coloured by the scalar; a data address of a PNG."""

    def draw(plotter: pv.Plotter) -> None:
        surface = _surface(state.grid(magnified))
        plotter.add_mesh(surface, scalars="scalar", clim=limits, cmap=colours, smooth_shading=True,
                         scalar_bar_args=_bar(title))  # fmt: skip

    return _picture(draw)


def section(state: SolidState, title: str, limits: tuple[float, float], axis: Literal["x", "y", "z"]) -> str:
    """The half behind a plane through the middle across an axis."""

    def draw(plotter: pv.Plotter) -> None:
        clipped = state.grid().clip(normal=axis, origin=tuple(_middle(state.nodes)), crinkle=False)
        plotter.add_mesh(clipped, scalars="scalar", clim=limits, cmap=COLOURS, scalar_bar_args=_bar(title))

    return _picture(draw)


def before_and_after(initial: SolidState, final: SolidState) -> str:
    """The optimum, with the edges of the part as it came around it."""

    def draw(plotter: pv.Plotter) -> None:
        plotter.add_mesh(_surface(final.grid()), color="#5b8db8", smooth_shading=True)
        plotter.add_mesh(_surface(initial.grid()), color="#d9822b", opacity=0.25, smooth_shading=True)

    return _picture(draw)


def turning(state: SolidState, limits: tuple[float, float]) -> list[str]:
    """Pictures of the solid from all around, for a page in which it is turned; data addresses of JPEG."""
    frames = []
    with _plotter(FRAME_SIZE) as plotter:
        plotter.add_mesh(_surface(state.grid()), scalars="scalar", clim=limits, cmap=COLOURS, smooth_shading=True,
                         show_scalar_bar=False)  # fmt: skip
        _look(plotter)
        for _ in range(FRAMES):
            plotter.camera.Azimuth(360 / FRAMES)
            plotter.renderer.ResetCameraClippingRange()
            frames.append(_address(plotter, "JPEG"))
    return frames


def _surface(grid: pv.UnstructuredGrid) -> pv.PolyData:
    return grid.extract_surface(nonlinear_subdivision=1, algorithm="dataset_surface").compute_normals(
        feature_angle=40, split_vertices=True
    )


def _middle(nodes: Array) -> Array:
    return (nodes.min(0) + nodes.max(0)) / 2


def _bar(title: str) -> ScalarBarArgs:
    return {
        "title": title, "n_labels": 5, "fmt": "%.3g", "color": "black", "title_font_size": 14,
        "vertical": True, "position_x": 0.87, "position_y": 0.2, "height": 0.6, "width": 0.06,
    }  # fmt: skip


def _picture(draw: Callable[[pv.Plotter], None]) -> str:
    with _plotter(SIZE) as plotter:
        draw(plotter)
        _look(plotter)
        return _address(plotter, "PNG")


@contextmanager
def _plotter(size: tuple[int, int]) -> Iterator[pv.Plotter]:
    with _quiet():
        plotter = pv.Plotter(off_screen=True, window_size=list(size))
        plotter.renderers.set_background("white")
        try:
            yield plotter
        finally:
            plotter.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep VTK's remarks about a missing display, which go past Python, from the terminal."""
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


def _look(plotter: pv.Plotter) -> None:
    plotter.renderer.view_isometric()
    plotter.camera.zoom(0.95)


def _address(plotter: pv.Plotter, kind: str) -> str:
    """What the plotter shows now, as a data address."""
    data, image = io.BytesIO(), plotter.screenshot(return_img=True)
    assert image is not None  # it was asked for
    picture = Image.fromarray(image)
    if kind == "JPEG":
        picture.save(data, kind, quality=80)
    else:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=200).save(data, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
