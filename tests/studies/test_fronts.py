"""Promise: a study of two objectives ends in designs spread along their front, each certified, in few solves.

Of all simply connected sections of equal area and second moment, the ellipse meets the first-order conditions of the
largest torsional constant: on its wall |grad u|^2 is a number plus a multiple of y^2.
"""

import json
import math
import shutil

import numpy as np
import pytest

from shapewright.studies.certify.front_model import FrontError, read_front
from shapewright.studies.optimize import trust_region_search
from shapewright.studies.optimize.dominance import dominated_by, hypervolume
from shapewright.studies.problem.front import Frame, end_study, limited_study, next_limit
from shapewright.studies.problem.front import Limit as FrontLimit
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run import front as front_module
from shapewright.studies.run.failed_search import OptimizationError
from shapewright.studies.run.front_point import Found
from shapewright.studies.run.kinds import open_folder
from shapewright.studies.run.pipeline import Run, find_optimum, front_of
from shapewright.studies.run.resolved import write_study
from shapewright.studies.run.status import State, stage_states
from shapewright.studies.run.verify import verify
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, dump, load_study
from tests.studies.front_cases import write_front

AREA = 3.0


def run_of(folder, *overrides):
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(build_setup(load_study(write_front(folder), overrides)), Workspace(folder / "out"))
    run.workspace.folder.mkdir(exist_ok=True)
    write_study(run.setup.study, run.workspace, {})
    return run


