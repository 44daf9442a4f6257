"""Promise: what an optimum would cost is told from measured numbers, and a model that is left open is chosen by it."""

import json
from dataclasses import replace

import pytest

import shapewright as sw
from benchmarks.measured_solves import content
from shapewright.studies.run import plan as planning
from shapewright.studies.run.measured import FILE, MeasuredSearch, expected, measured
from shapewright.studies.run.plan import CHOICE, Times, Way, choose, make_plan, pays_after, ways_of, with_choice
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.study import PretrainedOperator
from tests.studies.study_cases import setup_of, write_tiny, write_tiny_operator

METHODS = ["fem", "reduced_basis", "operator", "surrogate"]


def search(method, variables, solves, gap=0.0):
    return MeasuredSearch("known", variables, method, solves, gap, 2.0, 100.0, 50)


KNOWN = tuple(search(*row) for row in (("fem", 6, 10), ("interpolation", 6, 5, 1e-5), ("operator", 6, 2, 1e-6)))


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(planning, "expected", lambda method, variables: expected(method, variables, KNOWN))


def test_the_measured_solves_of_the_package_are_those_of_the_benchmark():
    assert json.loads(FILE.read_text()) == content(), "run: python -m benchmarks.measured_solves"


def test_expected_solves_are_medians_of_studies_with_about_as_many_variables():
    rows = [search("fem", 8, 9), search("fem", 9, 20), search("fem", 12, 31), search("fem", 30, 500)]
    assert expected("fem", 9, rows).solves == 20
    assert expected("fem", 9, rows).basis == "median of known (8 to 12 variables)"
    assert expected("fem", 7, rows).solves == 14.5
    assert expected("fem", 18, rows).solves == 31
    assert expected("fem", 3, rows) is None
    assert expected("operator", 9, rows) is None
    assert {row.method for row in measured()[1]} >= {"fem", "interpolation", "surrogate"}


def test_the_ways_follow_from_times_and_solves(known):
    setup = setup_of()  # 6 variables, 2 starts, 6 + 3 samples in one process
    fem, own, operator, surrogate = ways_of(setup, Times(2.0, 1.0, 0.5), "")
    assert (fem.solves, fem.seconds) == (20, pytest.approx(60.0))
    assert (own.method, own.solves, own.seconds) == ("reduced_basis", 5, pytest.approx(15.0))
    assert own.basis == "not measured, so as by interpolation alone: median of known (6 variables)"
    assert operator.calls == 12 * 2 + 2
    assert operator.seconds == pytest.approx(2 * 3.0 + 26 * 0.5)
    dearer = ways_of(setup, Times(2.0, 1.0, 0.5, tangents=0.5), "")
    assert [way.seconds - cheap.seconds for way, cheap in zip(dearer[:3], (fem, own, operator), strict=True)] == [
        0.0, pytest.approx(5 * 0.5), pytest.approx(2 * 0.5),
    ]  # fmt: skip
    assert [way.pays_after for way in (fem, own, operator)] == [None, 1, 1]
    assert surrogate.seconds is None
    assert surrogate.basis == "not measured for about 6 variables"


def test_training_pays_after_as_many_optima_as_make_up_for_it():
    fem = Way("fem", "", "", seconds=30.0)
    trained = Way("surrogate", "", "", seconds=10.0, before=100.0)
    assert pays_after(trained, fem) == 6  # 5 optima break even: 5 x 30 = 100 + 5 x 10
    assert pays_after(replace(trained, seconds=30.0), fem) is None
    assert pays_after(replace(trained, before=0.0), fem) == 1


@pytest.mark.parametrize(
    ("times", "no_operator", "tolerance", "chosen"),
    [
        (Times(2e-3, 1e-3, 0.02), "", 5e-3, "fem"),  # nothing saves seconds
        (Times(2.0, 1.0, 0.5), "", 5e-3, "reduced_basis"),
        (Times(200.0, 100.0, 0.5), "", 5e-3, "operator"),
        (Times(200.0, 100.0, 0.5), "none fits", 5e-3, "reduced_basis"),
        (Times(200.0, 100.0, 0.5), "", 1e-7, "fem"),  # the others do not meet the tolerance
    ],
)
def test_the_cheapest_way_that_meets_the_tolerance_is_chosen(known, times, no_operator, tolerance, chosen):
    way, why = choose(ways_of(setup_of(), times, no_operator), tolerance)
    assert way.method == chosen
    assert why.startswith(way.title)


def test_what_is_not_measured_is_not_chosen(monkeypatch):
    monkeypatch.setattr(planning, "expected", lambda method, variables: None)
    ways = ways_of(setup_of(), Times(1e3, 1e3, 1.0), "")
    assert [way.seconds for way in ways] == [None] * 4
    assert choose(ways, 1.0)[0].method == "fem"


def test_a_plan_measures_solve_adjoint_and_operator_here(tmp_path):
    write_tiny_operator(tmp_path / "tiny.safetensors")
    setup = sw.fem(load_study(write_tiny(tmp_path), ["model={operator: tiny.safetensors}"])).setup
    plan = make_plan(setup)
    assert [way.method for way in plan.ways] == METHODS
    assert min(plan.times.solve, plan.times.operator) > 0
    assert plan.operator.operator == "tiny.safetensors"
    assert plan.ways[3].before_solves == 9
    data = json.loads(json.dumps(plan.as_data()))
    assert data["ways"][0]["solves"] == 2 * expected("fem", 6).solves
    assert data["operator"] == {"operator": "tiny.safetensors", "gradient": "lagrangian"}


def test_a_choice_is_kept_in_the_folder_and_stands_in_its_resolved_study(tmp_path, monkeypatch):
    study = load_study(write_tiny(tmp_path), ["model=auto", "optimizer.starts=1"])
    said = []
    certificate = sw.run(study, tmp_path / "out", report=lambda *entry: said.append(entry))
    assert certificate.accepted, certificate.reasons
    chosen = json.loads((tmp_path / "out" / CHOICE).read_text())
    assert said[0] == ("model", 1, 1, chosen["why"])
    resolved = load_study(tmp_path / "out" / "resolved.yaml")
    operator = chosen["operator"] and PretrainedOperator(**chosen["operator"])
    assert resolved.model == with_choice(study, chosen["method"], operator).model
    assert not resolved.model.undecided
    monkeypatch.setattr(planning, "make_plan", None)
    assert sw.run(study, tmp_path / "out") == certificate


@pytest.mark.parametrize(
    ("method", "on", "by"),
    [
        ("fem", "fem", "slsqp"),
        ("interpolation", "fem", "trust_region"),
        ("reduced_basis", "fem", "trust_region"),
        ("operator", "surrogate", "trust_region"),
        ("surrogate", "surrogate", "trust_region"),
    ],
)
def test_a_choice_sets_model_and_optimizer(method, on, by):
    operator = setup_of("model={operator: poisson_2d}").study.model.operator
    study = with_choice(setup_of("model=auto").study, method, operator).model
    assert (study.optimizer.on, study.optimizer.method) == (on, by)
    assert study.operator == (operator if method == "operator" else None)
    assert not study.undecided
