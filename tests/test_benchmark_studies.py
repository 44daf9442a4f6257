"""Promise: the table of studies compares like with like, keeps what is measured, and takes only what is asked for."""

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks import studies, studies_tables
from shapewright.studies.problem.models import FemModel
from shapewright.studies.schema.loader import load_study
from tests.studies.study_cases import setup_of


def test_finite_differences_are_the_adjoint_gradient_at_the_cost_of_a_solve_per_parameter():
    setup = setup_of()
    model, theta = studies.FiniteDifferences(setup), setup.initial.numpy()[None] + 0.01
    values, gradients = model.evaluate(theta)
    exact, adjoint = FemModel(setup).evaluate(theta)
    np.testing.assert_allclose(values, exact, rtol=1e-12)
    np.testing.assert_allclose(gradients, adjoint, rtol=1e-4)
    assert model.fem.solves == Counter(forward=7, adjoint=0)


CELL = {
    "violations": [0.0, 3.0], "progress": [], "forward": 3, "adjoint": 2, "seconds": 1.0, "training_seconds": 9.0,
    "training_solves": 7,
}  # fmt: skip


@pytest.mark.parametrize(("sign", "objectives"), [(1, [2.02, 4.0]), (-1, [1.98, 4.0])])
def test_a_gap_is_positive_where_the_method_is_worse_whatever_the_sense(sign, objectives):
    cell = CELL | {"sign": sign, "objectives": objectives}
    line = studies.row("any", "managed, 20 constraint values", cell, {"objectives": [2.0, 4.0]})
    assert line.gap_to_fem_alone == pytest.approx(0.01)
    assert line.violation == 3.0
    assert (line.fem_solves, line.adjoint_solves, line.training_solves) == (3, 2, 7)


@pytest.mark.parametrize("sign", [1, -1])
def test_near_is_the_first_design_that_is_good_and_feasible(sign):
    progress = [(1, 3.0, 0.0), (4, 2.0, 5.0), (6, 2.0 + 3e-4, 0.0), (9, 2.0 + 1e-4, 0.9), (11, 2.0, 0.0)]
    progress = [(count, sign * value, off) for count, value, off in progress]
    cell = CELL | {"sign": sign, "objectives": [sign * 2.0], "violations": [0.0], "progress": progress}
    alone = {"objectives": [sign * 2.0]}
    assert studies.row("any", "managed", cell, alone).solves_until_near == 9
    assert studies.row("any", "managed, 32 starts", cell, alone).solves_until_near is None
    assert studies.row("any", "managed", cell | {"progress": progress[:3]}, alone).solves_until_near is None


def test_what_is_measured_of_a_search_is_judged_by_finite_elements():
    setup = setup_of("optimizer.starts=1", "optimizer.max_iterations=3")
    found = studies.METHODS["FEM alone"](setup, None)
    assert found.progress[-1][0] == found.solves["forward"]
    assert found.progress[-1][1] == pytest.approx(found.objectives[0], rel=1e-9)
    assert found.progress[-1][2] == pytest.approx(found.violations[0], rel=1e-6, abs=1e-9)
    slower = studies.METHODS["FEM, finite differences"](setup, None)
    assert slower.progress[-1][0] == slower.solves["forward"] == 7 * found.solves["forward"]


def test_a_sweep_is_compared_with_finite_elements_at_the_same_values():
    for method in studies.METHODS:
        assert studies.rival(method) in studies.METHODS
    assert studies.rival("managed, 20 constraint values") == "FEM alone, 20 constraint values"
    assert studies.rival("managed, 32 starts") == "FEM alone"


def test_the_filter_takes_a_study_or_one_of_its_methods():
    assert {study for study, _ in studies.selected(["torsion"])} == {"torsion"}
    assert len(studies.selected(["torsion"])) == len(studies.METHODS)
    assert studies.selected(["torsion/managed"]) == [("torsion", "managed")]
    assert studies.selected(["nothing"]) == []
    assert {study for study, _ in studies.selected([])} == set(studies.shipped())


def test_a_sweep_changes_the_first_equality_and_nothing_else():
    setup = setup_of()
    swept = list(studies._swept(setup))
    targets = [entry.constraints[0].target for entry in swept]
    np.testing.assert_allclose(targets, np.linspace(2.7, 3.3, 20))
    assert all(entry.constraints[1:] == setup.constraints[1:] for entry in swept)


def test_a_measured_cell_is_kept_until_the_study_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "CELLS", tmp_path)
    file, key, cell = studies.kept("torsion", "managed")
    assert cell is None
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"key": key, "objectives": [1.5]}))
    with monkeypatch.context() as unbuilt:
        unbuilt.setattr(studies, "build_setup", None)
        assert studies.measure("torsion", "managed", lambda *progress: None)["objectives"] == [1.5]
    for override in ("optimizer.radius=0.2", "constraints.0.equals=3.0", "optimizer.max_iterations=7"):
        with monkeypatch.context() as changed:
            changed.setattr(studies, "load_study", lambda path, o=override: load_study(path, (o,)))
            assert studies.kept("torsion", "managed")[2] is None
    assert studies.kept("torsion", "managed")[2] is not None


def test_cells_of_finite_elements_outlive_new_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "CELLS", tmp_path)
    before = {method: studies.kept("torsion", method)[1] for method in studies.METHODS}
    monkeypatch.setattr(studies, "file_key", lambda path: "other weights")
    for method, key in before.items():
        assert (studies.kept("torsion", method)[1] == key) is not studies.uses_surrogate(method)


def test_without_a_surrogate_the_trust_region_is_left_to_finite_elements():
    setup = setup_of("optimizer.starts=1", "optimizer.kkt_tolerance=1e-2")
    found = studies.METHODS["trust region without surrogate"](setup, None)
    alone = studies.METHODS["FEM alone"](setup, None)
    assert found.solves["forward"] > 1
    assert found.objectives[0] == pytest.approx(alone.objectives[0], rel=1e-4)


def test_the_table_says_what_was_reached():
    cell = CELL | {"sign": 1, "violations": [0.5]}
    alone = cell | {"objectives": [2.0], "forward": 12, "progress": [(10, 2.0, 0.0)]}
    better = cell | {"objectives": [2.0001], "forward": 3, "progress": [(2, 2.0001, 0.0)]}
    worse = cell | {"objectives": [2.1], "forward": 9, "violations": [4.0]}
    cells = {"FEM alone": alone, "managed": better, "trust region without surrogate": worse, "surrogate only": worse}
    rows = [studies.row("any", method, entry, alone) for method, entry in cells.items()]
    line = list(studies_tables.reached(rows))[-1]
    assert line == "| any | +0.0050% | 25% (20%) | 75%, gap +5.0000% | +5.000% | 4 |"
