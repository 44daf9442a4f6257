"""A user's STEP file: what is read of it, what is refused and why, and how its faces are chosen."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OCP.BRep import BRep_Builder
from OCP.BRepBuilderAPI import BRepBuilderAPI_Copy, BRepBuilderAPI_Transform
from OCP.BRepPrimAPI import BRepPrimAPI_MakeBox
from OCP.gp import gp_Pnt, gp_Trsf, gp_Vec
from OCP.Quantity import Quantity_Color, Quantity_TOC_sRGB
from OCP.STEPCAFControl import STEPCAFControl_Writer
from OCP.TCollection import TCollection_ExtendedString
from OCP.TDocStd import TDocStd_Document
from OCP.TopoDS import TopoDS_Compound, TopoDS_Shape, TopoDS_Shell, TopoDS_Solid
from OCP.XCAFApp import XCAFApp_Application
from OCP.XCAFDoc import XCAFDoc_ColorSurf, XCAFDoc_DocumentTool

from shapewright.geometries.cad.deform import deform
from shapewright.geometries.cad.faces import faces_of, vertices_of
from shapewright.geometries.cad.selection import parse_query, select
from shapewright.geometries.cad.shipped import SHIPPED, shipped_part
from shapewright.geometries.cad.solid import (
    PartError,
    Solid,
    inspect_step,
    read_solid,
    tolerance_notes,
    topology_faults,
)
from shapewright.geometries.cad.starter import starter_regions
from shapewright.geometries.cad.step import CadShape, measure_of, write_step
from shapewright.geometries.family.effort import forcing

BOX = BRepPrimAPI_MakeBox(10.0, 20.0, 30.0).Shape()


def compound(*shapes: TopoDS_Shape) -> TopoDS_Compound:
    found, builder = TopoDS_Compound(), BRep_Builder()
    builder.MakeCompound(found)
    for shape in shapes:
        builder.Add(found, shape)
    return found


def written(folder: Path, shape: TopoDS_Shape, unit: str = "mm") -> Path:
    path = folder / "part.step"
    write_step(CadShape(shape), path, unit)
    return path


def chosen(solid: Solid, query: dict) -> tuple[int, ...]:
    return select(solid.faces, solid.size, "region", parse_query("region", query))


def test_a_solid_is_read_with_its_faces():
    solid = read_solid(shipped_part("turned"), "mm")
    assert [face.kind for face in solid.faces] == (
        ["plane", "cylinder", "cylinder", "torus", "cone", "plane", "cone", "sphere"]
    )
    assert [face.hollow for face in solid.faces[1:5]] == [False, True, False, True]
    assert solid.faces[3].minor_radius == pytest.approx(3.0)
    assert solid.faces[6].half_angle == pytest.approx(18.4349488)
    assert solid.volume == pytest.approx(measure_of(solid.cad), rel=1e-6)
    assert (solid.unit, solid.file_unit, solid.faults, solid.warnings) == ("mm", "mm", (), ())
    assert solid.low == pytest.approx((-24, -24, 0), abs=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("m", 1e-3), ("cm", 0.1), ("mm", 1.0)])
def test_lengths_are_in_the_unit_asked_for(unit, factor, tmp_path):
    """A box of 10 x 20 x 30 of the unit; a box of 10 micrometres is as good as one of 30 m."""
    for scale in (1.0, 1e-3, 1e3):
        scaling = gp_Trsf()
        scaling.SetScale(gp_Pnt(0, 0, 0), scale)
        shape = BRepBuilderAPI_Transform(BOX, scaling, True).Shape()
        solid = read_solid(written(tmp_path, shape, unit), unit)
        assert solid.high == pytest.approx((10 * scale, 20 * scale, 30 * scale))
        assert solid.faces[0].area == pytest.approx(600 * scale**2)
        assert solid.volume == pytest.approx(6000 * scale**3)
        moved = deform(solid.cad, lambda points: 1.5 * points)
        assert measure_of(moved.cad) == pytest.approx(1.5**3 * 6000 * scale**3)
    with pytest.raises(PartError, match=rf"the file is in {unit} and length_unit is .*; write `length_unit: {unit}`"):
        read_solid(tmp_path / "part.step", "cm" if unit == "mm" else "mm")


def test_inches_are_converted(tmp_path):
    path = written(tmp_path, BOX)
    text = path.read_text()
    inch = "( CONVERSION_BASED_UNIT('INCH',#9998) LENGTH_UNIT() NAMED_UNIT(#9997) )"
    line = re.search(r"#(\d+) = \( LENGTH_UNIT\(\) NAMED_UNIT\(\*\) SI_UNIT\(\.MILLI\.,\.METRE\.\) \);", text)
    extra = (
        f"#{line[1]} = {inch};\n#9996 = ( LENGTH_UNIT() NAMED_UNIT(*) SI_UNIT(.MILLI.,.METRE.) );\n"
        "#9997 = DIMENSIONAL_EXPONENTS(1.,0.,0.,0.,0.,0.,0.);\n"
        "#9998 = LENGTH_MEASURE_WITH_UNIT(LENGTH_MEASURE(25.4),#9996);"
    )
    path.write_text(text.replace(line[0], extra))
    solid = read_solid(path, "mm")
    assert (solid.file_unit, solid.high[0]) == ("inch", pytest.approx(254.0))


def test_files_that_are_no_step(tmp_path):
    for name, text, message in (
        ("a.step", "", "found 'an empty file'; expected a STEP file, which begins with ISO-10303-21"),
        ("b.step", "solid cube\nfacet normal", "found 'solid cube'; expected a STEP file"),
        ("c.step", "ISO-10303-21;\nHEADER;", "OpenCASCADE finds no shape in it"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(PartError, match=message):
            read_solid(tmp_path / name, "mm")
    with pytest.raises(PartError, match="there is no such file"):
        read_solid(tmp_path / "d.step", "mm")


def test_nothing_is_printed_for_a_damaged_file(tmp_path, capfd):
    path = written(tmp_path, BOX)
    path.write_text(path.read_text()[:3000])
    with pytest.raises(PartError):
        read_solid(path, "mm")
    assert capfd.readouterr() == ("", "")


def test_several_solids_are_listed_and_one_is_chosen(tmp_path):
    shift = gp_Trsf()
    shift.SetTranslation(gp_Vec(0, 0, 100))
    moved = BRepBuilderAPI_Transform(BRepBuilderAPI_Copy(BOX).Shape(), shift, True).Shape()
    path = written(tmp_path, compound(BOX, moved))
    listed = r"found 2 solids, choose one by `solid: n` \(1: 6 faces, volume 6000, \(0 0 0\)"
    with pytest.raises(PartError, match=listed):
        read_solid(path, "mm")
    with pytest.raises(PartError, match="found 2 solids, there is no solid 3"):
        read_solid(path, "mm", 3)
    assert read_solid(path, "mm", 2).low == pytest.approx((0, 0, 100), abs=1e-6)


def test_a_part_with_a_location_is_deformed_where_it_is(tmp_path):
    """Two instances of one shape, as in an assembly: the second is moved by its location alone."""
    from OCP.TopLoc import TopLoc_Location

    shift = gp_Trsf()
    shift.SetTranslation(gp_Vec(0, 0, 100))
    path = written(tmp_path, compound(BOX, BOX.Moved(TopLoc_Location(shift))))
    solid = read_solid(path, "mm", 2)
    found = deform(solid.cad, lambda points: points * [1.0, 1.0, 2.0])
    assert measure_of(found.cad) == pytest.approx(12000)
    write_step(found.cad, tmp_path / "moved.step", "mm")
    assert read_solid(tmp_path / "moved.step", "mm").low == pytest.approx((0, 0, 200), abs=1e-5)


def test_sheets_are_refused(tmp_path):
    path = written(tmp_path, faces_of(BOX)[0])
    with pytest.raises(PartError, match="found 1 faces that bound no solid; expected a solid"):
        read_solid(path, "mm")


def test_an_open_shell_is_refused():
    shell, solid, builder = TopoDS_Shell(), TopoDS_Solid(), BRep_Builder()
    builder.MakeShell(shell)
    for face in faces_of(BOX)[:5]:
        builder.Add(shell, face)
    builder.MakeSolid(solid)
    builder.Add(solid, shell)
    assert any("the shell of the solid is open" in fault for fault in topology_faults(solid))
    assert list(topology_faults(BOX)) == []


def test_an_invalid_solid_is_refused():
    """A vertex that lies beside its edges."""
    shape = BRepBuilderAPI_Copy(BOX).Shape()
    BRep_Builder().UpdateVertex(vertices_of(shape)[0], gp_Pnt(1.0, 1.0, 1.0), 1e-7)
    assert any("OpenCASCADE finds the solid invalid" in fault for fault in topology_faults(shape))


def test_tolerances():
    refused, warned = tolerance_notes(0.02, 100.0, "mm")
    assert (len(refused), warned) == (1, [])
    assert "an edge has a tolerance of 0.02 mm, 2.0e-04 of the part's size; allowed is 0.0001" in refused[0]
    refused, warned = tolerance_notes(0.005, 100.0, "mm")
    assert (refused, len(warned)) == ([], 1)
    assert tolerance_notes(1e-7, 100.0, "mm") == ([], [])


def test_a_part_of_many_faces_is_refused_with_an_estimate(monkeypatch):
    monkeypatch.setattr("shapewright.geometries.cad.solid.MOST_FACES", 7)
    with pytest.raises(PartError, match=r"the solid has 8 faces; allowed are 7 \(about 1 s for each deformation"):
        read_solid(shipped_part("turned"), "mm")
    with forcing():
        assert len(read_solid(shipped_part("turned"), "mm").faces) == 8


def test_names_and_colours_of_faces(tmp_path):
    """Names stand in the entities of the faces, colours in the document of OpenCASCADE."""
    document = TDocStd_Document(TCollection_ExtendedString("XmlXCAF"))
    XCAFApp_Application.GetApplication_s().InitDocument(document)
    XCAFDoc_DocumentTool.ShapeTool_s(document.Main()).AddShape(BOX, False)
    tool = XCAFDoc_DocumentTool.ColorTool_s(document.Main())
    tool.SetColor(faces_of(BOX)[2], Quantity_Color(1.0, 0.5, 0.0, Quantity_TOC_sRGB), XCAFDoc_ColorSurf)
    writer, path = STEPCAFControl_Writer(), tmp_path / "part.step"
    writer.Transfer(document)
    writer.Write(str(path))
    text = path.read_text().replace("ADVANCED_FACE(''", "ADVANCED_FACE('SEAT'", 1)
    path.write_text(text.replace("ADVANCED_FACE(''", "ADVANCED_FACE('LEFT'", 1))
    solid = inspect_step(path).solids[0]
    assert {face.name for face in solid.faces} == {"SEAT", "LEFT", ""}
    assert len(chosen(solid, {"name": "SEAT"})) == 1
    (orange,) = chosen(solid, {"colour": "#ff8000"})
    assert chosen(solid, {"colour": [1.0, 0.5, 0.0]}) == (orange,)
    assert solid.faces[orange - 1].area == faces_area(solid, orange)
    starters = {region.name: region.query for region in starter_regions(solid.faces, solid.size)}
    assert starters["seat"] == {"name": "SEAT"}
    with pytest.raises(PartError, match="found no face that has the name 'TOP' among 1 "):
        chosen(solid, {"name": "TOP"})


def faces_area(solid: Solid, number: int) -> float:
    return {face.number: face.area for face in solid.faces}[number]


@pytest.mark.parametrize("name", SHIPPED)
def test_starter_regions_select_each_face_once(name):
    solid = read_solid(shipped_part(name), "mm")
    regions = starter_regions(solid.faces, solid.size)
    for region in regions:
        assert chosen(solid, region.query) == region.faces
    assert sorted(number for region in regions for number in region.faces) == [face.number for face in solid.faces]
    assert len({region.name for region in regions}) == len(regions)


def test_faces_are_chosen_by_geometry():
    solid = read_solid(shipped_part("bracket"), "mm")
    for query, expected in (
        ({"cylinder": {"radius": 4.0, "axis": "z"}, "count": 2}, (11, 12)),
        ({"cylinder": {"radius": 6.0, "axis": "x"}}, (6,)),
        ({"cylinder": {"through": [64, 11, 3]}}, (11,)),
        ({"cylinder": None, "largest": 1}, (3,)),
        ({"plane": {"x": 0}}, (8,)),
        ({"plane": {"x": 12, "normal": "x"}}, (1,)),
        ({"normal": "-z"}, (10,)),
        ({"normal": [0, 0, 2], "largest": 1}, (7,)),
        ({"box": [[70, 0, 0], [80, 40, 12]]}, (9,)),
        ({"plane": {}, "largest": 2}, (8, 10)),
        ({"cylinder": {"radius": 4.1}, "tolerance": 0.2}, (11, 12)),
        ({"faces": [12, 3]}, (3, 12)),
        ({"cylinder": {"hollow": True}}, (3, 6, 11, 12)),
    ):
        assert chosen(solid, query) == expected, query
    turned = read_solid(shipped_part("turned"), "mm")
    assert chosen(turned, {"cone": {"half_angle": 59.04}}) == (5,)
    assert chosen(turned, {"torus": {"minor_radius": 3}}) == (4,)
    assert chosen(turned, {"sphere": {"centre": [0, 0, 29.333333]}}) == (8,)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"cylinder": {"radius": 7}}, r"found no face that has a radius of 7 among 3 \(cylinder radius 10 axis y"),
        ({"plane": {"x": 0}, "count": 2}, r"found 1 faces, and count is 2: 8 \(plane normal -x at x = 0\)"),
        ({"sphere": {}}, r"found no face that is a sphere among 1 \(plane normal x at x = 12\), .* and 4 more"),
        ({}, "found nothing; allowed are plane, cylinder, cone"),
        ({"cilinder": {}}, "found cilinder; allowed are plane, cylinder"),
        ({"cylinder": {"r": 3}}, "cylinder: found {'r': 3}; allowed are radius, axis, through, hollow"),
        ({"cylinder": {"radius": "3"}}, "radius: found '3'; allowed are numbers"),
        ({"cylinder": {"axis": "w"}}, "axis: found 'w'; allowed are x, -x, y, -y, z, -z or a vector"),
        ({"cylinder": {"axis": [0, 0, 0]}}, "axis: found .*; allowed are directions"),
        ({"cylinder": {"through": [1, 2]}}, "through: found .*; allowed are three numbers"),
        ({"cylinder": {"hollow": 1}}, "hollow: found 1; allowed are true and false"),
        ({"box": [[0, 0, 0]]}, "box: found .*; allowed are two corners"),
        ({"box": [[1, 0, 0], [0, 1, 1]]}, "box: the first corner .* is not below"),
        ({"colour": "#12345g"}, "colour: found #12345g; allowed are '#rrggbb'"),
        ({"name": 3}, "name: found 3; allowed are names of faces"),
        ({"faces": []}, "faces: found .*; allowed is a list of numbers"),
        ({"faces": [99]}, r"found no face that has a number of \[99\]"),
        ({"plane": {}, "count": 0}, "count: found 0; allowed are whole numbers from 1"),
        ({"plane": {"x": True}}, "x: found True; allowed are numbers"),
    ],
)
def test_a_wrong_query_says_what_is_allowed(query, message):
    with pytest.raises(PartError, match=f"region 'region'.*{message}"):
        chosen(read_solid(shipped_part("bracket"), "mm"), query)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["plane", "box", "faces", "name", "count", "x"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "low", "high"]), inner),
)))  # fmt: skip
def test_any_query_is_read_or_refused_by_one_error(query):
    """No other kind of error gets out."""
    with suppress(PartError):
        assert parse_query("region", query).predicates or query
