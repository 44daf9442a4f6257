"""Promise: what would take too much memory is refused with its key; `--force` reaches mesher and workers."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from shapewright.app.cli import app
from shapewright.geometries.family import effort
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import StudyError, load_study
from tests.studies.study_cases import write_tiny


@pytest.fixture
def narrow(monkeypatch):
    """A limit that the tiny study's meshes exceed."""
    monkeypatch.setattr(effort, "MOST_NODES", 20)


def test_the_command_line(tmp_path, narrow):
    path, out = write_tiny(tmp_path), tmp_path / "out"
    changes = ("constraints=[]", "optimizer.on=fem", "optimizer.max_iterations=2")
    options = ["--out", str(out), *(word for change in changes for word in ("--set", change))]
    refused = CliRunner().invoke(app, ["export", str(path), *options])
    assert refused.exit_code == 2
    assert "tiny.yaml:6: geometry.mesh_size: cells of size 0.4 make about" in refused.output
    assert "--force" in refused.output
    made = CliRunner().invoke(app, ["export", str(path), *options, "--force"])
    assert made.exit_code == 0, made.output
    assert (out / "optimum.step").is_file()
    assert not effort.forced()  # it ends with the command


def test_a_study_carries_it_to_the_processes_that_work_on_it(tmp_path, narrow):
    study = load_study(write_tiny(tmp_path))
    with pytest.raises(StudyError, match=r"tiny.yaml:6: geometry.mesh_size: .* the limit is 20 nodes"):
        build_setup(study)
    assert len(build_setup(study.forced()).shape_map.mesh.nodes) > 100


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("geometry.mesh_size=1e-4", r"geometry.mesh_size: cells of size 0.0001 make about [\d.e+]+ nodes, .* TB"),
        ("geometry.mesh_size=1e-300", "geometry.mesh_size: cells of size 1e-300 make about inf nodes"),
        ("validation.mesh_size=1e-3", "validation.mesh_size: on the finest of 3 validation.refinements, cells of"),
        ("validation.refinements=40", "geometry.mesh_size: on the finest of 40 validation.refinements"),
        ("geometry.options.control_points=1000000", "geometry.options: .* option control_points is 1000000; allowed"),
        ("geometry.options.control_points=2000", r"geometry.options: .* control_points: 2000 .* the limit is 8 GB"),
        ("geometry.thickness=1e-300", "geometry.thickness: found 1e-300; expected .* to .*, beside a part of size"),
        ("geometry.thickness=1e12", r"geometry.thickness: found 1e\+12; expected"),
        ("geometry.fixed={r0: 1e300}", r"geometry.fixed: 'r0' is 1e\+300; allowed are sizes up to 1e\+30"),
        ("geometry.fixed={r0: -1}", "geometry.fixed: found a start design that is no valid shape"),
        ("geometry.bounds={r0: [0, 1e300]}", r"geometry.bounds.r0: found .*1e\+300\]; .* not be larger than 1e\+30"),
    ],
)
def test_each_limit_names_its_key(tmp_path, override, said):
    with pytest.raises(StudyError, match=said) as caught:
        build_setup(load_study(write_tiny(tmp_path), [override]))
    assert "\n" not in str(caught.value)


def test_what_was_made_by_force_is_verified_without(tmp_path, narrow):
    path, out = write_tiny(tmp_path), tmp_path / "out"
    changes = ("optimizer.on=fem", "optimizer.starts=1", "optimizer.max_iterations=60")
    options = ["--out", str(out), *(word for change in changes for word in ("--set", change))]
    made = CliRunner().invoke(app, ["run", str(path), *options, "--force"])
    assert (out / "certificate.json").is_file(), made.output
    verified = CliRunner().invoke(app, ["verify", str(out), "--resolve"])
    assert verified.exit_code == 0, verified.output
