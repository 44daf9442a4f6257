"""Promise: the command line takes a study of two objectives from its file to a page with the front, or says why not."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import shapewright as sw
from shapewright.app import cli
from shapewright.app.cli import Exit
from shapewright.app.report.front_report import write_front_report
from tests.studies.front_cases import write_front

QUICK = ("optimizer.method=slsqp", "optimizer.on=fem", "front.points=3", "front.certificates=ends")


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`run` of the tiny front: its result, its folder and its study."""
    folder = tmp_path_factory.mktemp("front")
    study = write_front(folder)
    options = [part for override in QUICK for part in ("--set", override)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "console", Console(width=200))
        return call("run", study, "--out", folder / "out", *options), folder / "out", study


def test_run_prints_every_design_and_the_verdict(whole):
    result, folder, _ = whole
    front = sw.read_front(folder)
    assert result.exit_code == (Exit.OK if front.accepted else Exit.NOT_ACCEPTED), result.output
    assert front.accepted, str(front)
    assert "ACCEPTED: all 3 designs are accepted and none is dominated" in result.output
    for point in front.points:
        assert f"{point.objectives[0]:.7g}" in result.output
        assert (folder / point.folder / "optimum.step").is_file()
    assert "not accepted" not in str(front)


def test_the_page_shows_the_front_and_each_design(whole):
    _, folder, _ = whole
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('alt="Outline of design') == 3
    assert "torsional constant" in page
    assert page.count('href="points/02/') == 1  # its STEP alone: the ends have certificates and reports
    for name in ("report.html", "optimum.step", "certificate.json"):
        assert f'href="points/01/{name}"' in page
        assert (folder / "points" / "01" / name).is_file()
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_design_that_is_not_accepted_is_told(whole):
    _, folder, _ = whole
    front = sw.read_front(folder)
    text = (folder / "front.json").read_text()
    content = json.loads(text)
    content["points"][1] |= {"accepted": False, "verdict": "KKT residual: 0.2 is not <= 0.05"}
    content["points"][2] |= {"dominated_by": 2}
    content |= {"accepted": False, "verdict": "Not accepted: of 3 designs, designs 2 are not accepted"}
    try:
        (folder / "front.json").write_text(json.dumps(content))
        page = write_front_report(folder).read_text(encoding="utf-8")
    finally:
        (folder / "front.json").write_text(text)
    assert "Design 2: KKT residual: 0.2 is not" in page
    assert "dominated by 2" in page
    assert '<section class="verdict">' in page
    assert front == sw.read_front(folder)


def test_status_and_verify_know_the_folder(whole, monkeypatch):
    _, folder, _ = whole
    monkeypatch.setattr(cli, "console", Console(width=200))
    stages = json.loads(call("status", folder, "--json").output)["stages"]
    assert [(stage["stage"], stage["state"]) for stage in stages] == [
        ("point01", "done"), ("point03", "done"), ("point02", "done"), ("front", "done"),
    ]  # fmt: skip
    result = call("verify", folder)
    assert result.exit_code == 0, result.output
    assert "ok points/01" in result.output


def test_commands_for_one_optimum_say_what_to_call(whole):
    _, _, study = whole
    for command in ("optimize", "export", "validate", "sample"):
        result = call(command, study, "--out", study.parent / "other")
        assert result.exit_code == Exit.BAD_INPUT
        assert "shapewright run" in result.stderr


def test_a_front_in_python(tmp_path):
    with pytest.raises(sw.StudyError, match=r"Study\(objectives=...\): objectives: found a list of 1"):
        front_study(objectives=[{"maximize": "torsional_constant"}])
    study = front_study()
    assert study.model.front.points == 20
    assert "objectives:" in str(study)
    with pytest.raises(sw.StudyError, match="objectives: found a front; expected one objective"):
        sw.optimize(study, model=sw.fem(study))
    path = tmp_path / "study.yaml"
    path.write_text(study.to_yaml(Path(tmp_path)))
    assert sw.load(path).model == study.model


def front_study(**changes):
    bending = {"name": "second_moment", "integrand": "y**2"}
    return sw.Study(
        sw.Design(sw.families.closed_bar(control_points=6, start="ellipse"), mesh_size=0.4),
        sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0}),
        constraints=[sw.equals("area", 3.0)],
        **{"objectives": [{"maximize": "torsional_constant"}, {"maximize": bending}]} | changes,
    )
