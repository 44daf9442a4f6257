"""Promise: load cases, weighted or the worst of them, lead to a certified optimum, or are refused by their key.

The worst of two equal cases is each of them; loads that mirror each other have a symmetric optimum.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from shapewright.app.provenance import provenance
from shapewright.app.report.data import read_folder
from shapewright.studies.certify.taylor import check_study
from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.pipeline import Run, sample, validate
from shapewright.studies.run.resolved import write_study
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, dump, load_study
from tests.studies.study_cases import write_tiny

BRACKET = Path(__file__).parents[2] / "studies" / "examples" / "bracket.yaml"
COARSE = ("geometry.mesh_size=0.4", "geometry.options.control_points=4")
DOWN = "{natural: [{on: tip, u: 1.0, v: -1.0}]}"
UP = "{natural: [{on: tip, u: 1.0, v: 1.0}]}"


def setup_of(*overrides):
    """The bracket on a mesh too coarse for its patches, pulled along its whole tip."""
    cases = f"physics.cases={{down: {DOWN}, up: {UP}}}"
    return build_setup(load_study(BRACKET, [*COARSE, cases, *overrides]))


def optimum_of(setup):
    found = optimize(setup, FemModel(setup), setup.study.model.optimizer.model_copy(update={"tolerance": 1e-10}))
    assert found.ok
    return found.best


@pytest.fixture(scope="module")
def alone():
    """The optimum of a single load, without any cases."""
    natural = "physics.natural=[{on: tip, u: 1.0, v: -1.0}]"
    return optimum_of(setup_of("physics.cases={}", natural, "objective={minimize: compliance}"))


@pytest.mark.parametrize("objective", ["{worst: compliance}", "{sum: compliance, weights: {one: 0.25, two: 0.75}}"])
def test_equal_cases_are_the_single_case(alone, objective):
    setup = setup_of(f"physics.cases={{one: {DOWN}, two: {DOWN}}}", f"objective={{minimize: {objective}}}")
    best = optimum_of(setup)
    assert best.objective == pytest.approx(alone.objective, rel=1e-8)
    np.testing.assert_allclose(best.theta, alone.theta, atol=1e-3)


def test_mirrored_loads_have_a_symmetric_optimum(alone):
    best = optimum_of(setup_of())
    lower, upper = np.split(best.theta, 2)
    np.testing.assert_allclose(lower, upper, atol=5e-3)
    one, other = np.split(alone.theta, 2)
    assert np.abs(one - other).max() > 0.05  # which the optimum of one of them is not


def test_every_derivative_with_load_cases():
    setup = setup_of(
        f"physics.cases={{down: {DOWN}, side: {{source: {{u: 0.4}}, dirichlet: [{{on: root, v: '0.01*y'}}]}},"
        " push: {natural: [{on: upper, patch: {at: [1.0, 0.5], width: 0.45}, total: {v: -0.6}}]}}",
        "constraints=[{quantity: compliance, case: side, at_most: 9},"
        " {quantity: {name: tip, integrand: 'v**2', on: tip}, at_most: 9}]",
    )
    names = [functional.name for functional in setup.problem.functionals]
    each = [f"{name} ({case})" for name in ("compliance", "tip") for case in ("down", "side", "push")]
    assert names == ["worst compliance", *each]
    assert [c.quantity for c in setup.constraints] == ["compliance (side)", *each[3:]]
    assert [c.entry for c in setup.constraints] == [0, 1, 1, 1]
    tests = [test for test in check_study(setup) if test.name.startswith("FEM")]
    assert len(tests) == 2 * len(names) + 1
    for test in tests:
        assert test.passed, f"{test.name}: {test.explanation}"


def test_the_certificate_states_every_case_and_the_true_worst(tmp_path):
    limits = "constraints=[{quantity: area, at_most: 1.6}, {quantity: compliance, at_most: 1.0}]"
    load = f"physics.cases={{down: {DOWN}, up: {{natural: [{{on: tip, u: 1.0, v: 1.1}}]}}}}"
    setup = setup_of(limits, load, "objective={minimize: {worst: compliance, sharpness: 20}}")
    run = Run(setup, Workspace(tmp_path))
    content = validate(run)
    write_study(setup.study, run.workspace, provenance("cpu", 0))
    cases, worst = content["objective"]["cases"], content["objective"]["cases"]["worst"]
    assert list(cases["each"]) == ["down", "up"]
    for name, case in cases["each"].items():
        assert len(case["fem_levels"]) == 3
        rows = {row["name"]: row for row in content["constraints"]}
        assert rows[f"compliance ({name}) at most"]["value"] == case["fem_extrapolated"]
    assert worst["case"] == "up"
    assert worst["value"] == max(case["fem"] for case in cases["each"].values())
    assert 0 < worst["smooth_off"] <= worst["smooth_off_at_most"]
    assert worst["value"] - worst["smooth_off"] == pytest.approx(content["objective"]["fem"], rel=1e-12)
    assert content["accepted"], content["reasons"]
    solves = content["fem_solves"]
    assert solves["forward"] % 2 == 0
    finished = read_folder(tmp_path)
    assert [constraint.name for constraint, _ in finished.constraints] == ["area", "compliance", "compliance"]


def test_the_study_loads_back(tmp_path):
    study = load_study(BRACKET)
    path = tmp_path / "again.yaml"
    path.write_text(dump(study, tmp_path))
    again = load_study(path).model
    assert (again.physics, again.objective) == (study.model.physics, study.model.objective)


WORST, WALL = "{worst: compliance}", "{natural: [{on: wall, u: 1}]}"
REFUSED = {
    "a surrogate": ({}, "optimizer.on: found 'surrogate' with physics.cases; expected fem: a surrogate does not"),
    "no combination": ({"objective": "compliance"}, "objective.minimize: found 'compliance'; expected {sum: comp"),
    "no cases": ({"cases": ""}, "objective.minimize: found 'worst compliance'; expected the name of a functional"),
    "other supports": (
        {"cases": "one: {dirichlet: [{on: wall, u: 0.0}]}"},
        "physics.cases.one.dirichlet: found a value of 'u' on 'wall'; expected values on supports",
    ),
    "unknown case": (
        {"quantity": "{quantity: compliance, case: four, at_most: 1}"},
        "constraints.0.case: found 'four'; expected a load case: one, two",
    ),
    "case of a shape": (
        {"quantity": "{quantity: area, case: one, at_most: 1}"},
        "constraints.0.case: found 'one'; expected none for a quantity of the shape",
    ),
    "unknown weight": (
        {"objective": "{sum: compliance, weights: {three: 1}}"},
        "objective.minimize.weights.three: found 'three'; expected a load case: one, two",
    ),
    "unknown functional": (
        {"objective": "{worst: drag}"}, "objective.minimize: found 'drag'; expected one of torsional_constant",
    ),
    "both": ({"objective": "{sum: compliance, worst: area}"}, "objective.minimize: found both of sum and worst"),
    "weights of the worst": (
        {"objective": "{worst: compliance, weights: {one: 1}}"}, "objective.minimize.weights: found it without sum",
    ),
    "a name": ({"cases": f"my case: {WALL}"}, "physics.cases.my case: found 'my case'; expected a name of letters"),
    "a region": (
        {"cases": "one: {natural: [{on: rim, u: 1}]}"}, "physics.cases.one.natural.0.on: found 'rim'; expected",
    ),
    "a formula": ({"cases": "one: {source: {u: 2*z}}"}, "physics.cases.one.source.u: found the name 'z' in column 3"),
    "a patch": (
        {"cases": "one: {natural: [{on: wall, patch: {at: [9, 9], width: 1}, total: {u: 1}}]}"},
        "physics.cases.one.natural.0.patch.at: found [9.0, 9.0]",
    ),
    "twice": (
        {"quantity": "{quantity: compliance, at_most: 1}, {quantity: compliance, case: one, at_most: 2}"},
        "constraints.1: found more than one 'compliance at_most'; expected each once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_by_its_key(tmp_path, name):
    changes, message = REFUSED[name]
    given = {
        "objective": WORST, "cases": f"one: {WALL}, two: {WALL}",
        "quantity": "{quantity: area, at_most: 3.0}",
    } | changes  # fmt: skip
    section = "  natural: [{on: wall, u: '-u'}]\n  cases: {" + given["cases"] + "}\n"
    path = write_tiny(
        tmp_path,
        ("  dirichlet:\n    - {on: wall, u: 0.0}\n", section),
        ("{maximize: torsional_constant}", f"{{minimize: {given['objective']}}}"),
        ("  - {quantity: area, equals: 3.0}\n  - {quantity: jacobian, at_least: 0.1}", f"  [{given['quantity']}]"),
    )
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(path, [] if name == "a surrogate" else ["optimizer.on=fem"]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_for_a_surrogate_are_refused(tmp_path):
    with pytest.raises(StudyError, match=r"physics.cases: found 2 load cases; expected none"):
        sample(Run(setup_of(), Workspace(tmp_path)))


def test_the_gradient_of_the_worst_is_that_of_the_worst_where_it_stands_alone():
    setup = setup_of("physics.cases.up={natural: [{on: tip, u: 0.1, v: 0.1}]}")
    values, gradients, _ = FemModel(setup).functionals(setup.initial)
    assert values[1] > 50 * values[2]
    cosine = torch.cosine_similarity(*torch.from_numpy(gradients[:2]), dim=0)
    assert float(cosine) > 0.9999
