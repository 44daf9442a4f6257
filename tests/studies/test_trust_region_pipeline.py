"""Promise: a managed run leaves a full history, tunes its surrogate without forgetting, and certifies the result."""

import csv
import json
import math
import shutil

import pytest
import torch

from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.surrogates import open_surrogate, split_held_out
from shapewright.studies.run import engines, infill, search
from shapewright.studies.run import validate as certifying
from shapewright.studies.run.infill import INFILL_WEIGHTS, joined, regressed
from shapewright.studies.run.pipeline import sample, validate
from shapewright.surrogate.models.model_card import Accuracy
from shapewright.surrogate.training.accuracy import measure
from shapewright.surrogate.training.dataset import load_dataset
from tests.studies.first_keys import design_keys
from tests.studies.study_cases import InlineExecutor, setup_of, tiny_run

MANAGED = ("optimizer.method=trust_region", "optimizer.kkt_tolerance=1e-3", "optimizer.starts=1")
TUNED = (*MANAGED, "infill={steps: 10, share: 0.5, margin: 10.0, learning_rate: 2e-3}")


@pytest.fixture(scope="module", autouse=True)
def inline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "local_executor", InlineExecutor)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("managed")
    return validate(tiny_run(folder, *TUNED)), folder


@pytest.fixture(scope="module")
def optimum(finished):
    return json.loads((finished[1] / "optimum.json").read_text())


def test_the_history_records_ratio_radius_acceptance_and_solves(finished, optimum):
    with (finished[1] / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if int(row["start"]) == optimum["best_start"]]
    assert [int(row["forward"]) for row in own] == sorted(int(row["forward"]) for row in own)
    assert int(own[-1]["forward"]) == optimum["fem_solves"]["forward"]
    assert int(own[-1]["adjoint"]) == optimum["fem_solves"]["adjoint"]
    assert math.isnan(float(own[0]["ratio"]))
    assert all(float(row["ratio"]) > 0 for row in own[1:] if row["accepted"] == "1")
    assert all(float(row["radius"]) > 0 for row in own)
    assert float(own[-1]["kkt_residual"]) <= 1e-3
    assert all(math.isnan(float(row["ratio"])) for row in rows if row not in own)
    assert [entry["by"] for entry in optimum["starts"]] == ["surrogate", "fem"]


def test_the_optimum_is_finite_elements_own(finished, optimum):
    theta = torch.tensor(list(optimum["parameters"].values()), dtype=torch.float64)
    value = FemModel(setup_of()).evaluate(theta.numpy()[None])[0][0, 0]
    assert optimum["objective"] == pytest.approx(value, rel=1e-9)
    assert finished[0]["kkt_residual"] <= 1.1e-3
    assert finished[0]["exit"]["reason"] == "STATIONARY"


def test_a_design_that_finite_elements_prove_is_accepted_though_the_surrogate_is_poor(finished):
    certificate, _ = finished
    model = certificate["model"]
    assert certificate["accepted"], certificate["reasons"]
    assert certificate["design"]["accepted"]
    assert (model["decisive"], model["accepted"]) == (False, False)
    assert model["verdict"].startswith("The surrogate that searched is poor at the optimum (")
    assert model["verdict"] in certificate["warnings"]
    assert certificate["reasons"] == ["all checks passed"]


def test_a_second_run_does_nothing_again(finished, optimum, monkeypatch):
    for module, name in ((search, "search_by_trust_region"), (infill, "tune"), (certifying, "certify")):
        monkeypatch.setattr(module, name, None)
    assert validate(tiny_run(finished[1], *TUNED)) == finished[0]


def test_stages_are_found_again_by_the_keys_of_the_first_release(finished):
    """Those of a change that is meant belong into :mod:`first_keys`, with the folders that it makes run anew."""
    certificate, folder = finished
    setup = setup_of(*TUNED)
    hashes = tuple(load_dataset(folder / f"{name}.npz").hash for name in ("designs", "held_out"))
    keys = design_keys(folder, setup.shape_map.mesh, hashes, setup.initial, certificate["infill"])
    assert (folder / keys.pop("samples")).is_dir()
    assert (folder / keys.pop("solutions")).is_file()
    records = {path.stem: json.loads(path.read_text()) for path in (folder / ".stages").glob("*.json")}
    assert {stage: record["key"] for stage, record in records.items()} == keys


