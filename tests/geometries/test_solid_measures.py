"""Measures of solids: known values of ball and beam, and derivatives of all of them by their Taylor remainders."""

from __future__ import annotations

import math

import pytest
import torch
from OCP.BRepPrimAPI import BRepPrimAPI_MakeBox

from shapewright.geometries.cad.shipped import BALL_RADIUS
from shapewright.geometries.cad.solid_mesher import MeshOptions, mesh_solid
from shapewright.geometries.cad.step import CadShape
from shapewright.geometries.design.free_form import free_form
from shapewright.geometries.design.lattice import Lattice
from shapewright.geometries.design.solid_map import SolidMap
from shapewright.geometries.design.solid_measures import SOLID_QUANTITIES, second_moments
from tests.geometries.shapes import taylor_order
from tests.geometries.solids import design, form, part, solid_map


def measured(name: str, mapped: SolidMap, theta: torch.Tensor) -> torch.Tensor:
    return SOLID_QUANTITIES[name].evaluate(mapped, theta)


def test_a_ball():
    """Volume 4/3 pi r^3, area 4 pi r^2, inertia 2/5 V r^2; coarse quadratic cells miss a few thousandths."""
    mapped = SolidMap(form("ball"), mesh_solid(part("ball"), {}, MeshOptions(0.25, curvature=0)).mesh)
    at = mapped.form.default
    assert float(measured("volume", mapped, at)) == pytest.approx(1.0, rel=2e-3)
    assert float(measured("surface_area", mapped, at)) == pytest.approx(4 * math.pi * BALL_RADIUS**2, rel=2e-3)
    for axis in "xyz":
        assert float(measured(f"inertia_{axis}", mapped, at)) == pytest.approx(0.4 * BALL_RADIUS**2, rel=5e-3)
        assert abs(float(measured(f"centroid_{axis}", mapped, at))) < 1e-4


def test_a_beam_with_a_hole():
    """A box of a x b x c has inertia m (b^2 + c^2) / 12; the hole along y is taken off."""
    mapped = solid_map("cantilever")
    at, hole, radius = mapped.form.default, math.pi * 36 * 20, 6.0
    expected = {
        "volume": 60000 - hole,
        "surface_area": 2 * (100 * 20 + 100 * 30 + 20 * 30) - 2 * math.pi * 36 + 2 * math.pi * 6 * 20,
        "centroid_x": 50.0,
        "centroid_y": 10.0,
        "centroid_z": 15.0,
        "inertia_x": 60000 * (20**2 + 30**2) / 12 - hole * (radius**2 / 4 + 20**2 / 12),
        "inertia_y": 60000 * (100**2 + 30**2) / 12 - hole * radius**2 / 2,
        "inertia_z": 60000 * (100**2 + 20**2) / 12 - hole * (radius**2 / 4 + 20**2 / 12),
    }
    for name, value in expected.items():
        assert float(measured(name, mapped, at)) == pytest.approx(value, rel=2e-3), name
    moments = second_moments(mapped, at)
    torch.testing.assert_close(moments, moments.mT)


@pytest.mark.parametrize("name", SOLID_QUANTITIES)
def test_quantities_are_differentiable_and_batched(name):
    mapped = solid_map("cantilever")
    theta, along = design(mapped.form, 1, 0.3), design(mapped.form, 2)
    steps = (1e-2, 3e-3, 1e-3, 3e-4)  # smooth minima turn fast
    assert taylor_order(lambda at: measured(name, mapped, at)[None], theta, along, steps) > 1.9
    both = measured(name, mapped, torch.stack([along, theta]))
    torch.testing.assert_close(both[1], measured(name, mapped, theta), rtol=1e-12, atol=0)


def test_a_stretched_ball():
    """All control points of each side moved out: F is smooth, so the moments grow with the stretch of their axis."""
    mapped = solid_map("ball")
    lattice = mapped.form.lattice
    outwards = [
        math.copysign(1.0, position[axis]) * (abs(position[axis]) > 1e-9) * (axis == 2)
        for position in lattice.positions
        for axis in range(3)
    ]
    order = {p.name: k for k, p in enumerate(mapped.form.parameters)}
    theta = mapped.form.default
    for column, value in enumerate(outwards):
        rows = (column // 3 // 9, column // 3 // 3 % 3, column // 3 % 3)
        theta[order["xyz"[column % 3] + "_" + "_".join(map(str, rows))]] = 0.05 * value
    before, after = (second_moments(mapped, at).diagonal() for at in (mapped.form.default, theta))
    assert float(after[2] / before[2]) > 1.1
    assert float(after[0] / before[0]) == pytest.approx(float(after[1] / before[1]), rel=0.02)


@pytest.mark.parametrize(("name", "size", "least"), [("cantilever", 8.0, 9.0), ("link", 6.0, 7.0)])
def test_the_thinnest_wall(name, size, least):
    """Over the hole of the beam 9 mm, around the eyes of the link 7 mm."""
    mapped = SolidMap(form(name), mesh_solid(part(name), {}, MeshOptions(size)).mesh)
    assert 0.88 * least < float(measured("thickness", mapped, mapped.form.default)) < 1.05 * least


def test_a_plate_of_2_mm():
    plate = CadShape(BRepPrimAPI_MakeBox(20.0, 20.0, 2.0).Shape())
    mesh = mesh_solid(plate, {}, MeshOptions(3.0)).mesh
    low, high = (0.0, 0.0, 0.0), (20.0, 20.0, 2.0)
    stretch = free_form(Lattice(low, high, (1, 1, 2), 2.0, ("z",)), (), torch.from_numpy(mesh.nodes))
    mapped = SolidMap(stretch, mesh)
    walls = [float(measured("thickness", mapped, torch.tensor([0.0, up], dtype=torch.float64))) for up in (0.0, 1.0)]
    assert 0.88 * 2.0 < walls[0] <= 2.0
    tops = mapped.nodes(torch.tensor([0.0, 1.0], dtype=torch.float64))[:, 2]
    assert walls[1] / walls[0] == pytest.approx(float(tops.max() - tops.min()) / 2.0, rel=0.02)
