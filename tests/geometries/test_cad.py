"""CAD files: the very B-spline of the design, in the study's unit, read back and judged by other programs too."""

from __future__ import annotations

import math
import re
import resource
from contextlib import contextmanager

import gmsh
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from OCP.BRep import BRep_Builder
from OCP.BRepTools import BRepTools
from OCP.TopAbs import TopAbs_FACE
from OCP.TopExp import TopExp_Explorer
from OCP.TopoDS import TopoDS_Shape

from shapewright.geometries.cad.step import (
    CadError,
    CadShape,
    check_step,
    measure_of,
    part_shape,
    read_step,
    write_brep,
    write_step,
    write_stl,
)
from tests.geometries.shapes import FAMILIES, designs, family

NAMES = pytest.mark.parametrize("name", FAMILIES)
SIDES = {"closed_bar": 1, "body_in_channel": 1, "nozzle.py:Nozzle": 4}
LINES = {"closed_bar": 0, "body_in_channel": 0, "nozzle.py:Nozzle": 2}


def design(name: str, seed: int = 0) -> tuple[np.ndarray, float]:
    """Control points (n, 2) of a design in the box, and its part's area by the B-spline."""
    of = family(name)
    theta = designs(of, 1, seed)[0]
    return of.control_points(theta).numpy(), float(of.part_quadrature.area(of.part_points(theta)))


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
@pytest.mark.parametrize("thickness", [None, 0.3])
@NAMES
def test_step_round_trip(tmp_path, name, thickness, unit):
    of, (points, area) = family(name), design(name)
    path = tmp_path / "part.step"
    write_step(part_shape(of, points, thickness), path, unit)
    check = check_step(path, of, points, unit)
    assert check.valid
    assert check.solid == (thickness is not None)
    assert check.measure == pytest.approx(area * (thickness or 1.0), rel=1e-9)
    assert check.max_deviation < 1e-9
    cubics = SIDES[name] - LINES[name]
    assert check.b_spline_edges == cubics * (1 if thickness is None else 2)
    assert [file.name for file in tmp_path.iterdir()] == ["part.step"]


@pytest.mark.parametrize(("unit", "prefix"), [("m", r"\$"), ("cm", r"\.CENTI\."), ("mm", r"\.MILLI\.")])
def test_the_file_names_its_unit(tmp_path, unit, prefix):
    points, _ = design("closed_bar")
    write_step(part_shape(family("closed_bar"), points), tmp_path / "part.step", unit)
    assert re.search(rf"LENGTH_UNIT\(\)[^;]*SI_UNIT\({prefix},\.METRE\.\)", (tmp_path / "part.step").read_text())


def test_one_unit_is_read_as_another(tmp_path):
    """A part of 1 m is one of 1000 mm: the reader converts, whatever was written or read before."""
    points, area = design("closed_bar")
    write_step(part_shape(family("closed_bar"), points), tmp_path / "part.step", "m")
    assert check_step(tmp_path / "part.step", family("closed_bar"), 1e3 * points, "mm").measure == pytest.approx(
        1e6 * area
    )
    check = check_step(tmp_path / "part.step", family("closed_bar"), 1e3 * points, "mm")
    assert check.max_deviation < 1e-6
    assert check_step(tmp_path / "part.step", family("closed_bar"), points, "m").max_deviation < 1e-9


@NAMES
def test_control_points_are_written_and_no_facets(tmp_path, name):
    """Those of the design, in order; STEP repeats the first three of a periodic curve."""
    of, (points, _) = family(name), design(name)
    write_step(part_shape(of, points, 0.3), tmp_path / "part.step", "mm")
    text = re.sub(r"\s", "", (tmp_path / "part.step").read_text())
    found = dict(re.findall(r"(#\d+)=CARTESIAN_POINT\('',\(([^)]*)\)\)", text))
    splines = re.findall(r"B_SPLINE_CURVE_WITH_KNOTS\('',3,\(([^)]*)\)", text)
    written = [np.array([found[pole].split(",")[:2] for pole in poles.split(",")], dtype=float) for poles in splines]
    start = of.loop_slices[of.part].start
    for curve in of.loops[of.part]:
        own = points[start : start + curve.count]
        start += curve.count
        if curve.degree == 3:
            own = np.concatenate([own, own[:3]]) if curve.periodic else own
            assert any(poles.shape == own.shape and np.abs(poles - own).max() < 1e-11 for poles in written)
    assert text.count("ADVANCED_FACE") == SIDES[name] + 2
    assert text.count("PLANE('',") >= 2 + LINES[name]  # lines become plane sides
    assert text.count("MANIFOLD_SOLID_BREP") == 1


