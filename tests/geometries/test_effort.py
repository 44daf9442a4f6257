"""Promise: what a mesh would take is told before it is made; beyond a limit it is made only where asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shapewright.geometries.cad.mesher import mesh_family
from shapewright.geometries.family import effort
from shapewright.geometries.family.catalogue import builtin_families
from shapewright.geometries.family.effort import estimated_nodes, forcing, mesh_fault
from shapewright.geometries.mesh.mesh import MeshError
from tests.geometries.shapes import family


@pytest.mark.parametrize("name", builtin_families())
def test_the_estimate_is_that_of_the_mesher(name):
    of = builtin_families()[name]()
    points = of.control_points(of.reference).numpy()
    size = float(np.ptp(points, axis=0).min()) / 30
    assert len(mesh_family(of, points, size).nodes) == pytest.approx(estimated_nodes(of, points, size), rel=0.15)


@pytest.mark.parametrize("size", [1e-4, 1e-9, 1e-300, 5e-324])
def test_cells_that_would_never_end_are_refused_at_once(size):
    of = family("body_in_channel")
    points = of.control_points(of.default).numpy()
    with pytest.raises(MeshError, match=r"cells of size .* make about .* nodes, .* memory; the limit is 500000 nodes"):
        mesh_family(of, points, size)


def test_the_estimate_goes_with_the_square_of_the_cells_and_not_with_the_unit():
    of = family("closed_bar")
    points = of.control_points(of.default).numpy()
    assert estimated_nodes(of, points, 1e-3) == pytest.approx(4 * estimated_nodes(of, points, 2e-3), rel=1e-2)
    for scale in (1e-6, 1e6):
        assert estimated_nodes(of, scale * points, 0.01 * scale) == pytest.approx(estimated_nodes(of, points, 0.01))
    area = float(of.part_quadrature.area(of.part_points(of.default)))
    assert estimated_nodes(of, points, 1e-3) == pytest.approx(8 / math.sqrt(3) * area / 1e-6, rel=1e-2)


def test_force_lifts_the_limit_within_its_block(monkeypatch):
    monkeypatch.setattr(effort, "MOST_NODES", 100)
    of = family("closed_bar")
    points = of.control_points(of.default).numpy()
    assert "--force" in mesh_fault(of, points, 0.2)
    with forcing(), forcing(False):  # what an outer block allows, an inner one does not take back
        assert mesh_fault(of, points, 0.2) is None
        assert len(mesh_family(of, points, 0.2).nodes) > 100
    assert "--force" in mesh_fault(of, points, 0.2)
