"""Promise: `inspect` says all that a user needs to write regions, or one clear reason why a part cannot be used."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest
from OCP.BRepPrimAPI import BRepPrimAPI_MakeBox
from rich.console import Console
from ruamel.yaml import YAML
from typer.testing import CliRunner

from shapewright.app import cli
from shapewright.app.cli import Exit
from shapewright.app.inspection import picture
from shapewright.app.inspection.command import regions_yaml
from shapewright.app.inspection.page import TEMPLATE, scene
from shapewright.geometries.cad.facets import edge_lines, facets_of
from shapewright.geometries.cad.selection import parse_query, select
from shapewright.geometries.cad.shipped import SHIPPED, shipped_part
from shapewright.geometries.cad.solid import read_solid
from shapewright.geometries.cad.step import CadShape, write_step
from tests.geometries.test_solid import compound


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=200))
    monkeypatch.setattr(picture, "WINDOW", (160, 120))


def call(*arguments):
    return CliRunner().invoke(cli.app, ["inspect", *map(str, arguments)])


def test_a_good_part(tmp_path):
    done = call(shipped_part("cantilever"), "--out", tmp_path / "seen")
    assert done.exit_code == Exit.OK, done.output
    assert re.search(r"7 +│ cylinder, hollow +│ 753.98 +│ 50, 10, 15 +│ axis y +│ r 6 ", done.output)
    assert "Nothing of it is refused." in done.output
    image = matplotlib.image.imread(tmp_path / "seen" / "faces.png")
    assert image.shape[:2] == (240, 320)
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 50
    page = (tmp_path / "seen" / "faces.html").read_text()
    assert not re.search(r"\[\[[A-Z]+\]\]", page), "a mark of the template was left"
    assert not re.search(r"(?:src|href)=|https?:", page), "the page must need no network"
    text = (tmp_path / "seen" / "regions.yaml").read_text()
    assert text in done.output
    geometry = YAML(typ="safe").load(text)["geometry"]
    solid = read_solid(shipped_part("cantilever"), geometry["length_unit"])
    chosen = {
        name: select(solid.faces, solid.size, name, parse_query(name, query))
        for name, query in geometry["regions"].items()
    }
    assert chosen["bore"] == (7,)
    assert sorted(number for own in chosen.values() for number in own) == list(range(1, 8))


def test_what_is_refused(tmp_path):
    box = BRepPrimAPI_MakeBox(1.0, 2.0, 3.0).Shape()
    other = BRepPrimAPI_MakeBox(4.0, 2.0, 3.0).Shape()
    write_step(CadShape(compound(box, other)), tmp_path / "two.step", "mm")
    done = call(tmp_path / "two.step", "--out", tmp_path / "seen")
    assert done.exit_code == Exit.NOT_ACCEPTED
    assert "refused as it is: 2 solids; write `solid: n` in the study" in done.output
    assert not (tmp_path / "seen").exists()
    assert call(tmp_path / "two.step", "--solid", 3, "--out", tmp_path / "seen").exit_code == Exit.BAD_INPUT
    missing = call(tmp_path / "no.step")
    assert missing.exit_code == Exit.BAD_INPUT
    unit = call(tmp_path / "two.step", "--unit", "inch")
    assert unit.exit_code == Exit.BAD_INPUT
    assert "length unit 'inch'; allowed are m, cm, mm" in " ".join(unit.stderr.split())


def test_the_second_of_two_solids_is_named_in_the_regions(tmp_path):
    box, other = (BRepPrimAPI_MakeBox(x, 2.0, 3.0).Shape() for x in (1.0, 4.0))
    write_step(CadShape(compound(box, other)), tmp_path / "two.step", "cm")
    geometry = YAML(typ="safe").load(regions_yaml(read_solid(tmp_path / "two.step", "cm", 2)))["geometry"]
    assert (geometry["cad"], geometry["length_unit"], geometry["solid"]) == ("two.step", "cm", 2)


@pytest.mark.parametrize("name", SHIPPED)
def test_facets_bound_the_solid(name):
    """The divergence theorem: they are closed, look outwards, and hold the volume within their deflection."""
    solid = read_solid(shipped_part(name), "mm")
    volume = 0.0
    for own in facets_of(solid.cad):
        a, b, c = (own.points[own.triangles[:, k]] for k in range(3))
        volume += float((a * np.cross(b, c)).sum() / 6)
    assert volume == pytest.approx(solid.volume, rel=0.02)
    assert all(len(line) == 49 for line in edge_lines(solid.cad))


def test_the_scene_of_the_page():
    solid = read_solid(shipped_part("turned"), "mm")
    facets = facets_of(solid.cad)
    found = scene(solid, facets, edge_lines(solid.cad))
    corners = np.frombuffer(base64.b64decode(found["corners"]), "<f4").reshape(-1, 3)
    assert len(corners) == sum(found["counts"]) == 3 * sum(len(own.triangles) for own in facets)
    assert np.abs(corners).max() < 1.0
    assert [face["number"] for face in found["faces"]] == list(range(1, 9))
    json.dumps(found)


def test_numbers_stand_well_inside_of_what_is_seen():
    """An L of face 3: the middle of its pixels is outside of it."""
    numbers = np.zeros((40, 60), dtype=np.int64)
    numbers[2:38, 2:8] = 3
    numbers[28:38, 2:58] = 3
    numbers[5:10, 30:32] = 7  # too few
    assert set(picture.visible_faces(numbers)) == {3}
    row, column = picture.visible_faces(numbers)[3]
    assert (numbers[row - 3 : row + 4, column - 3 : column + 4] == 3).all()


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to read JavaScript")
def test_the_script_of_the_page_is_javascript(tmp_path):
    script = re.search(r"<script>\n(.*)</script>", TEMPLATE.read_text(), re.DOTALL)[1]
    (tmp_path / "page.js").write_text(script)
    done = subprocess.run(["node", "--check", tmp_path / "page.js"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