def test_what_was_solved_joins_the_training_set_but_for_the_optimum(finished, optimum):
    solved = [load_dataset(finished[1] / name) for name in optimum["solved"]]
    assert len(solved) == optimum["fem_solves"]["forward"]
    assert all(len(entry) == 1 and entry.tangents.shape[1] == 1 for entry in solved)
    assert optimum["fem_solves"]["tangent"] == len(solved)
    tuned = finished[0]["infill"]
    assert tuned["designs"] == len(solved) - 1
    together = joined([sample(tiny_run(finished[1], *TUNED))[0], *solved])
    assert len(together) == 6 + len(solved)


def test_the_tuned_surrogate_is_nearer_to_the_truth_at_the_optimum(finished, optimum):
    tuned = finished[0]["infill"]
    assert tuned["kept"] is True
    assert tuned["optimum"]["after"]["gradient"] < tuned["optimum"]["before"]["gradient"]
    surrogate, card = open_surrogate(setup_of(), finished[1] / INFILL_WEIGHTS)
    assert card.training["infill"]["designs"] == tuned["designs"]
    assert card.held_out.gradient == pytest.approx(tuned["held_out"]["after"]["gradient"])
    again = measure(surrogate, split_held_out(load_dataset(finished[1] / "held_out.npz"))[1])
    assert again.gradient == pytest.approx(card.held_out.gradient, rel=1e-3)  # single against double precision
    before = tuned["optimum"]["before"]["gradient"]  # of the surrogate that searched, which is the one that is judged
    assert finished[0]["gradient"]["relative_error"] == pytest.approx(before, rel=1e-2)


@pytest.mark.parametrize(("growth", "there", "kept"), [(1.01, 0.5, True), (1.03, 0.5, False), (0.5, 1.01, False)])
def test_weights_are_kept_that_are_better_at_the_optimum_and_forget_nothing(
    finished, tmp_path, monkeypatch, growth, there, kept
):
    """Errors are given, by which factor tuning changes them: what so short a training does depends on the processor."""
    folder = tmp_path / "out"
    shutil.copytree(finished[1], folder)
    (folder / INFILL_WEIGHTS).unlink(missing_ok=True)
    errors = iter([Accuracy({"u": 0.1 * f}, 0.1, 0.2 * f, 0.99, 2) for f in (1.0, 1.0, growth, there)])
    monkeypatch.setattr(infill, "measure", lambda surrogate, data: next(errors))
    tuned = validate(tiny_run(folder, *MANAGED, "infill={steps: 1, margin: 0.02}"))["infill"]
    assert tuned["kept"] is kept
    assert (folder / INFILL_WEIGHTS).exists() is kept
    assert tuned["held_out"]["after"]["field"]["u"] == pytest.approx(0.1 * growth)


def test_infill_can_be_asked_for_after_the_optimum_is_found(tmp_path):
    """Its tangents are then recorded at the centres anew, and what infill finds is in the certificate."""
    assert validate(tiny_run(tmp_path, *MANAGED))["infill"] is None
    assert validate(tiny_run(tmp_path, *TUNED))["infill"]["designs"] > 0
    axes = validate(tiny_run(tmp_path, *TUNED, "sampling.directions=axes"))
    assert axes["infill"]["designs"] > 0
    assert len(list((tmp_path / "centres").iterdir())) == 3


@pytest.mark.parametrize(
    ("field", "objective", "gradient", "found"),
    [(0.101, 0.101, 0.201, False), (0.103, 0.1, 0.2, True), (0.05, 0.103, 0.2, True), (0.05, 0.1, 0.205, True)],
)
def test_forgetting_is_growth_beyond_the_margin(field, objective, gradient, found):
    before = Accuracy({"u": 0.10}, 0.1, 0.20, 0.99, 8)
    assert regressed(before, Accuracy({"u": field}, objective, gradient, 0.99, 8), 0.02) is found


def test_infill_of_weights_that_came_without_their_data_samples_them(finished, tmp_path):
    weights = f"surrogate.weights={finished[1] / 'surrogate.safetensors'}"
    assert validate(tiny_run(tmp_path, weights, *TUNED))["infill"]["designs"] > 0
    assert load_dataset(tmp_path / "designs.npz").hash == load_dataset(finished[1] / "designs.npz").hash


def test_the_certificate_says_how_familiar_the_optimum_is(finished):
    known = finished[0]["novelty"]
    assert 0 < known["distance"] < math.inf
    assert known["typical_median"] <= known["typical_95_percent"]
    assert 0 <= known["farther_in_box"] <= 1
    assert known["correlation"] is None  # three are too few for one
