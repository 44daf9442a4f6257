"""Promise: the table of studies compares like with like, keeps what is measured, and takes only what is asked for."""

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks import studies
from studies.models import FemModel
from tests.studies.study_cases import setup_of


def test_finite_differences_are_the_adjoint_gradient_at_the_cost_of_a_solve_per_parameter():
    setup = setup_of()
    model, theta = studies.FiniteDifferences(setup), setup.initial.numpy()[None] + 0.01
    values, gradients = model.evaluate(theta)
    exact, adjoint = FemModel(setup).evaluate(theta)
    np.testing.assert_allclose(values, exact, rtol=1e-12)
    np.testing.assert_allclose(gradients, adjoint, rtol=1e-4)
    assert model.fem.solves == Counter(forward=8, adjoint=0)


def test_a_gap_is_positive_where_the_method_is_worse_whatever_the_sense():
    alone = {"objectives": [2.0, 4.0]}
    for sign, objectives in ((1, [2.02, 4.0]), (-1, [1.98, 4.0])):
        cell = {"sign": sign, "objectives": objectives, "forward": 3, "adjoint": 2, "seconds": 1.0}
        line = studies.row("any", "managed", cell | {"training_seconds": 9.0}, alone)
        assert line.gap_to_fem_alone == pytest.approx(0.01)
        assert (line.fem_solves, line.adjoint_solves) == (3, 2)


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
    monkeypatch.setattr(studies, "build_setup", None)
    assert studies.measure("torsion", "managed", lambda *progress: None)["objectives"] == [1.5]
    file.write_text(json.dumps({"key": "of another study", "objectives": [1.5]}))
    assert studies.kept("torsion", "managed")[2] is None
