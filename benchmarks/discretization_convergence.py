"""How fast the latent fields of one shape converge as its point cloud is refined.

Run as ``python -m benchmarks.discretization_convergence``; writes ``benchmarks/results/discretization_convergence.md``
and ``.json``. The reference is a Gauss rule on a finer mesh than any of those compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shapewright.app.provenance import provenance
from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.point_cloud import INTERIOR, PointCloud, boundary_cloud, nodal_cloud, sobol_cloud
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.mesh.integration import cell_points
from shapewright.studies.files import write_json, write_text
from shapewright.surrogate.mgno.latent_grid import grid_around
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig

RESULTS = Path(__file__).resolve().parent / "results"
MESH_SIZES = (0.4, 0.2, 0.1)
REFERENCE_SIZE = 0.05
SOBOL_COUNTS = (2**8, 2**10, 2**12, 2**14)
SOBOL_SEEDS = 8


@dataclass(frozen=True)
class Level:
    """A cloud of ``points``, the relative L2 error of its latent fields, and the order against the level before it.

    Orders are in the distance of points, points^(-1/2).
    """

    points: int
    error: float
    order: float | None


def closed_bar_maps(sizes: tuple[float, ...] = (*MESH_SIZES, REFERENCE_SIZE)) -> list[ShapeMap]:
    """The default cross-section on meshes of those cell sizes."""
    family = load_family("closed_bar", {}, Path())
    return [build_shape_map(family, size) for size in sizes]


def gauss_cloud(shape_map: ShapeMap, nodes: Tensor) -> PointCloud:
    """Gauss points of the cells of one design with nodes (1, N, 2)."""
    quadrature = cell_points(shape_map.mesh, nodes)
    points, weights = quadrature.points.flatten(0, 2), quadrature.weights.flatten()
    tags, offsets = torch.full((len(points),), INTERIOR), torch.tensor([0, len(points)])
    return PointCloud(points, weights, torch.zeros_like(points), tags, offsets, shape_map.mesh.tag_names)


class Convergence:
    """A random network and the latent fields that it makes of one shape, known to many more digits than compared."""

    def __init__(self, maps: list[ShapeMap]) -> None:
        *self.maps, finest = maps
        nodes = finest.reference_nodes[None]
        grid = grid_around(nodes[0].amin(0).tolist(), nodes[0].amax(0).tolist(), (24, 24), radius=2)
        torch.manual_seed(0)
        config = OperatorConfig(width=16, hidden=16, modes=(8, 8))
        self.network = MollifiedGraphNeuralOperator(grid, config, 1, len(finest.mesh.tag_names), 1).double()
        self.rim = boundary_cloud(finest, nodes, points_per_side=3)
        self.exact = self._latent(gauss_cloud(finest, nodes), self.rim)

    def _latent(self, interior: PointCloud, boundary: PointCloud) -> Tensor:
        x, y = interior.points.unbind(-1)
        with torch.no_grad():
            return self.network.encode(interior, boundary, torch.sin(3 * x + y)[:, None])

    def _error(self, interior: PointCloud, boundary: PointCloud) -> float:
        return float((self._latent(interior, boundary) - self.exact).norm() / self.exact.norm())

    def mesh_nodes(self) -> list[Level]:
        """Nodes and two Gauss points per facet of ever finer meshes."""
        pairs = [(m, m.reference_nodes[None]) for m in self.maps]
        clouds = [(nodal_cloud(m, nodes), boundary_cloud(m, nodes)) for m, nodes in pairs]
        return list(_levels([(len(inner.points), self._error(inner, outer)) for inner, outer in clouds]))

    def sobol_points(self, counts: tuple[int, ...] = SOBOL_COUNTS, seeds: int = SOBOL_SEEDS) -> list[Level]:
        """Ever more Sobol points in the cells of the finest mesh compared; root mean square over scramblings."""
        shape_map, errors = self.maps[-1], []
        nodes = shape_map.reference_nodes[None]
        for count in counts:
            squares = [self._error(sobol_cloud(shape_map, nodes, count, seed), self.rim) ** 2 for seed in range(seeds)]
            errors.append((count, math.sqrt(sum(squares) / seeds)))
        return list(_levels(errors))


def _levels(errors: list[tuple[int, float]]) -> Iterator[Level]:
    yield Level(*errors[0], None)
    for (few, large), (many, small) in itertools.pairwise(errors):
        yield Level(many, small, 2 * math.log(large / small) / math.log(many / few))


def main() -> None:
    """Measure, print, write."""
    study = Convergence(closed_bar_maps())
    rows = {"mesh nodes": study.mesh_nodes(), "Sobol points": study.sobol_points()}
    machine = provenance("cpu", 0)
    text = [
        "# Discretization convergence",
        "",
        "Measured by `python -m benchmarks.discretization_convergence`: relative L2 error of the latent fields of a",
        "random network on the default `closed_bar`; orders in the distance of points. With mesh nodes the boundary's",
        f"Gauss points are refined as well; Sobol errors are root mean squares over {SOBOL_SEEDS} scramblings.",
        "",
        "| cloud | points | error | order |",
        "|---|---|---|---|",
    ]
    for name, levels in rows.items():
        for n in levels:
            order = "" if n.order is None else f"{n.order:.2f}"
            text.append(f"| {name} | {n.points} | {n.error:.2e} | {order} |")
    flat = [{"cloud": name, **vars(level)} for name, levels in rows.items() for level in levels]
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / "discretization_convergence.json", {"machine": machine, "rows": flat})
    write_text(RESULTS / "discretization_convergence.md", "\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
