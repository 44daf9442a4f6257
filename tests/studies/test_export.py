"""Promise: the CAD is the design, the VTU is the field, and nothing of an earlier design stays beside them."""

import math
from pathlib import Path

import numpy as np
import pytest
import pyvista
import torch
import trimesh
from pyvista import CellType

from shapewright.geometries.cad.step import check_step
from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.studies.certify import export
from shapewright.studies.certify.export import export_cad, field_arrays, shape_data, write_vtu
from shapewright.studies.certify.refinement import refine, step_mesher
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import load_study
from tests.studies.study_cases import setup_of

FACE = "geometry.thickness=null"


@pytest.fixture(scope="module")
def setup():
    return setup_of()


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
def test_the_solid_is_area_times_thickness_in_every_unit(tmp_path, unit):
    setup = setup_of(f"geometry.length_unit={unit}")
    exported = export_cad(setup, setup.initial, tmp_path)
    area = float(setup.quantity("area", setup.initial))
    assert exported.measure == pytest.approx(0.5 * area, rel=1e-14)
    assert exported.check.solid
    assert exported.check.valid
    assert exported.relative_error < 1e-6
    assert exported.check.max_deviation < 1e-9
    assert exported.check.b_spline_edges > 0
    assert exported.files == ("optimum.step", "optimum.brep", "optimum.stl")
    assert b"B_SPLINE_CURVE_WITH_KNOTS" in (tmp_path / "optimum.step").read_bytes()


@pytest.mark.parametrize("scale", [1e-6, 1e-5, 5e-4, 1e6])
def test_parts_from_a_micrometre_to_a_thousand_kilometres(tmp_path, scale):
    """All files of a body in its channel; the certificate's limits are relative to the part."""
    options = f"{{length: {2 * scale}, height: {scale}, radius: {0.15 * scale}, center: [{scale}, {0.5 * scale}]}}"
    study = tmp_path / "s.yaml"
    study.write_text(
        "name: s\n"
        f"geometry: {{family: body_in_channel, options: {options}, mesh_size: {0.1 * scale},"
        f" thickness: {0.2 * scale}}}\n"
        "physics:\n  name: poisson\n  source: {u: 1.0}\n  dirichlet: [{on: [wall, body], u: 0.0}]\n"
        "objective: {maximize: torsional_constant}\n"
    )
    setup = build_setup(load_study(study))
    exported = export_cad(setup, setup.initial, tmp_path)
    assert exported.check.valid
    assert exported.relative_error < 1e-9
    assert exported.domain_error < 1e-9
    assert exported.check.max_deviation < 1e-9 * scale
    assert exported.stl.watertight
    assert exported.stl.consistent_winding
    assert exported.stl.volume == pytest.approx(exported.measure, rel=0.02)
    mesher = step_mesher(setup, setup.initial, tmp_path / "optimum.step")
    refined = refine(setup, setup.initial, mesher).levels["torsional_constant"]
    assert refined[-1].value == pytest.approx(refined[-2].value, rel=1e-3)
    assert refined[-1].value == pytest.approx(0.209283 * scale**4, rel=1e-4)  # that of size one
    at_one = math.pi * 0.15**2
    assert exported.check.measure == pytest.approx(0.2 * at_one * scale**3, rel=1e-3)


def test_the_stl_is_a_closed_solid_of_the_right_volume(setup, tmp_path):
    exported = export_cad(setup, setup.initial, tmp_path)
    solid = trimesh.load(tmp_path / "optimum.stl")
    assert solid.is_watertight
    assert exported.stl.watertight
    assert exported.stl.consistent_winding
    assert 0 < 1 - solid.volume / exported.measure < 5e-3  # chords of a convex section lie inside


def test_a_face_has_no_stl_and_removes_that_of_an_earlier_solid(setup, tmp_path):
    export_cad(setup, setup.initial, tmp_path)
    exported = export_cad(setup_of(FACE), setup.initial, tmp_path)
    assert not exported.check.solid
    assert exported.stl is None
    assert exported.files == ("optimum.step", "optimum.brep")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(exported.files)
    assert exported.check.measure == pytest.approx(float(setup.quantity("area", setup.initial)), rel=1e-6)


