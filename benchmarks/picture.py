"""The picture of the README: start and optimum of a finished study, with the speed of the flow by finite elements.

Run as ``python -m benchmarks.picture out/figures/stokes_body docs/stokes_body.png``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyvista
from matplotlib.tri import Triangulation

from shapewright.geometries.mesh.simplex import TRIANGLE


def draw(folder: Path, target: Path) -> None:
    """Draw ``initial.vtu`` and ``optimum.vtu`` of ``folder`` on one colour scale."""
    certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))["objective"]
    panels = (("initial.vtu", "start", certificate["initial_fem"]), ("optimum.vtu", "optimum", certificate["fem"]))
    fields = []
    for name, title, value in panels:
        grid = pyvista.read(folder / name)
        cells = grid.cells_dict[pyvista.CellType.QUADRATIC_TRIANGLE][:, TRIANGLE.subcells].reshape(-1, 3)
        triangles = Triangulation(*grid.points[:, :2].T, cells)
        caption = f"{title}: {certificate['name']} {value:.3f} {certificate['unit']} (FEM)"
        fields.append((caption, triangles, np.linalg.norm(grid.point_data["velocity_fem"], axis=1)))
    levels = np.linspace(0, max(speed.max() for _, _, speed in fields), 33)
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.1), layout="constrained")
    for axis, (caption, triangles, speed) in zip(axes, fields, strict=True):
        filled = axis.tricontourf(triangles, speed, levels=levels, cmap="viridis")
        axis.set(aspect="equal", title=caption, xlabel="x [m]", ylabel="y [m]")
    figure.colorbar(filled, ax=axes, label="speed [m/s]", shrink=0.85)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
