"""Promise: a load on a patch is named in one line, judged on the CAD, differentiated exactly, or refused by its key."""

import pytest
import torch

from shapewright.studies.certify.certificate import certify
from shapewright.studies.certify.export import export_cad
from shapewright.studies.certify.taylor import _finite_elements
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import StudyError, dump, load_study
from tests.studies.study_cases import setup_of, write_tiny

PLATE = """\
name: plate
geometry:
  family: plate_with_hole
  options: {width: 6.0, height: 6.0, radius: 1.0, control_points: 8}
  mesh_size: 0.25
physics:
  name: plane_stress
  dirichlet: [{on: left, u: 0.0, v: 0.0}]
  natural:
    - {on: hole, patch: {at: [1.0, 0.0], width: 0.5}, total: {u: 3.0, v: 1.0}}
objective: {minimize: compliance}
constraints: [{quantity: {name: pull, integrand: "u", on: right}, at_most: 100}]
optimizer: {on: fem}
"""


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    path = tmp_path_factory.mktemp("plate") / "plate.yaml"
    path.write_text(PLATE)
    return build_setup(load_study(path))


def test_every_derivative_with_a_patch_on_a_boundary_that_moves(setup):
    bounds = setup.family.bounds
    span = bounds[:, 1] - bounds[:, 0]
    theta, direction = setup.initial + 0.05 * span, 0.2 * span * torch.tensor([1.0, -0.7, 0.5], dtype=torch.float64)
    for test in _finite_elements(setup, theta, direction):
        assert test.passed, f"{test.name}: {test.explanation}"
        assert abs(test.derivative) > 1e-4 * abs(test.value)


def test_the_point_moves_with_the_shape(setup):
    theta = setup.initial.clone()
    theta[0] *= 1.05
    (patch,), (moved,) = setup.problem_at(setup.initial).patches, setup.problem_at(theta).patches
    assert patch.at == pytest.approx((1.0, 0.0), abs=2e-2)  # the nearest point of the hole
    assert moved.at == pytest.approx((1.05 * patch.at[0], 0.0), abs=1e-5)  # facets are parabolas


def test_the_certificate_judges_it_on_the_cad(setup, tmp_path):
    exported = export_cad(setup, setup.initial, tmp_path)
    content = certify(setup, setup.initial, exported, tmp_path, None).as_data()
    assert content["objective"]["fem"] == pytest.approx(content["objective"]["fem_mapped"], rel=1e-2)  # held corners
    levels = [level["value"] for level in content["objective"]["fem_levels"]]
    assert abs(levels[2] - levels[1]) < 0.5 * abs(levels[1] - levels[0])
    row = content["constraints"][0]
    assert row["value"] == pytest.approx(row["evidence"]["fem_mapped"], rel=1e-2)


NATURAL = "  dirichlet:\n    - {on: wall, u: 0.0}\n"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{on: rim, patch: {at: [1, 0], width: 0.5}, total: {u: 1}}", "0.on: found 'rim'; expected a boundary region"),
        ("{on: wall, patch: {at: [1, 0], width: 0.5}, total: {w: 1}}", "0.total.w: found 'w'; expected a component: u"),
        ("{on: wall, patch: {at: [9, 0], width: 0.5}, total: {u: 1}}", "0.patch.at: found [9.0, 0.0], "),
        ("{on: wall, patch: {at: [1, 0], width: 0.01}, total: {u: 1}}", "0.patch.width: found 0.01; expected no less"),
        ("{on: wall, patch: {at: [1, 0], width: 0.5}}", "0: found patch without total; expected patch and total"),
        ("{on: wall, total: {u: 1}}", "0.total: found it without patch; expected patch: {at: [x, y], width: ...}"),
        ("{on: wall, u: 1, patch: {at: [1, 0], width: 0.5}, total: {u: 1}}", "0: found patch with u; expected"),
        ("{on: wall}", "0: found no component; expected at least one with its value"),
        ("{on: wall, patch: {at: [1, 0], width: 0}, total: {u: 1}}", "0.patch.width: found 0 (a number); expected a"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(tmp_path, entry, message):
    path = write_tiny(tmp_path, (NATURAL, f"  natural:\n    - {entry}\n"))
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(path))
    assert f"physics.natural.{message}" in str(caught.value)


def test_the_study_loads_back_and_others_keep_their_data(setup, tmp_path):
    path = tmp_path / "again.yaml"
    path.write_text(dump(setup.study))
    assert load_study(path).model == setup.study.model
    robin = setup_of("physics.dirichlet=[]", "physics.natural=[{on: wall, u: '-u'}]")
    assert robin.trained_for()["physics"]["natural"] == [{"on": "wall", "u": "-u"}]  # as shipped weights know it
    assert "patch" in setup.trained_for()["physics"]["natural"][0]