def test_what_paraview_reads_is_what_was_written(setup, tmp_path):
    """Also between the nodes: the quadratic field interpolates exactly at a cell's own mid-side nodes."""
    mesh = setup.shape_map.mesh
    values = np.sin(mesh.nodes[:, 0]) + mesh.nodes[:, 1]
    write_vtu(tmp_path / "a.vtu", mesh, {"u": values, "v": np.stack([values, -values], -1)})
    grid = pyvista.read(tmp_path / "a.vtu")
    assert set(grid.celltypes) == {CellType.QUADRATIC_TRIANGLE}
    np.testing.assert_array_equal(grid.points[:, :2], mesh.nodes)
    np.testing.assert_array_equal(grid.point_data["u"], values)
    np.testing.assert_array_equal(grid.point_data["v"], np.stack([values, -values, 0 * values], -1))
    area = float(nodal_weights(mesh, torch.from_numpy(mesh.nodes)).sum())
    assert grid.triangulate().area == pytest.approx(area, rel=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vtu"]


def test_a_vtu_that_is_not_whole_is_an_error_and_leaves_the_old_one(setup, tmp_path, monkeypatch):
    mesh = setup.shape_map.mesh
    write_vtu(tmp_path / "a.vtu", mesh, {})
    before = (tmp_path / "a.vtu").read_bytes()

    def cut(self, path):
        path.write_bytes(before[: len(before) // 2])

    monkeypatch.setattr(export.pyvista.UnstructuredGrid, "save", cut)
    with pytest.raises(OSError, match="could not be written whole"):
        write_vtu(tmp_path / "a.vtu", mesh, {"u": np.zeros(len(mesh.nodes))})
    assert (tmp_path / "a.vtu").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.vtu"]


def test_vector_fields_are_also_vectors(tmp_path):
    study = tmp_path / "s.yaml"
    study.write_text(
        "name: s\n"
        "geometry: {family: body_in_channel, mesh_size: 0.2}\n"
        "physics:\n  name: stokes\n  dirichlet:\n    - {on: inlet, u: 1.0, v: 0.0}\n"
        "    - {on: [wall, body], u: 0.0, v: 0.0}\n"
        "objective: {minimize: dissipation}\n"
    )
    setup = build_setup(load_study(study))
    fields = np.arange(12.0).reshape(4, 3)
    arrays = field_arrays(setup, fields, "fem")
    assert list(arrays) == ["u_fem", "v_fem", "velocity_fem", "p_fem"]
    np.testing.assert_array_equal(arrays["velocity_fem"], fields[:, :2])
    np.testing.assert_array_equal(arrays["p_fem"], fields[:, 2])
    drawn = shape_data(setup, setup.initial)
    assert len(drawn["outlines"]) == 2
    for outline in drawn["outlines"]:
        np.testing.assert_allclose(outline["points"][0], outline["points"][-1], atol=0.2)


def test_outlines_are_drawn_closed_and_around_the_area(setup):
    drawn = shape_data(setup, setup.initial)
    (outline,) = drawn["outlines"]
    x, y = np.array(outline["points"]).T
    shoelace = 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    assert outline["tag"] == "wall"
    assert shoelace == pytest.approx(float(setup.quantity("area", setup.initial)), rel=5e-3)
    assert len(drawn["control_points"]) == 6
    assert math.hypot(*drawn["control_points"][0]) == pytest.approx(float(setup.initial[0]))


@pytest.mark.parametrize("thickness", ["1.0", "null"])
def test_a_plate_is_written_with_its_hole(tmp_path, thickness):
    """Its curves are those of the design, and its area is the plate's less the hole's."""
    study = Path(__file__).parents[2] / "studies" / "plate_hole.yaml"
    plate = build_setup(load_study(study, (f"geometry.thickness={thickness}", "geometry.mesh_size=0.4")))
    exported = export_cad(plate, plate.initial, tmp_path)
    assert "domain.step" in exported.files
    control_points = plate.family.control_points(plate.initial).numpy()
    domain = check_step(tmp_path / "domain.step", plate.family, control_points, "mm")
    assert domain.valid
    assert domain.solid is (thickness == "1.0")
    assert domain.measure == pytest.approx(144.0 - float(plate.quantity("area", plate.initial)), rel=1e-9)
    assert domain.max_deviation < 1e-9
    assert exported.domain_error < 1e-9
    bar = export_cad(setup_of(), setup_of().initial, tmp_path)
    assert bar.domain_error is None
    assert not (tmp_path / "domain.step").exists()
