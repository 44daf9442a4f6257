"""Promise: one YAML file and a STEP file give a better STEP file, with a certificate and a report."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import shapewright as sw
from shapewright.app.cli import app
from shapewright.studies.certify.solid_model import read_solid_certificate
from tests.studies.solid_cases import load, written


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solid")
    study = written(folder)
    result = call("run", study, "--out", folder / "out")
    assert result.exit_code == 0, result.output
    return study, folder / "out", result.output


def test_the_certificate_is_of_the_re_read_cad(finished):
    _, out, printed = finished
    certificate = read_solid_certificate(out / "certificate.json")
    assert certificate.accepted
    loose = "moved_mesh 0.02, discretization_error 0.1, 2 meshes"
    assert f"Accepted with loosened limits, {loose}: worst compliance -" in " ".join(printed.split())
    assert certificate.objective.change < -0.1
    assert certificate.cases.keys() == {"down", "pull"}
    assert max(case["final"] for case in certificate.cases.values()) == pytest.approx(
        certificate.objective.value, rel=0.02
    )
    assert certificate.cad.valid
    assert certificate.cad.kept_faces == (7,)
    assert certificate.cad.kept_distance < 1e-9
    assert certificate.cad.deviation < 1e-5
    assert certificate.cad.volume <= certificate.cad.initial_volume * (1 + 2e-4)
    assert certificate.least_jacobian > 0.3
    assert [level.dofs for level in certificate.levels] == sorted({level.dofs for level in certificate.levels})
    assert {peak.case for peak in certificate.peaks} == {"down", "pull"}
    assert abs(certificate.rounds[-1].difference) <= 0.02


def test_the_report_is_one_file_with_pictures(finished):
    _, out, _ = finished
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png") >= 8
    assert html.count("data:image/jpeg") >= 24
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]", html)


def test_what_is_finished_is_reused_and_known(finished):
    study, out, _ = finished
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.*") if path.suffix in (".json", ".step")}
    assert call("run", study, "--out", out).exit_code == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.*") if path.suffix in (".json", ".step")}
    assert {name for name in before if before[name] != after[name]} == {"run.json"}
    states = json.loads(call("status", out, "--json").output)["stages"]
    assert [(state["stage"], state["state"]) for state in states] == [
        (name, "done") for name in ("optimize", "export", "validate")
    ]


def test_verify_finds_what_was_changed(finished):
    _, out, _ = finished
    whole = call("verify", out)
    assert whole.exit_code == 0, whole.output
    assert "AS CERTIFIED" in whole.output
    step = out / "beam.step"
    text = step.read_bytes()
    try:
        step.write_bytes(text.replace(b"CARTESIAN_POINT('',(0.,0.,0.))", b"CARTESIAN_POINT('',(0.,0.,1.))", 1) + b" ")
        spoilt = call("verify", out)
    finally:
        step.write_bytes(text)
    assert spoilt.exit_code == 1
    assert "NOT AS CERTIFIED" in spoilt.output


def test_check_tests_the_derivatives(finished):
    study, _, _ = finished
    result = call("check", study)
    assert result.exit_code == 0, result.output
    assert "8 parameters" in " ".join(result.output.split())
    assert "compliance (pull)" in result.output


def test_the_same_from_python(finished):
    study, out, _ = finished
    certificate = sw.run(load(study), out)
    assert certificate == read_solid_certificate(out / "certificate.json")
    assert sw.load(study) == load(study)


def test_a_command_for_planar_studies_refuses(finished):
    study, _, _ = finished
    result = call("train", study)
    assert result.exit_code == 2
    assert "a study of a solid is for `shapewright run`" in " ".join(result.output.split())