@NAMES
def test_gmsh_reads_the_same_curve(tmp_path, name):
    """Another reader of STEP than ours; the area by Green's theorem on its points and tangents."""
    of, (points, area) = family(name), design(name, seed=1)
    write_step(part_shape(of, points), tmp_path / "part.step", "cm")
    gauss, weights = np.polynomial.legendre.leggauss(5)
    total = 0.0
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setString("Geometry.OCCTargetUnit", "CM")
        gmsh.model.occ.importShapes(str(tmp_path / "part.step"))
        gmsh.model.occ.synchronize()
        for _, edge in gmsh.model.getBoundary(gmsh.model.getEntities(2)):
            (low,), (high,) = gmsh.model.getParametrizationBounds(1, abs(edge))
            pieces = np.linspace(low, high, 1 + math.ceil(high - low))
            half = np.diff(pieces)[:, None] / 2
            t = (pieces[:-1, None] + half * (1 + gauss)).ravel()
            x = gmsh.model.getValue(1, abs(edge), t).reshape(-1, 3)
            dx = gmsh.model.getDerivative(1, abs(edge), t).reshape(-1, 3)
            swept = 0.5 * (x[:, 0] * dx[:, 1] - x[:, 1] * dx[:, 0]) * (half * weights).ravel()
            total += math.copysign(1, edge) * swept.sum()
    finally:
        gmsh.finalize()
    assert abs(total) == pytest.approx(area, rel=1e-10)


@NAMES
@pytest.mark.parametrize("seed", range(3))
def test_stl_is_closed_and_turned_outwards(tmp_path, name, seed):
    of = family(name)
    theta = designs(of, 1, seed)[0]
    own = of.part_points(theta)
    area, perimeter = float(of.part_quadrature.area(own)), float(of.part_quadrature.perimeter(own))
    for share in (1e-2, 1e-3):
        deflection = share * float(np.ptp(own.numpy(), axis=0).min())
        write_stl(part_shape(of, of.control_points(theta).numpy(), 0.3), tmp_path / "part.stl", deflection)
        solid = trimesh.load(tmp_path / "part.stl", force="mesh")
        assert solid.is_watertight
        assert solid.is_winding_consistent
        assert solid.body_count == 1
        # turned inside out, it would be negative
        assert float(solid.volume) == pytest.approx(0.3 * area, abs=0.3 * perimeter * deflection)
        assert solid.bounds[:, 2] == pytest.approx([0, 0.3], abs=1e-6)


def test_brep_is_read_back_by_opencascade(tmp_path):
    points, _ = design("body_in_channel")
    write_brep(part_shape(family("body_in_channel"), points, 0.2), tmp_path / "part.brep")
    shape = TopoDS_Shape()
    assert BRepTools.Read_s(shape, str(tmp_path / "part.brep"), BRep_Builder())
    explorer, faces = TopExp_Explorer(shape, TopAbs_FACE), 0
    while explorer.More():
        faces += 1
        explorer.Next()
    assert faces == 3


SCALES = [1e-6, 1e-5, 5e-4, 1.0, 1e6]


@pytest.mark.parametrize("unit", ["m", "mm"])
@pytest.mark.parametrize("thickness", [None, 0.1])
@pytest.mark.parametrize("scale", SCALES)
@NAMES
def test_small_and_large_parts(tmp_path, name, scale, thickness, unit):
    """From 1e-6 to 1e6 length units: what is read back is the design to 1e-9 of its size, and valid."""
    of, (points, area) = family(name), design(name)
    depth = None if thickness is None else thickness * scale
    write_step(part_shape(of, scale * points, depth), tmp_path / "part.step", unit)
    check = check_step(tmp_path / "part.step", of, scale * points, unit)
    assert check.valid
    assert check.measure == pytest.approx(area * scale**2 * (depth or 1.0), rel=1e-9)
    assert check.max_deviation < 1e-9 * scale


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.floats(-6, 6), st.sampled_from(["m", "cm", "mm"]))
def test_parts_of_any_size(tmp_path_factory, exponent, unit):
    of, (points, area) = family("closed_bar"), design("closed_bar")
    scale, path = 10.0**exponent, tmp_path_factory.mktemp("size") / "part.step"
    write_step(part_shape(of, scale * points, 0.1 * scale), path, unit)
    check = check_step(path, of, scale * points, unit)
    assert check.valid
    assert check.measure == pytest.approx(0.1 * scale**3 * area, rel=1e-9)
    assert check.max_deviation < 1e-9 * scale


