"""The Tensor-GaLore benchmark: what is counted, what is chosen by what, and that finished runs are taken over."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from benchmarks import galore_tables, galore_training, tensor_galore
from benchmarks.fourier_network import FourierNetwork
from benchmarks.galore_code import ROOT, optimizer_code
from benchmarks.galore_contenders import DECISIVE, INSTALL, Setting, contenders, torchs_adamw
from benchmarks.galore_training import Budget, finished_run, held_bytes, problem_data, run

TINY = Budget(train=6, validation=4, test=4, width=8, modes=4, layers=2, batch=3, trial_steps=2, steps=3, looks=3)
KEYS = {
    "problem", "resolution", "optimizer", "rank", "parameters", "optimizer_bytes", "saving", "test_error_mean",
    "test_error_spread", "step_seconds", "refresh_share",
}  # fmt: skip
OURS = [c for c in contenders() if c.ours]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("galore")


@pytest.fixture(scope="module")
def data(folder):
    return problem_data("darcy", TINY, folder, "cpu")


def stepped(contender):
    torch.manual_seed(0)
    network = FourierNetwork(16, 4, 2)
    optimizer = contender.build(network, contender.settings[0])
    network(torch.randn(2, 12, 12)).square().mean().backward()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer.step()
    moved = all(not torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    return network, held_bytes(optimizer), moved


@pytest.mark.parametrize("contender", [*contenders(), torchs_adamw()], ids=lambda c: c.label)
def test_every_contender_moves_all_weights_and_its_bytes_are_counted(contender):
    if "neuraloperator" in contender.name:
        pytest.importorskip("neuralop", reason=INSTALL)
    network, count, moved = stepped(contender)
    assert moved
    spectral = sum(p.numel() for p in network.spectral_weights())
    other = 8 * sum(p.numel() for p in network.other_parameters())
    if contender.name == "AdamW of torch":
        assert 0 <= count - 16 * spectral - other < 200  # and counters of steps
    elif contender.rank is None and "8 bits" not in contender.name:
        assert 0 <= count - 12 * spectral - other < 400
    else:
        assert count < 0.9 * stepped(contenders()[0])[1]


def test_a_run_is_its_seed(data):
    first, second = (run(OURS[3], Setting(8e-3), 1, 3, TINY, data) for _ in range(2))
    assert first["test_error"] == second["test_error"]
    assert first["test_error"] != run(OURS[3], Setting(8e-3), 2, 3, TINY, data)["test_error"]
    assert [look["step"] for look in first["looks"]] == [1, 2, 3]
    assert first["looks"][-1]["error"] == first["validation_error"]


def test_finished_runs_are_taken_over(data, tmp_path, monkeypatch):
    first = finished_run("darcy", OURS[0], Setting(8e-3), 0, 2, TINY, data, tmp_path)
    monkeypatch.setattr(galore_training, "run", lambda *_: pytest.fail("trained again"))
    assert finished_run("darcy", OURS[0], Setting(8e-3), 0, 2, TINY, data, tmp_path) == first
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        finished_run("darcy", OURS[0], Setting(4e-3), 0, 2, TINY, data, tmp_path)


@pytest.mark.parametrize(
    "file", ["surrogate/optim/tensor_galore.py", "surrogate/optim/update.py", "benchmarks/galore_outliers.py"]
)
def test_a_change_of_the_optimizer_is_a_new_code(file, tmp_path):
    for room in ("surrogate", "benchmarks"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("results", "__pycache__"))
    assert optimizer_code(tmp_path) == optimizer_code()
    (tmp_path / "surrogate" / "training" / "loop.py").write_text("")
    assert optimizer_code(tmp_path) == optimizer_code()
    (tmp_path / file).write_text("")
    assert optimizer_code(tmp_path) != optimizer_code()


def test_finished_runs_of_other_code_are_made_anew_but_not_those_of_others_optimizers(data, tmp_path, monkeypatch):
    theirs = replace(torchs_adamw(), settings=OURS[0].settings)
    for contender in (OURS[0], theirs):
        finished_run("darcy", contender, Setting(8e-3), 0, 2, TINY, data, tmp_path)
    monkeypatch.setattr(galore_training, "optimizer_code", lambda: "changed")
    monkeypatch.setattr(galore_training, "run", lambda *_: pytest.fail("trained again"))
    finished_run("darcy", theirs, Setting(8e-3), 0, 2, TINY, data, tmp_path)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        finished_run("darcy", OURS[0], Setting(8e-3), 0, 2, TINY, data, tmp_path)


def test_rows_hold_what_the_tables_need(data, tmp_path):
    times = galore_training.step_seconds((*OURS[:4], torchs_adamw()), TINY, data, rounds=2)
    rows = tensor_galore.compare("darcy", OURS[:4], times, TINY, data, tmp_path)
    assert all(row.keys() >= KEYS for row in rows)
    assert rows[0]["saving"] == 0.0
    assert all(0 < row["test_error_mean"] < 2 for row in rows)
    assert all(row["step_to_torch"] * times[-1]["step_seconds"] == pytest.approx(row["step_seconds"]) for row in rows)
    text = list(galore_tables.table(rows))
    assert len(text) == 2 + len(rows)
    longer = tensor_galore.twice_as_long(rows[0], OURS[0], TINY, data, tmp_path)
    assert longer["to_once"] == pytest.approx(
        sum(a / b for a, b in zip(longer["test_errors"], rows[0]["test_errors"], strict=True)) / 3
    )
    assert longer["test_errors"] != rows[0]["test_errors"]
    assert galore_tables.twice(longer).startswith("AdamW comes to")


def test_ratios_and_targets_are_of_each_seed(data, monkeypatch):
    """A seed that is hard for all does not count as a difference, and AdamW reaches its own targets."""
    errors = {"AdamW": (0.1, 0.2, 0.4), "AdamW, 8 bits": (0.11, 0.2, 0.38)}

    def fake(problem, contender, *_):
        own = errors[contender.name]
        looks = [[{"seconds": 1.0, "error": 1.0}, {"seconds": 2.0, "error": error}] for error in own]
        return {"test_errors": list(own), "optimizer_bytes": 1, "looks": looks}

    monkeypatch.setattr(tensor_galore, "row_of", fake)
    dense, eight = tensor_galore.compare("darcy", OURS[:2], [{"step_seconds": 1.0}] * 3, TINY, data, None)
    assert eight["error_to_adamw"] == pytest.approx((1.1 + 1.0 + 0.95) / 3)
    assert eight["error_to_adamw_least"] == pytest.approx(0.95)
    assert eight["error_to_adamw_most"] == pytest.approx(1.1)
    assert dense["target_errors"] == pytest.approx([0.11, 0.22, 0.44])
    assert dense["seconds_to_target"] == 2.0


def test_settings_are_chosen_by_validation_and_judged_by_test(monkeypatch):
    """The setting that would do best on the test data is not the one that is taken."""

    def fake(problem, contender, setting, seed, steps, *_):
        best_on_test = setting == contender.settings[0]
        return {
            "validation_error": 0.3 if best_on_test else 0.2 + setting.rate,
            "test_error": 0.1 if best_on_test else 0.5 + 0.01 * seed,
            "train_error": 0.0, "finite": True, "parameters": 1, "optimizer_bytes": 1, "refresh_share": 0.0,
            "looks": [{"step": 1, "seconds": 1.0, "error": 0.4}, {"step": 2, "seconds": 2.0, "error": 0.2}],
        }  # fmt: skip

    monkeypatch.setattr(tensor_galore, "finished_run", fake)
    row = tensor_galore.row_of("darcy", OURS[0], TINY, {}, None)
    assert row["learning_rate"] == OURS[0].settings[1].rate
    assert row["test_error_mean"] == pytest.approx(0.51)
    assert row["test_error_spread"] == pytest.approx(0.02)
    assert tensor_galore.seconds_to([0.25] * 3, row["looks"]) == 2.0
    assert tensor_galore.seconds_to([0.25, 0.1, 0.25], row["looks"]) is None


def test_all_contenders_have_as_many_trials():
    assert {len(contender.settings) for contender in contenders()} == {4}


def test_the_rows_that_decide_are_rows():
    assert set(DECISIVE) <= {contender.label for contender in contenders()}