@pytest.fixture(autouse=True, scope="module")
def interpolation_alone():
    """The trust region without a reduced basis, whose calls cost more than solves of so small a problem."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust_region_search, "own_model", lambda setup, store: None)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def front(run):
    return front_of(run)


def test_every_design_is_accepted_and_none_dominated(front):
    assert front.accepted, front.verdict
    assert front.evaluated == "extrapolated"
    assert [point.number for point in front.points] == [1, 2, 3, 4]
    torsion, bending = np.array([point.objectives for point in front.points]).T
    assert (np.diff(torsion) < 0).all()
    assert (np.diff(bending) > 0).all()
    scaled = Frame.of(-np.stack([torsion, bending], -1)[[0, -1]]).scaled(-np.stack([torsion, bending], -1))
    assert np.abs(np.diff(scaled[:, 0] - scaled[:, 1]) - 2 / 3).max() < 0.35
    assert 0.5 < front.hypervolume < 1.21


def test_sections_are_between_what_is_known(front):
    """No section has more than 4 Ix Iy/(Ix + Iy) (Nicolai), nor of its area more than the disc."""
    disc = AREA**2 / (2 * math.pi)
    assert front.points[0].objectives[0] == pytest.approx(disc, rel=5e-3)
    for point in front.points:
        assert point.objectives[0] <= disc * (1 + 1e-3)


def test_each_design_is_an_ordinary_study(run, front):
    point = front.points[1]
    folder = run.workspace.path(point.folder)
    study = load_study(folder / "resolved.yaml").model
    assert study.objectives is None
    assert study.constraints[-1].name == point.limit.objective
    assert study.constraints[-1].at_least == pytest.approx(point.limit.value)
    assert all(finding.ok for finding in verify(folder))
    assert {state.state for state in stage_states(*open_folder(folder))} == {State.DONE}


def test_solutions_are_shared(front, tmp_path):
    """The first search is the same in each; the others know its solutions and those after it, or only their own."""
    alone = front_of(run_of(tmp_path / "alone", "front.share=false", "front.certificates=ends"))
    assert alone.evaluated == "moved mesh"
    assert [point.certified for point in alone.points] == [True, False, False, True]
    shared, own = ([point.search_solves["forward"] for point in one.points] for one in (front, alone))
    assert shared[0] == own[0]
    assert sum(shared[1:]) < 0.75 * sum(own[1:])
    by_fem = front_of(run_of(tmp_path / "fem", "optimizer.method=slsqp", "optimizer.on=fem", "front.certificates=ends"))
    assert sum(shared) < by_fem.search_solves["forward"]
    for found in (alone, by_fem):
        assert found.hypervolume == pytest.approx(front.hypervolume, rel=0.02)


def test_a_broken_run_goes_on_from_the_designs_that_are_there(run, front, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(run.workspace.folder, folder)
    again = Run(run.setup, Workspace(folder))
    (folder / ".stages" / "point03.json").unlink()
    (folder / ".stages" / "front.json").unlink()
    before = {state.stage: state.state for state in stage_states(*open_folder(folder))}
    assert before == {"point01": "done", "point04": "done", "point02": "done", "point03": "missing", "front": "missing"}
    sought, find = [], front_module.find
    monkeypatch.setattr(front_module, "find", lambda run, task, s: sought.append(task.number) or find(run, task, s))
    found = front_of(again)
    assert sought == [3]
    assert found.points[2].parameters == pytest.approx(front.points[2].parameters, rel=1e-12)
    assert found.points[2].search_solves == front.points[2].search_solves
    assert {state.state for state in stage_states(*open_folder(folder))} == {State.DONE}


def test_verify_tells_what_was_changed(run, front, tmp_path):
    assert all(finding.ok for finding in verify(run.workspace.folder))
    folder = tmp_path / "copy"
    shutil.copytree(run.workspace.folder, folder)
    content = json.loads((folder / "front.json").read_text())
    content["hypervolume"] *= 1.01
    (folder / "front.json").write_text(json.dumps(content))
    certificate = folder / "points" / "02" / "certificate.json"
    certificate.write_text(certificate.read_text().replace('"accepted": true', '"accepted": false', 1))
    faults = {finding.what: finding.text for finding in verify(folder) if not finding.ok}
    assert faults.keys() == {"stage point02", "stage front", "points/02", "designs"}
    assert "hypervolume" in faults["designs"]
    (folder / "front.json").write_text("{}")
    assert [finding.ok for finding in verify(folder)] == [False]
    with pytest.raises(FrontError, match="has no entry 'version'"):
        read_front(folder)


def test_the_study_loads_back(tmp_path):
    study = load_study(write_front(tmp_path))
    path = tmp_path / "again.yaml"
    path.write_text(dump(study, tmp_path))
    assert load_study(path).model == study.model
    assert study.model.optimizer.method == "trust_region"


def test_a_limit_takes_the_place_of_a_wider_one(tmp_path):
    wider = "[{quantity: second_moment, at_least: 0.1}, {quantity: area, equals: 3.0}]"
    study = load_study(write_front(tmp_path), [f"constraints={wider}"])
    single = limited_study(study, FrontLimit(1, 0.9), "one").model
    assert [(c.name, c.target) for c in single.constraints] == [("area", 3.0), ("second_moment", 0.9)]
    end = end_study(study, 0).model  # the integral is defined where it is used now
    assert end.constraints[0].quantity == study.model.objectives[1].functional


def test_the_next_limit_follows_the_front():
    """Of a quarter of a circle, the limits lie where the normals at equal distances meet it."""
    at, slope = np.array([0.0, 1.0]), -math.inf
    for along in np.linspace(-1, 1, 21)[1:-1]:
        of, level = next_limit(at, slope, float(along))
        other = 1 - math.sqrt(1 - (1 - level) ** 2)  # (1 - f)^2 + (1 - g)^2 = 1
        at = np.array([level, other] if of == 0 else [other, level])
        assert abs(at[0] - at[1] - along) < 0.02
        assert of == (1 if at[1] > at[0] + 0.02 else of)
        slope = -(1 - at[0]) / (1 - at[1])
    assert of == 0


def test_dominated_designs_are_named():
    designs = np.array([[0.0, 1.0], [0.5, 0.5], [0.6, 0.5], [1.0, 0.0], [0.5, 0.5]])
    assert dominated_by(designs) == [None, None, 1, None, 1]
    assert hypervolume(designs, np.array([1.0, 1.0])) == pytest.approx(0.25)


REFUSED = {
    "one objective": (
        ("  - maximize: torsional_constant\n", ""),
        "objectives: found a list of 1; expected",
    ),
    "both keys": (
        ("front: {points: 4}", "objective: {maximize: torsional_constant}"),
        "objectives: found it beside objective; expected one of them",
    ),
    "a front alone": (
        ("objectives:\n  - maximize: torsional_constant\n  - maximize: {name: second_moment, integrand: \"y**2\"}\n",
         "objective: {maximize: torsional_constant}\n"),
        "front: found it without objectives; expected objectives",
    ),
    "a single point": (("points: 4", "points: 1"), "front.points: found 1 (a number); expected a whole number >= 2"),
    "an unknown functional": (
        ("- maximize: torsional_constant", "- maximize: stiffness"),
        "objectives.0.maximize: found 'stiffness'; expected one of torsional_constant",
    ),
    "the same twice": (
        ('{name: second_moment, integrand: "y**2"}', "torsional_constant"),
        "objectives: found the same objective twice; expected two that differ",
    ),
    "no sense": (
        ("- maximize: torsional_constant", "- {}"), "objectives.0: found neither of maximize and minimize",
    ),
    "a typo": (("points: 4", "pionts: 4"), "front.pionts: unknown key; did you mean 'points'?"),
    "a surrogate": (
        ("front: {points: 4}", "model: surrogate"),
        "model: found surrogate with objectives; expected fem or an operator",
    ),
    "cases": (
        ("- maximize: torsional_constant", "- maximize: {worst: torsional_constant}"),
        "objectives.0.maximize: found 'worst torsional_constant'; expected the name of a functional",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_by_its_key(tmp_path, name):
    change, message = REFUSED[name]
    path = write_front(tmp_path, change)
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(path))
    assert message in str(caught.value)
    assert "tiny.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objectives_that_agree_are_refused(run):
    end = Found({}, (1.5, 0.7), None, None, 0.0, 0.0, {}, ())
    with pytest.raises(OptimizationError, match="torsional_constant and second_moment do not contradict each other"):
        front_module._task(run.setup, 2, 4, [end, end])


def test_commands_for_one_optimum_refuse_a_front(run):
    with pytest.raises(StudyError, match="objectives: found a front; expected objective for a single optimum"):
        find_optimum(run)