@pytest.mark.parametrize(("scale", "unit", "target", "inside"), [
    (1e-5, "m", "UM", 10.0), (1e-5, "m", "MM", 1e-2), (1e-3, "mm", "UM", 1.0), (5e-4, "m", "MM", 0.5),
    (1e6, "m", "KM", 1e3), (1e6, "cm", "M", 1e4),
])  # fmt: skip
def test_another_program_reads_the_right_size(tmp_path, scale, unit, target, inside):
    """gmsh, whose OpenCASCADE is its own, in a unit of its own choice; lengths of the box around the outline."""
    of, (points, _) = family("closed_bar"), design("closed_bar")
    write_step(part_shape(of, scale * points), tmp_path / "part.step", unit)
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setString("Geometry.OCCTargetUnit", target)
        gmsh.model.occ.importShapes(str(tmp_path / "part.step"))
        gmsh.model.occ.synchronize()
        ((_, edge),) = gmsh.model.getEntities(1)
        t = np.linspace(*(bound[0] for bound in gmsh.model.getParametrizationBounds(1, edge)), 1001)
        found = gmsh.model.getValue(1, edge, t).reshape(-1, 3)[:, :2]
    finally:
        gmsh.finalize()
    expected = inside * of.outline(points, 0, 125)
    assert np.ptp(found, axis=0) == pytest.approx(np.ptp(expected, axis=0), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_brep_and_stl_of_small_and_large_parts(tmp_path, scale):
    of, (points, area) = family("nozzle.py:Nozzle"), design("nozzle.py:Nozzle")
    cad = part_shape(of, scale * points, 0.3 * scale)
    write_brep(cad, tmp_path / "part.brep")
    shape = TopoDS_Shape()
    assert BRepTools.Read_s(shape, str(tmp_path / "part.brep"), BRep_Builder())
    large = CadShape(CadShape(shape, scale / 64.0).in_study_unit(), 64.0 / scale)  # integrals have tolerances, too
    assert measure_of(large) == pytest.approx(0.3 * scale**3 * area, rel=1e-9)
    write_stl(cad, tmp_path / "part.stl", 1e-3 * scale)
    solid = trimesh.load(tmp_path / "part.stl", force="mesh", process=False)
    solid.apply_scale(1 / scale)
    solid.merge_vertices()
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert float(solid.volume) == pytest.approx(0.3 * area, rel=1e-3)


@pytest.mark.parametrize("content", ["", "solid part\nendsolid", "ISO-10303-21;\nHEADER;\nENDSEC;\n"])
def test_what_is_not_a_step_file(tmp_path, content):
    path = tmp_path / "part.step"
    path.write_text(content)
    with pytest.raises(CadError, match=r"part.step: OpenCASCADE cannot read it as STEP"):
        read_step(path, "m")


def test_a_missing_file(tmp_path):
    with pytest.raises(CadError, match=r"none.step: OpenCASCADE cannot read it as STEP"):
        read_step(tmp_path / "none.step", "m")


def test_an_unknown_unit(tmp_path):
    points, _ = design("closed_bar")
    with pytest.raises(ValueError, match="length unit 'inch'; allowed are m, cm, mm"):
        write_step(part_shape(family("closed_bar"), points), tmp_path / "part.step", "inch")
    assert not list(tmp_path.iterdir())


def test_a_self_intersecting_part_is_not_exported():
    of = family("closed_bar")
    theta = of.default
    theta[0] = -3.0
    with pytest.raises(CadError, match="'closed_bar' invalid"):
        part_shape(of, of.control_points(theta).numpy(), 0.3)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_degenerate_part_is_not_exported(value):
    of = family("closed_bar")
    with pytest.raises(CadError, match="closed_bar"):
        part_shape(of, np.full((8, 2), value))


@contextmanager
def full_disk():
    """No file may grow beyond 2 kB: the operating system's answer to a write is then an error, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS = {
    "step": lambda shape, path: write_step(shape, path, "m"),
    "brep": write_brep,
    "stl": lambda shape, path: write_stl(shape, path, 1e-3),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_what_was_there(tmp_path, kind):
    points, _ = design("nozzle.py:Nozzle")
    shape = part_shape(family("nozzle.py:Nozzle"), points, 0.3)
    path = tmp_path / f"part.{kind}"
    path.write_text("as before")
    with (
        full_disk(),
        pytest.raises(CadError, match=rf"part.{kind}: .* could not write the {kind.upper()} file \(disk full"),
    ):
        WRITERS[kind](shape, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "as before")]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_unwritable_folder(tmp_path, kind):
    points, _ = design("closed_bar")
    (tmp_path / "file").write_text("")
    for folder in ("missing", "file"):
        with pytest.raises(CadError, match="could not write"):
            WRITERS[kind](part_shape(family("closed_bar"), points, 0.3), tmp_path / folder / f"part.{kind}")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
