"""Promise: a study of a solid is read strictly, says clearly what is wrong with it, and sees the CAD as it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import shapewright as sw
from shapewright.geometries.cad.selection import parse_query, select
from shapewright.geometries.cad.shipped import SHIPPED, shipped_part
from shapewright.geometries.cad.solid import read_solid
from shapewright.geometries.cad.starter import starter_regions
from shapewright.studies.certify import solid_model
from shapewright.studies.problem.solid_regions import PartWarning, read_part
from shapewright.studies.problem.solid_setup import build_solid_setup
from shapewright.studies.run.kinds import SOLID, kind_of
from shapewright.studies.schema import solid_study
from shapewright.studies.schema.loader import StudyError, dump, load_study
from shapewright.studies.schema.solid_study import FaceRule
from tests.studies.solid_cases import BEAM, beam, changed, load, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("beam")


@pytest.mark.parametrize("module", [solid_study, solid_model])
def test_the_shipped_schemas_are_current_and_describe_every_key(module):
    text = module.SCHEMA_FILE.read_text(encoding="utf-8")
    assert text == module.json_schema_text(), f"run: python -m {module.__name__}"
    schema = json.loads(text)
    assert all(model["description"] for model in [schema, *schema["$defs"].values()])


def test_the_kind_is_told_by_the_geometry(folder):
    path = written(folder)
    assert kind_of(path) is SOLID
    with pytest.raises(StudyError, match=r"beam.yaml:3: geometry.cad: found a solid; expected a planar family"):
        load_study(path)


def test_what_is_resolved_loads_back_equal(folder):
    study = load(written(folder))
    again = written(folder, dump(study))
    assert load(again).model == study.model


def test_the_shipped_study_loads():
    path = solid_study.SCHEMA_FILE.parent / "solid_bracket.yaml"
    study = load(path)
    assert study.model.name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=solid_schema.json\n")
    assert (study.folder / study.model.geometry.cad).is_file()


def test_a_study_made_in_python(folder):
    path = written(folder)
    made = sw.solid_study(folder, **load(path).model.model_dump(exclude_unset=True))
    assert made.model == load(path).model
    with pytest.raises(StudyError, match=r"solid_study\(geometry=...\).*mesh_size"):
        sw.solid_study(geometry={"cad": "part.step"}, physics={"name": "elasticity"}, objective={"minimize": "x"})


def test_the_setup_sees_the_part(folder):
    setup = beam(folder)
    assert setup.regions["hole"] == (7,)
    assert set(setup.family.tags) == {"wall", "tip", "hole", "rest"}
    assert len(setup.family.parameters) == 8
    assert [c.name for c in setup.constraints] == ["volume at most", "jacobian at least", "cells at least"]
    exact = 100 * 20 * 30 - np.pi * 36 * 20
    assert setup.constraints[0].target == pytest.approx(exact, rel=1e-9)
    assert float(setup.quantity("volume", setup.initial)) == pytest.approx(exact, rel=1e-12)
    assert [f.name for f in setup.problem.functionals] == ["worst compliance", "compliance (down)", "compliance (pull)"]
    moved = setup.shape_map.nodes(setup.family.bounds[:, 1])
    still = np.unique(setup.shape_map.mesh.facets_on("hole"))
    assert torch.equal(moved[still], setup.shape_map.reference_nodes[still])


FAULTS = {
    "no file": (("cantilever.step", "cantilevr.step"), r"geometry.cad: found .*cantilevr.step', but no file"),
    "region without faces": (("plane: {x: 0}", "plane: {x: 3}"), r"regions.wall: .* found no face that lies at x = 3 "
                             r"among 1 \(plane normal -x at x = 0\)"),
    "wrong count": (("count: 1", "count: 2"), r"regions.tip: .* found 1 faces, and count is 2: 6 \(plane"),
    "no rule": (("tip: {plane: {x: 100}, count: 1}", "tip: {count: 1}"), "regions.tip: found no rule; expected plane"),
    "axis": (("axis: y", "axis: w"), r"regions.hole.cylinder.axis: found 'w'"),
    "unit": (("length_unit: mm", "length_unit: m"), "the file is in mm and length_unit is m; write `length_unit: mm`"),
    "solid": (("length_unit: mm", "solid: 2"), "geometry.cad: .*found 1 solids, there is no solid 2"),
    "two regions": (("cylinder: {radius: 6.0, axis: y}", "faces: [1, 2, 3, 4, 5, 6, 7]"), "which 'wall' has too"),
    "rest": (("tip: {plane", "rest: {plane"), "'rest', the region of the faces that no other has"),
    "kept region": (("keep: [hole]", "keep: [bore]"), r"keep.0: found 'bore'; expected a region: wall, tip"),
    "lattice": (("points: [4, 1, 2]", "points: [4, 0, 2]"), r"geometry.lattice.points.1: found 0 .* >= 1"),
    "box outside": (("lattice: {points", "lattice: {box: [[200, 0, 0], [300, 1, 1]], points"), "lies outside the part"),
    "tie": (("move: [z]", "move: [z], ties: {x: [[0, 9]]}"), r"geometry.lattice: .*ties: rows"),
    "physics": (("name: elasticity", "name: plane_stress"), "physics.name: .*expected one of poisson, elasticity"),
    "component": (("u: 0, v: 0", "u: 0, q: 0"), r"dirichlet.0.q: found 'q'; expected a component: u, v, w"),
    "two loads": (("traction: [0, 0, -1]", "traction: [0, 0, -1], u: 1"), "found traction and a component; expected"),
    "no load": (("natural: [{on: tip, traction: [0, 0, -1]}]", "natural: [{on: tip}]"), "found no load; expected"),
    "region of a load": (("on: tip, pressure", "on: top, pressure"), "'top'; expected a boundary region: wall, tip"),
    "case": (("at_most: initial}", "at_most: initial, case: up}"), "0.case: found 'up'; expected a load case: down"),
    "quantity": (("quantity: volume", "quantity: area"), "found 'area'; expected one of volume, centroid_x"),
    "key": (("mesh_size: 30.0", "mesh_sise: 30.0"), "did you mean 'mesh_size'"),
    "objective": (("minimize: {worst: compliance}", "minimize: compliance"), "expected {sum: compliance} or {worst"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_clear_error(tmp_path, fault):
    pair, message = FAULTS[fault]
    with pytest.raises(StudyError, match=message) as error:
        build_solid_setup(load(changed(tmp_path, pair)))
    assert "beam.yaml:" in str(error.value)


def test_narrow_zones_are_warned_of(tmp_path):
    with pytest.warns(PartWarning, match=r"keep_width is 0.05; below 0.1 the moved CAD needs many more poles"):
        read_part(load(changed(tmp_path, ("keep: [hole]", "keep: [hole]\n  keep_width: 0.05"))))


@pytest.mark.parametrize("name", SHIPPED)
def test_regions_that_inspect_proposes_are_those_of_a_study(name):
    """Written into a study they select the faces that `shapewright inspect` says."""
    solid = read_solid(shipped_part(name), "mm")
    for region in starter_regions(solid.faces, solid.size):
        given = FaceRule.model_validate(region.query).model_dump(exclude_none=True)
        assert select(solid.faces, solid.size, region.name, parse_query(region.name, given)) == region.faces


def test_a_part_of_one_s_own_python(tmp_path):
    (tmp_path / "my_parts.py").write_text(
        "from shapewright.geometries.cad.shipped import cantilever as beam\n", encoding="utf-8"
    )
    text = "\n".join(
        "  cad: my_parts.py:beam" if line.startswith("  cad:") else line for line in BEAM.splitlines()
    )
    setup = build_solid_setup(load(written(tmp_path, text)))
    assert setup.regions["hole"] == (7,)
    assert len(setup.data["cad"]) == 16
