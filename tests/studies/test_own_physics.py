"""A physics of one's own, by the name of its file: loaded, solved, part of the keys, and refused where it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from shapewright.app.cli import app
from shapewright.studies.certify.digest import sources_of
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.resolved import claim_folder, write_study
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, load_study

PHYSICS = """
from shapewright import Coefficient, Field, Functional, Physics

ABSORBING = Physics(
    name="absorbing",
    description="div(grad u) - absorption u + source = 0",
    fields=(Field("u", ("u",), 2, "1", "concentration"),),
    coefficients=(Coefficient("absorption", 1.0, "1/length^2", "rate"),),
    flux=lambda ops, q: {"u": (q["u_x"], q["u_y"])},
    source=lambda ops, q: {"u": -q["absorption"] * q["u"]},
    functionals=(Functional("content", lambda ops, q: q["u"], "length^2", "int u"),),
)


def absorbing(dimension):
    return ABSORBING


NUMBER = 3


def fails():
    raise RuntimeError("no data")
"""
STUDY = """
name: own
geometry: {family: closed_bar, options: {control_points: 6}, mesh_size: 0.3}
physics:
  name: my_physics.py:absorbing
  coefficients: {absorption: 4.0}
  dirichlet: [{on: wall, u: "exp(2*x)"}]
objective: {minimize: content}
constraints: [{quantity: area, equals: initial}]
optimizer: {on: fem, starts: 1}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "my_physics.py").write_text(PHYSICS)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def test_it_is_solved(study):
    """exp(2 x) solves it for an absorption of four."""
    errors = []
    for size in (0.3, 0.15):
        setup = build_setup(load_study(study, [f"geometry.mesh_size={size}"]))
        solution = FemModel(setup).solve(setup.initial)
        errors.append(np.abs(solution.fields["u"].ravel() - np.exp(2 * solution.nodes[:, 0])).max())
    assert errors[1] < 0.3 * errors[0] < 0.01


def test_a_folder_of_it_is_claimed_again(study):
    """The name of its file there is relative to the folder."""
    loaded, workspace = load_study(study), Workspace(study.parent / "deep" / "out")
    with workspace.lock():
        claim_folder(loaded, workspace)
        write_study(loaded, workspace, {})
        claim_folder(loaded, workspace)
    assert load_study(workspace.path("resolved.yaml")).model.physics.name == "../../my_physics.py:absorbing"


def test_check_tests_its_derivatives(study):
    result = CliRunner().invoke(app, ["check", str(study)])
    assert result.exit_code == 0, result.output


def test_its_text_is_part_of_keys_and_certificate(study):
    loaded = load_study(study)
    before = physical_inputs(build_setup(loaded)), sources_of(loaded, None)
    file = study.parent / "my_physics.py"
    file.write_text(file.read_text() + "# another text\n")
    after = physical_inputs(build_setup(loaded)), sources_of(loaded, None)
    assert before[0] != after[0]
    assert before[1]["physics"] != after[1]["physics"]
    assert before[1]["study"] == after[1]["study"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.py:absorbing", r"physics 'other.py:absorbing': there is no file .*other.py"),
        ("my_physics.py:missing", r"defines no 'missing'"),
        ("my_physics.py:NUMBER", r"'my_physics.py:NUMBER' is a int; allowed is a shapewright.Physics, or a function"),
        ("my_physics.py:fails", r"physics 'my_physics.py:fails': RuntimeError: no data"),
    ],
)
def test_what_is_wrong_with_it_is_said(study, name, message):
    with pytest.raises(StudyError, match=rf"override 'physics.name={name}': physics.name: .*{message}"):
        build_setup(load_study(study, [f"physics.name={name}"]))
